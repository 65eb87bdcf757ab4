from dataclasses import dataclass, field

import torch
from torch import Tensor

from research.downstream import Answers, Features, Probe
from research.errors import HarkError
from research.nn.grid import Grid, vocabulary
from research.registry import register


def metrics(counts: Tensor) -> dict[str, Tensor]:
    """Co-occurrences (R, phones, clusters) -> PNMI and purities, each (R,) (HuBERT, arXiv 2106.07447, section 4)."""
    joint = counts / counts.sum((1, 2), keepdim=True)  # (R, P, C)
    phone, cluster = joint.sum(2), joint.sum(1)  # (R, P), (R, C)
    entropy = -torch.xlogy(phone, phone).sum(1)
    information = torch.xlogy(joint, joint).sum((1, 2)) + entropy - torch.xlogy(cluster, cluster).sum(1)
    return {
        "pnmi": information / entropy,
        "phone_purity": joint.amax(1).sum(1),
        "cluster_purity": joint.amax(2).sum(1),
    }


@register("pnmi")
class PNMI(Probe):
    """K-means clusters of frames against phones: I(phone; cluster) / H(phone), phone purity and cluster purity.

    Every cell of the grid takes the cluster of the frame that covers it. Clusters of a frame that covers several
    cells are repeated, and know nothing of the cell's position: wherever the phone changes inside such a frame, at
    most one side can be right. That bounds the score the lower the longer the frames are, so compare only
    representations of one period. The estimate is biased upwards, as mutual information of finite samples is.
    """

    @dataclass(kw_only=True)
    class Config(Probe.Config):
        grid: Grid = field(default_factory=Grid)
        clusters: int = 100  # of k-means
        batch: int = 1024  # frames

    def __init__(self, cfg: Config) -> None:
        super().__init__()
        self.cfg = cfg

    def run(self, train: Features, dev: Features, test: Features, seed: int) -> tuple[Answers, Answers]:
        from sklearn.cluster import MiniBatchKMeans  # noqa: PLC0415  half a second to import

        cfg, known = self.cfg, vocabulary(train, dev, test)
        x = torch.cat([x for x, _ in cfg.grid.align(train, known)])  # (K, D)
        if len(x) < cfg.clusters:
            told = f"there are only {len(x)} frames, of {len(train.frames)} training utterances"
            raise HarkError(f"pnmi: {cfg.clusters} clusters: {told}; give more, with --sentences")
        kmeans = MiniBatchKMeans(cfg.clusters, batch_size=cfg.batch, n_init=1, random_state=seed).fit(
            x.numpy()
        )
        centres = torch.from_numpy(kmeans.cluster_centers_)  # (clusters, D)
        return self.answer(dev, known, centres), self.answer(test, known, centres)

    def answer(self, features: Features, known: dict[str, int], centres: Tensor) -> Answers:
        cfg, counts = self.cfg, []
        for u, y in cfg.grid.align(features, known):  # (K, D), (K, P)
            cluster = torch.cdist(u, centres).argmin(1, keepdim=True)  # (K, 1)
            pairs = (y * cfg.clusters + cluster)[y >= 0]
            table = torch.bincount(pairs, minlength=len(known) * cfg.clusters)
            counts.append(table.view(len(known), cfg.clusters))
        return Answers(torch.stack(counts).double(), metrics)
