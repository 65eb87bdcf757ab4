"""What a run is going to hear, before it starts."""

from dataclasses import dataclass

import numpy as np
from rich.table import Table

from research.data.manifest import Manifest
from research.data.plan import Plan


@dataclass(frozen=True)
class Summary:
    utterances: int
    hours: float
    shortest: float  # s
    longest: float  # s
    left_out: dict[str, int]  # reason -> utterances
    resampled: dict[int, int]  # rate in Hz -> utterances
    averaged: int  # utterances of several channels
    unknown: int  # utterances whose header is not read or cannot be
    batches: int  # per epoch
    buckets: int
    padding: float  # share of the batched audio

    def table(self) -> Table:
        """For the console: one line per fact, none for what did not happen."""
        facts = {
            "utterances": f"{self.utterances:,}",
            "hours": f"{self.hours:,.2f}",
            "durations": f"{self.shortest:.2f} to {self.longest:.2f} s",
            "batches per epoch": f"{self.batches:,} in {self.buckets} buckets",
            "padding": f"{self.padding:.1%}",
        }
        facts |= {f"left out: {reason}": f"{count:,}" for reason, count in self.left_out.items()}
        facts |= {f"resampled from {rate:,} Hz": f"{count:,}" for rate, count in self.resampled.items()}
        facts |= {"averaged to mono": f"{self.averaged:,}"} if self.averaged else {}
        facts |= {"header unknown": f"{self.unknown:,}"} if self.unknown else {}
        table = Table("data", "", show_header=False)
        for name, value in facts.items():
            table.add_row(name, value)
        return table


def summarize(manifest: Manifest, plan: Plan, sample_rate: int) -> Summary:
    rows, durations = manifest.rows, manifest.durations
    values, counts = np.unique(rows["rate"], return_counts=True)
    rates = dict(zip(values.tolist(), counts.tolist(), strict=True))
    unknown = rates.pop(0, 0)
    rates.pop(sample_rate, 0)
    return Summary(
        utterances=len(manifest),
        hours=float(durations.sum()) / 3600,
        shortest=float(durations.min()),
        longest=float(durations.max()),
        left_out=manifest.left_out,
        resampled=rates,
        averaged=int((rows["channels"] > 1).sum()),
        unknown=unknown,
        batches=plan.per_epoch,
        buckets=len(plan.bounds),
        padding=plan.padding(),
    )
