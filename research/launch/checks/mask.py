"""Check that batches have targets."""

from bisect import bisect_left

import numpy as np
import torch
from numpy.typing import NDArray

from research.contracts import Batch, Loss, Objective, Seq
from research.launch.checks.job import Job, Said, objective_of, ok, refuse, warn
from research.launch.checks.plan import plan_of
from research.launch.paper import META, on_paper
from research.training.given import stand_in
from research.training.seeds import seed_all

EMPTY_REFUSE = 0.1  # share of batches without a target: each is a micro-batch that teaches nothing


def mask(job: Job) -> Said:
    """Count the targets that the objective finds in batches of the plan.

    The longer its utterances, the more a batch has, so that bisection tells how many batches have none.
    """
    objective, plan, rate = job.get(objective_of), job.get(plan_of), job.cfg.data.sample_rate
    if "text" in objective.wants:
        return ok("targets are what the texts say")
    members, _ = plan.shuffled(0)  # (U,)
    longest = plan.longest(members)  # (K,) s
    order = np.argsort(longest, kind="stable")  # (K,) batches from short to long

    def found(place: int) -> int:
        durations = plan.durations[plan.batch(members, order[place])]  # (B,) s
        with torch.random.fork_rng(devices=[]), on_paper(cuda=False, fused=True):
            seed_all(job.cfg.run.seed, place)
            return targets(objective, np.round(durations * rate).astype(np.int64))

    fewest = found(0)
    empty = 0 if fewest else bisect_left(range(len(order)), 1, key=lambda place: min(1, found(place)))
    if not empty:
        return ok(f"the batch of the shortest utterances has {fewest:,} targets")
    share, up_to = empty / len(order), longest[order[empty - 1]]
    said = (
        f"{share:.1%} of the batches, of utterances up to {up_to:.2f} s, have no masked target; "
        "raise data.min_seconds or lower masking.length"
    )
    return refuse(said) if share > EMPTY_REFUSE else warn(said)


@torch.no_grad()
def targets(objective: Objective, lengths: NDArray[np.int64]) -> int:
    """Count the targets of a batch of these lengths, (B,) samples. Masks lie on the host, and so are real."""
    audio = torch.empty(len(lengths), int(lengths.max()), device=META)  # (B, N)
    batch = stand_in(Batch.clean(Seq(audio, torch.from_numpy(lengths))), objective)
    loss: Loss = objective(batch)
    return loss.count
