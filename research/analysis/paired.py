"""What differences between paired runs, one per seed, say of their mean.

A seed is the unit: pretrainings of one seed share its order of data and, where shapes agree, its first weights, so the
pairs that one seed gives are averaged before anything is tested, however many configurations they are of.

Coverage of 95% intervals, simulated 2,000 times each (with normal, log-normal, t3 distributed differences):

    seeds                        3                5                10               20
    Student's t                  .95  .83  .96    .95  .82  .97    .95  .85  .95    .94  .87  .96
    studentised bootstrap        1.0  1.0  1.0    .94  .89  .96    .95  .91  .92    .94  .93  .92
    BCa bootstrap                .73  .62  .70    .83  .74  .83    .90  .83  .86    .92  .89  .87
    percentile bootstrap         .76  .64  .74    .83  .71  .86    .90  .81  .88    .92  .86  .91

So a mean of fewer than 20 seeds gets Student's t, and one of 20 or more the studentised bootstrap, which holds where
differences are skewed. Where a factor does nothing, differences are symmetric, and both are exact enough.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from research.analysis.power import SEEDS

MANY = 20  # seeds from which the bootstrap is used
DRAWS = 9_999

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Paired:
    """The mean difference, its interval and the p-value of there being none; NaN with under 3 seeds, or unknown ones."""

    seeds: int
    difference: float
    spread: float  # standard deviation of the differences between seeds
    low: float
    high: float
    p: float

    @property
    def size(self) -> float:
        """Hedges' g_z: the mean in standard deviations of the differences, without the bias of few seeds."""
        from scipy.special import gammaln  # noqa: PLC0415  slow to import

        free = self.seeds - 1
        if self.seeds < SEEDS or self.difference == 0:
            return 0.0 if self.seeds >= SEEDS else float("nan")
        unbiased = np.exp(gammaln(free / 2) - gammaln((free - 1) / 2)) / (free / 2) ** 0.5
        with np.errstate(divide="ignore"):
            return float(unbiased * np.float64(self.difference) / self.spread)


def paired(differences: Floats, level: float = 0.95) -> Paired:
    """Test one difference per seed (n,): Student's t with fewer than 20, else the studentised bootstrap."""
    seeds = len(differences)
    mean = float(differences.mean()) if seeds else float("nan")
    if seeds < SEEDS or not np.isfinite(differences).all():
        return Paired(seeds, mean, *[float("nan")] * 4)
    spread = float(differences.std(ddof=1))
    if spread == 0:  # runs that differ in nothing, or in something that no seed moves
        return Paired(seeds, mean, spread, mean, mean, float(mean == 0))
    low, high, p = (students if seeds < MANY else bootstrapped)(differences, level)
    return Paired(seeds, mean, spread, float(low), float(high), float(p))


def students(differences: Floats, level: float = 0.95) -> tuple[Floats, Floats, Floats]:
    """Student's t interval (low, high) and two-sided p-value of each mean: (..., n) -> 3 x (...)."""
    from scipy.stats import t  # noqa: PLC0415  slow to import

    seeds = differences.shape[-1]
    mean = differences.mean(-1)
    error = differences.std(-1, ddof=1) / seeds**0.5
    reach = error * t.ppf(0.5 + level / 2, seeds - 1)
    return mean - reach, mean + reach, 2 * t.sf(abs(mean) / error, seeds - 1)


def bootstrapped(differences: Floats, level: float = 0.95) -> tuple[float, float, float]:
    """Studentised bootstrap interval and the p-value that goes with it: (n,) -> low, high, p.

    Efron and Tibshirani 1993, 12.5. The draws are seeded: the same differences give the same interval. Where so many are
    tied that draws hold one value only, which have no t, it is Student's: the others alone would be biased.
    """
    seeds = len(differences)
    mean, error = differences.mean(), differences.std(ddof=1) / seeds**0.5
    drawn = differences[indices(seeds)]  # (R, n)
    errors = drawn.std(1, ddof=1) / seeds**0.5
    if (errors < 1e-9 * error).any():  # rounding leaves them a little
        low, high, p = students(differences, level)
        return float(low), float(high), float(p)
    scaled = (drawn.mean(1) - mean) / errors
    below, above = np.quantile(scaled, (0.5 - level / 2, 0.5 + level / 2))
    seen = mean / error
    tail = min((scaled >= seen).mean(), (scaled <= seen).mean())
    return mean - error * above, mean - error * below, min(1.0, max(2 * tail, 1 / DRAWS))


@lru_cache(maxsize=4)
def indices(seeds: int) -> NDArray[np.int64]:
    return np.random.default_rng(0).integers(0, seeds, (DRAWS, seeds))  # (R, n)
