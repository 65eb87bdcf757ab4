"""Batch sizes of buckets, by whatever measures a step: for real, on paper, or made up. Pure."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

from research.launch.trial import Trial

Measure = Callable[[int, float, int], Trial]  # rows, seconds, steps that are timed -> what they took

TOLERANCE = 0.05  # of the rows that fit: a search ends there
SLACK = 0.02  # of the throughput: what a smaller batch may lose
WIDTH = 0.1  # of a bound: buckets so close are one when their batches are equal


@dataclass(frozen=True)
class Found:
    """What is known of a bucket."""

    bound: float  # s, upper
    largest: int  # rows that fit; 0: not even one does
    curve: list[Trial]  # batches of up to `largest` rows, rising

    @property
    def fitting(self) -> list[Trial]:
        return [trial for trial in self.curve if trial.fits]

    @property
    def chosen(self) -> Trial | None:
        """The batch to train with; None where nothing fits."""
        return choose(self.curve)


def search(bounds: Sequence[float], measure: Measure, *, most: int, repeats: int) -> Iterator[Found]:
    """Find the batch of every bucket, from the longest to the shortest; no batch has more than `most` rows.

    A bucket starts at the audio that fitted into the one before. Its curve never has fewer rows than what was chosen for
    the longer one: these fit as well when they are shorter.
    """
    start = least = 1
    ordered = sorted(bounds, reverse=True)
    for bound, shorter in zip(ordered, [*ordered[1:], ordered[-1]], strict=True):
        rows = largest(lambda rows, bound=bound: measure(rows, bound, 1).fits, start, most)  # type: ignore[misc]
        curve = [measure(n, bound, repeats) for n in candidates(rows, least)]
        while curve and curve[0].rows > 1 and not any(trial.fits for trial in curve):  # it did fit, once
            curve.insert(0, measure(curve[0].rows // 2, bound, repeats))
        found = Found(bound, rows, curve)
        yield found
        start = max(1, int(rows * bound / shorter))
        least = found.chosen.rows if found.chosen else 1


def largest(fits: Callable[[int], bool], start: int, most: int, tolerance: float = TOLERANCE) -> int:
    """Give the most rows that fit, less at most `tolerance` of them; 0 when one row does not.

    From `start`, by steps that double, up until something does not fit or down until something does; then by
    bisection. No batch of 0 rows is tried, and what is given did fit, however the measure wavers.
    """
    good, bad = 0, most + 1
    rows = min(max(start, 1), most)
    step = max(1, int(rows * tolerance))
    while bad - good > max(1.0, tolerance * bad if bad <= most else 1.0):
        if fits(rows):
            good = rows
        else:
            bad = rows
        if good and bad <= most:
            rows = (good + bad) // 2
        else:
            rows = min(good + step, most) if good else max(bad - step, 1)
            step *= 2
    return good


def candidates(largest: int, least: int = 1) -> list[int]:
    """Rows to time: quarters of the largest batch that fits, none of them under `least` unless that does not fit."""
    if largest < 1:
        return []
    least = min(least, largest)
    return sorted({max(least, -(-largest * quarter // 4)) for quarter in (1, 2, 3, 4)})


def choose(curve: Sequence[Trial], slack: float = SLACK) -> Trial | None:
    """Give the smallest batch within `slack` of the best throughput; without times the largest; None if nothing fits.

    Throughput rises with the batch until the device is busy, and then no more. From there on a larger batch buys
    nothing: it costs memory that other jobs or a longer utterance could use, and leaves fewer optimizer steps per hour
    of audio. As a device is busy after about the same amount of audio whatever the length of the rows, this also keeps
    the targets per step of different buckets closer to each other than full memory would.
    """
    fitting = [trial for trial in curve if trial.fits]
    timed = [trial for trial in fitting if trial.time]
    if not timed:
        return max(fitting, key=lambda trial: trial.rows, default=None)
    best = max(map(speed, timed))
    return min((trial for trial in timed if speed(trial) >= (1 - slack) * best), key=lambda trial: trial.rows)


def speed(trial: Trial) -> float:
    """Seconds of audio per second, in one micro-batch on one rank; 0 when it was not timed."""
    return trial.rows * trial.seconds / trial.time if trial.time else 0.0


def take_turns(found: Sequence[Found], fits: Callable[[list[Trial]], bool]) -> list[Found] | None:
    """Give up the largest batches until all of them fit when they take turns; None if even the smallest do not.

    One by one is not enough: a batch leaves memory in pieces that the next, of another length, cannot use.
    """
    taken = list(found)
    while not fits([one.chosen for one in taken if one.chosen]):
        larger = [one.chosen.peak for one in taken if one.chosen and one.chosen != one.fitting[0]]
        if not larger:
            return None
        taken = [under(one, max(larger)) for one in taken]
    return taken


def under(found: Found, cap: int) -> Found:
    """Leave out of the curve what takes `cap` bytes or more, but not its smallest batch."""
    return replace(found, curve=[trial for trial in found.fitting if trial.peak < cap] or found.fitting[:1])


def merge(bounds: Sequence[float], sizes: Sequence[int]) -> tuple[list[float], list[int]]:
    """Make one bucket of neighbours of equal size, where that pads little; the upper bound of the longest stays.

    It pads nothing in batches of one row, and at most `WIDTH` of the rest: more would cost more than it is worth.
    """
    kept = [(bounds[-1], sizes[-1])]
    for bound, size in list(zip(bounds, sizes, strict=True))[-2::-1]:
        top, its = kept[0]
        if size != its or (size > 1 and bound < (1 - WIDTH) * top):
            kept.insert(0, (bound, size))
    return [bound for bound, _ in kept], [size for _, size in kept]
