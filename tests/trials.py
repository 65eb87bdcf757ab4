"""A tiny model to try batches on, the command line of `hark memory` for it, and what was tried."""

import json

TINY = ("encoder=fastconformer_tiny", "quantizer.codes=64", "augmentation=speaker_noise", "run.device=cpu")
HUGE = 10**12


def memory(speech, out, *words):
    """Give the command line: overrides of ours, then those of `words`, then the options of both."""
    options = [word for word in words if "=" not in word]
    overrides = [word for word in words if "=" in word]
    data = (f"data.train=[{speech['train']}]", "data.buckets=2")
    return ["memory", *TINY, *data, *overrides, "--out", str(out), "--repeats", "1", *options]


def lines(out):
    """What the search of this file kept: trials, and batches in turn."""
    return [json.loads(line) for line in out.with_suffix(".trials.jsonl").read_text().splitlines()]


def trials(out):
    return [line for line in lines(out) if "trial" in line]
