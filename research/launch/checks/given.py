"""Check of what lines have to give beside audio."""

import torch

from research.config import Streams
from research.contracts import Batch, Seq
from research.launch.checks.job import Job, Said, objective_of, ok
from research.launch.checks.manifest import manifest_of, sample_of
from research.launch.paper import META, on_paper
from research.nn.labels import aligned
from research.training.given import Given


def given(job: Job) -> Said | None:
    """Read it of the sample; labels have to be as many as the frames that the encoder will give."""
    objective = job.get(objective_of)
    if not objective.wants or isinstance(job.cfg.data, Streams):
        return None
    reads, speech = Given.of(objective), job.get(manifest_of)
    for each in job.get(sample_of):
        samples = round(each.one.duration * job.cfg.data.sample_rate)
        audio = Seq(torch.empty(1, samples, device=META), torch.tensor([samples]))
        batch = Batch.clean(audio, ids=[each.one.id])
        reads.fill(batch, speech, [each.row])
        if "labels" in objective.wants:
            with on_paper(cuda=False, fused=True), torch.no_grad():
                feats = objective.frontend(audio)  # (1, S, F)
            frames = -(-feats.lengths // objective.encoder.stride)  # (1,)
            aligned(batch, frames, int(frames))
    return ok(
        f"{' and '.join(objective.wants)} are there in {len(job.get(sample_of))} lines that were looked at"
    )
