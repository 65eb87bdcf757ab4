"""What both sides of reading do: take batches for some seconds, and tell the rates. Plain Python, for any environment."""

import time
from collections.abc import Iterator


def rates(read: Iterator[tuple[int, int]], workers: int, wanted: float) -> dict[str, float]:
    """Read for `wanted` seconds what comes as utterances and samples at 16 kHz; nothing is read before the first."""
    begin = time.perf_counter()
    next(read)
    first = time.perf_counter() - begin
    for _ in range(workers):  # what was read ahead meanwhile
        next(read)
    utterances, samples, begin = 0, 0, time.perf_counter()
    while (took := time.perf_counter() - begin) < wanted:
        count, size = next(read)
        utterances, samples = utterances + count, samples + size
    return {
        "utterances_per_s": utterances / took,
        "audio_s_per_s": samples / 16_000 / took,
        "first_batch_s": first,
    }
