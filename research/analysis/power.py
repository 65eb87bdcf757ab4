"""What a number of seeds can show: the power of Student's t on one difference per seed, and its two inverses.

Under a true mean difference of `effect` standard deviations (of the differences between seeds) t follows the noncentral
t distribution with `seeds - 1` degrees of freedom, centred at effect * sqrt(seeds). A family of m comparisons is counted
at alpha / m, the strictest step of Holm's correction: the power that is stated is the least that each of them has.
"""

import math
from bisect import bisect_left
from functools import lru_cache

SEEDS = 3  # with fewer, a spread is no more than a guess: nothing is tested
POWER = 0.8
MOST = 100_000  # seeds; stands for more as well
WIDEST = 1000.0  # standard deviations: 3 seeds show as much at alpha = 1e-5


def power(effect: float, seeds: int, alpha: float = 0.05) -> float:
    """Give the chance that a two-sided test at `alpha` shows a true effect (in standard deviations)."""
    from scipy.stats import nct, t  # noqa: PLC0415  slow to import

    limit, centre = t.isf(alpha / 2, seeds - 1), abs(effect) * seeds**0.5
    # both tails by `sf`: the distribution's `cdf` is NaN far out
    return float(nct.sf(limit, seeds - 1, centre) + nct.sf(limit, seeds - 1, -centre))


def detectable(spread: float, seeds: int, alpha: float = 0.05, chance: float = POWER) -> float:
    """Give the smallest difference that this many seeds would show with this chance; NaN with fewer than 3.

    `spread` is the standard deviation of the differences between seeds; the result has its unit.
    """
    return spread * effect(seeds, alpha, chance) if seeds >= SEEDS else math.nan


@lru_cache
def effect(seeds: int, alpha: float, chance: float) -> float:
    """Give the smallest effect (in standard deviations) that has this power."""
    from scipy.optimize import brentq  # noqa: PLC0415  slow to import

    return float(brentq(lambda size: power(size, seeds, alpha) - chance, 0.0, WIDEST))


def needed(difference: float, spread: float, alpha: float = 0.05, chance: float = POWER) -> float:
    """Give the seeds, 3 or more, that would show a true difference with this chance, given the spread between seeds.

    A float, for it is NaN where no number would: there is no difference, or nothing is known of the spread.
    """
    if difference == 0 or not math.isfinite(difference) or math.isnan(spread):
        return math.nan
    if spread == 0:
        return float(SEEDS)
    size = min(abs(difference) / spread, WIDEST)
    return float(SEEDS + bisect_left(range(SEEDS, MOST), chance, key=lambda seeds: power(size, seeds, alpha)))
