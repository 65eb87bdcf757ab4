"""Each of NeMo's pretraining files has an experiment that trains, and is as large as NeMo's model."""

import math
from pathlib import Path

import pytest
import torch

from research import registry
from research.classification.config import Classification
from research.compose import compose_config, compose_root
from research.engine.weights import load_model
from research.model import assemble, check
from research.runs import read_jsonl
from research.training.loop import train

FOLDER = Path(__file__).parents[1] / "sweeps" / "experiment"
EXPERIMENTS = ["fastconformer_w2v_bert", *sorted(path.stem for path in FOLDER.glob("nemo_*.yaml"))]

CONFORMER = ("encoder.dim=32", "encoder.depth=2", "encoder.heads=2", "encoder.channels=8")
CITRINET = (
    "encoder.dim=16", "encoder.repeat=1", "encoder.stages=[[5],[11,13],[13],[25,27]]", "objective.closing.dim=24",
)  # fmt: skip
WAVE = (
    "frontend.channels=16", "encoder.dim=32", "encoder.depth=2", "encoder.heads=2", "encoder.ff_dim=64",
    "encoder.position_kernel=8", "encoder.position_groups=4", "objective.dim=16",
)  # fmt: skip
CODES = ("quantizer.codes=8", "quantizer.dim=16")
TINY = {
    "nemo_nest_fast_conformer": (*CONFORMER, "quantizer.codes=64"),
    "nemo_fast_conformer": CONFORMER,
    "nemo_conformer": (*CONFORMER, *CODES),
    "nemo_wav2vec": (*WAVE, *CODES),
    "nemo_wav2vec_large": (*WAVE, *CODES),
    "nemo_wav2vec_ci": (*WAVE, *CODES),
    "nemo_citrinet_1024": (*CITRINET, *CODES),
    "nemo_citrinet_ci": CITRINET,
    "nemo_contextnet": (*CITRINET, *CODES),
    "fastconformer_w2v_bert": (*CONFORMER, *CODES),
}
SHORT = (
    "data.min_seconds=0.1", "data.batch_seconds=4", "data.buckets=4", "data.workers=0", "data.reader=torch",
    "train.steps=20", "train.log_every=1", "log.wandb=disabled", "run.device=cpu", "schedule.warmup=5",
)  # fmt: skip


def composed(name, *overrides):
    return compose_config(["data.train=[]", f"experiment={name}", *overrides])


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_twenty_real_steps_move_the_weights(name, speech, tmp_path):
    data = (f"data.train=[{speech['train']}]", f"run.folder={tmp_path}")
    it = composed(name, *TINY[name], *SHORT, *data)
    assert train(it) == 0
    (run,) = tmp_path.iterdir()
    losses = [record["loss"] for record in read_jsonl(run / "metrics.jsonl")]
    assert len(losses) == 20
    assert all(map(math.isfinite, losses))
    before, after = assemble(it.config), load_model(run / "checkpoints")
    for key, value in before.named_parameters():
        assert torch.equal(value, after[key]) != value.requires_grad, key


# Sizes of NeMo's models, layer by layer, from the numbers in its files.


def linear(before, after):
    return before * after + after


def norm(dim):
    return 2 * dim


def convolution(before, after, taps, groups=1):
    return before // groups * after * taps + after


def conformer(dim, layers, kernel):
    """With biases everywhere, and relative positions."""
    feed_forward = norm(dim) + linear(dim, 4 * dim) + linear(4 * dim, dim)
    attention = norm(dim) + 4 * linear(dim, dim) + dim * dim + 2 * dim
    depthwise = convolution(dim, dim, kernel, groups=dim)
    module = norm(dim) + linear(dim, 2 * dim) + depthwise + norm(dim) + linear(dim, dim)
    return layers * (2 * feed_forward + attention + module + norm(dim))


def fast_conformer_encoder():
    """dw_striding by 8 with 256 channels, 80 mels: 10 frequencies are left."""
    separable = convolution(256, 256, 9, groups=256) + convolution(256, 256, 1)
    return convolution(1, 256, 9) + 2 * separable + linear(256 * 10, 512) + conformer(512, 17, 9)


def conformer_encoder():
    """striding by 4 with 512 channels."""
    front = convolution(1, 512, 9) + convolution(512, 512, 9) + linear(512 * 20, 512)
    return front + conformer(512, 18, 31)


CITRINET_KERNELS = [11, 13, 15, 17, 19, 21, 13, 15, 17, 19, 21, 23, 25, 25, 27, 29, 31, 33, 35, 37, 39]


def jasper(filters, kernels, last, *, factor, repeat, final, bands=80, first=5):
    """ConvASREncoder: separable, no biases, squeeze-and-excitation by 8, residuals but in the first and last block."""

    def separable(before, after, kernel):
        taps = int(kernel * factor) + (int(kernel * factor) + 1) % 2
        return before * taps + before * after + norm(after)

    def excite(dim):
        return 2 * dim * (dim // 8)

    front = bands * first + bands * filters + norm(filters) + excite(filters)
    residual = filters * filters + norm(filters) + excite(filters)
    blocks = sum(residual + repeat * separable(filters, filters, kernel) for kernel in kernels)
    return front + blocks + separable(filters, final, last) + excite(final)


def reconstruction(before, hidden, after, doublings=0):
    """ConvASRDecoderReconstruction."""
    doubling = convolution(hidden, hidden, 11, groups=hidden) + linear(hidden, hidden) + norm(hidden)
    return linear(before, hidden) + doublings * doubling + linear(hidden, after)


def gumbel(before, codes, dim, groups=2):
    """One table for all groups."""
    return linear(before, groups * codes) + codes * dim // groups


def wav2vec(dim, layers, inner, taps=128):
    """ConvFeatureEncoder with layer norms, Wav2VecTransformerEncoder."""
    waves = 512 * 10 + 4 * 512 * 512 * 3 + 2 * 512 * 512 * 2 + 7 * norm(512)
    front = waves + linear(512, dim) + norm(dim)
    positions = convolution(dim, dim, taps, groups=16) + taps + norm(dim)
    block = 4 * linear(dim, dim) + linear(dim, inner) + linear(inner, dim) + 2 * norm(dim)
    return front + positions + layers * block


def wav2vec_differences(dim, out):
    """From NeMo's size to ours: the norm of the features is before their projection, and both sides are projected."""
    earlier_norm = norm(512) - norm(dim)
    heads = linear(dim, out) + linear(out, out) - reconstruction(dim, dim, out)
    mask_vector = dim
    return earlier_norm + heads + mask_vector


def citrinet_1024_encoder():
    return jasper(1024, CITRINET_KERNELS, 41, factor=0.25, repeat=5, final=1024)


def contextnet_encoder():
    return jasper(1024, [5] * 21, 5, factor=1.0, repeat=5, final=640)


BLANK = linear(512, 90_001) - linear(512, 90_000)  # a class that NeMo's prediction has and never asks for
NEMO = {  # experiment: size of NeMo's model, what ours has more
    "nemo_nest_fast_conformer": (fast_conformer_encoder() + linear(512, 8192), 0),
    "nemo_fast_conformer": (
        fast_conformer_encoder() + reconstruction(512, 256, 256) + linear(8 * 80, 256),
        0,
    ),
    "nemo_conformer": (
        conformer_encoder() + reconstruction(512, 128, 128) + gumbel(4 * 80, 300, 128) + linear(512, 90_001),
        -BLANK,
    ),
    "nemo_wav2vec": (
        wav2vec(768, 12, 3072) + reconstruction(768, 768, 256) + gumbel(768, 320, 256),
        wav2vec_differences(768, 256),
    ),
    "nemo_wav2vec_large": (
        wav2vec(1024, 24, 4096) + reconstruction(1024, 1024, 768) + gumbel(1024, 320, 768),
        wav2vec_differences(1024, 768),
    ),
    "nemo_wav2vec_ci": (
        wav2vec(768, 6, 1536) + reconstruction(768, 768, 256) + gumbel(768, 320, 256),
        wav2vec_differences(768, 256),
    ),
    "nemo_citrinet_1024": (
        citrinet_1024_encoder()
        + reconstruction(1024, 128, 128, doublings=1)
        + gumbel(4 * 80, 300, 128)
        + reconstruction(1024, 128, 90_000, doublings=1),
        0,
    ),
    "nemo_citrinet_ci": (
        jasper(128, CITRINET_KERNELS, 41, factor=0.25, repeat=1, final=256)
        + reconstruction(256, 128, 128, doublings=1)
        + linear(4 * 80, 128),
        0,
    ),
    "nemo_contextnet": (
        contextnet_encoder()
        + reconstruction(640, 128, 128, doublings=1)
        + gumbel(4 * 80, 300, 128)
        + reconstruction(640, 128, 90_000, doublings=1),
        0,
    ),
}


def test_the_formulas_give_the_sizes_that_were_measured():
    assert fast_conformer_encoder() == 108_762_112
    assert conformer_encoder() == 121_435_136
    assert round(linear(512, 8192) / 1e6, 2) == 4.20
    assert (
        round((citrinet_1024_encoder() + linear(1024, 1025)) / 1e6) == 141
    )  # Citrinet-1024 with its CTC head


@pytest.mark.parametrize("name", NEMO)
def test_an_experiment_is_as_large_as_its_model(name):
    theirs, more = NEMO[name]
    model = check(composed(name).config)
    assert sum(p.numel() for p in model.parameters() if p.requires_grad) == theirs + more


def speaker_decoder(dim, attention, vector, classes):
    """SpeakerDecoder: attentive pooling with context, batch norm, an embedding, a linear layer."""
    pool = linear(3 * dim, attention) + norm(attention) + linear(attention, dim)
    return pool + norm(2 * dim) + linear(2 * dim, vector) + linear(vector, classes)


def ecapa():
    """ECAPAEncoder: grouped convolutions between pointwise ones, a batch norm inside squeeze-and-excitation."""
    tdnn = linear(512, 512) + norm(512)
    grouped = convolution(512, 512, 3, groups=8) + norm(512)
    excite = linear(512, 128) + norm(128) + linear(128, 512)
    front, join = convolution(512, 512, 5) + norm(512), linear(1536, 1536) + norm(1536)
    return front + 3 * (2 * tdnn + grouped + excite) + join + speaker_decoder(1536, 128, 192, 7205)


RES2 = convolution(64, 64, 3) + norm(64)  # Res2 leaves the first of 8 groups as it is
SPEAKERS = {  # what is trained on top of the frozen encoder; 17 weights of layers, which NeMo freezes by mistake
    "nemo_nest_ecapa_tdnn_small": (ecapa(), 17 - 3 * (RES2 + norm(128)) - 1536 - 7205),
    "nemo_nest_titanet_small": (
        jasper(256, [7, 11, 15], 1, factor=1.0, repeat=3, final=3072, bands=512, first=3)
        + speaker_decoder(3072, 128, 192, 7205),
        17 - 3072 - 7205,  # no number added to all scores of a softmax, no bias beside a cosine
    ),
}


@pytest.mark.parametrize("name", SPEAKERS)
def test_a_classifier_is_as_large_as_its_model(name):
    theirs, more = SPEAKERS[name]
    cfg = compose_root(Classification, [f"classify={name}"]).config
    with torch.device("meta"):
        layers = registry.build(cfg.aggregation, dim_in=512, layers=len(cfg.upstream.layers))
        head = registry.build(cfg.head, dim_in=layers.dim)
        criterion = registry.build(cfg.criterion, dim_in=head.dim, classes=7205)
    parts = [p for part in (layers, head, criterion) for p in part.parameters()]
    assert sum(p.numel() for p in parts if p.requires_grad) == theirs + more


def test_every_experiment_is_covered():
    assert set(EXPERIMENTS) == set(TINY) == {*NEMO, "fastconformer_w2v_bert"}


@pytest.mark.parametrize(
    ("name", "rate", "dim", "warmup"),
    [
        ("nemo_nest_fast_conformer", 5.0, 512, 25_000),
        ("nemo_fast_conformer", 5.0, 512, 25_000),
        ("nemo_conformer", 5.0, 512, 25_000),
        ("nemo_citrinet_1024", 5.0, 1024, 25_000),
        ("nemo_contextnet", 5.0, 640, 25_000),
        ("nemo_wav2vec", 2.0, 768, 15_000),
        ("nemo_wav2vec_large", 2.0, 1024, 15_000),
        ("nemo_wav2vec_ci", 2.0, 768, 15_000),
    ],
)
def test_the_rate_peaks_where_noam_says_and_no_floor_lifts_it(name, rate, dim, warmup):
    """NeMo clamps wav2vec's rate to a min_lr above the peak as soon as warm-up is over."""
    config = composed(name).config
    steps = config.train.steps
    rates = [config.optimizer.lr * config.schedule(step, steps) for step in range(0, steps, 500)]
    peak = config.optimizer.lr * config.schedule(warmup - 1, steps)
    assert peak == pytest.approx(rate / math.sqrt(dim * warmup), rel=2e-3)
    assert max(rates) <= peak
    assert rates[-1] == pytest.approx(peak * math.sqrt(warmup / steps), rel=1e-2)


def test_the_file_that_is_called_w2v_bert_is_contrast_alone():
    """NeMo's fast-conformer.yaml quantizes nothing and predicts nothing; the working method has a recipe of its own."""
    named, working = (
        check(composed(name).config) for name in ("nemo_fast_conformer", "fastconformer_w2v_bert")
    )
    assert not hasattr(named, "quantizer")
    assert list(named.heads) == ["contrast"]
    assert (working.quantizer.books, working.quantizer.codes) == (2, 300)
    assert working.head.shape == (2, 300)
    assert working.encoder.stride == 8
    assert (working.layer, working.encoder.depth) == (8, 17)
