"""Codebooks that are clusters: moved as their plain versions are, begun anew, read from a file, used by any objective."""

import pytest
import torch

from plugins.quantizers.ema import EMA
from plugins.quantizers.kmeans import KMeans
from research.compose import compose_config
from research.conformance.case import speech
from research.conformance.tools import student, train
from research.errors import HarkError
from research.evaluation.extract_kmeans import Codebook
from research.model import assemble, check
from tests.reference import ema, kmeans

DIM = 6


def frames(steps, size=20, seed=0):
    return torch.randn(steps, size, DIM, generator=torch.Generator().manual_seed(seed))


def step(quantizer, x, number=1):
    """One optimizer step over two micro-batches."""
    half = len(x) // 2
    ids = [quantizer(part).ids for part in (x[:half], x[half:])]
    quantizer.on_step_end(number)
    return torch.cat(ids)[:, 0]


def make(cls, **choices):
    torch.manual_seed(1)
    return cls(cls.Config(**choices), dim_in=DIM)


@pytest.mark.parametrize("cls", [EMA, KMeans])
def test_codes_move_as_in_the_plain_version(cls):
    quantizer, data = make(cls, codes=8), frames(12)
    step(quantizer, data[0])  # where its codes begin
    book, had = list(quantizer.codebook.clone()), [0] * 8
    sums, numbers = [0 * code for code in book], [0.0] * 8
    for x in data[1:]:
        before = quantizer.codebook.clone()
        own = [ema.nearest(frame, before) for frame in x]
        assert step(quantizer, x).tolist() == own
        had = [n + own.count(v) for v, n in enumerate(had)]
        if cls is EMA:
            ema.update(book, sums, numbers, list(x), 0.9)
        else:
            kmeans.update(book, numbers, list(x))
        for v in range(8):
            if had[v] == 0:  # it begins again elsewhere
                assert not torch.equal(quantizer.codebook[v], book[v])
                book[v] = quantizer.codebook[v].clone()
        assert (quantizer.codebook - torch.stack(book)).abs().max() < 1e-5
    assert min(had) > 0


def test_a_code_of_ema_without_inputs_stays_and_is_taken_along_by_the_first_one():
    quantizer = make(EMA, codes=2, decay=0.5)
    quantizer.codebook.copy_(torch.tensor([[0.0] * DIM, [9.0] * DIM]))
    quantizer.weight.fill_(1)
    for _ in range(300):  # its weight falls to almost nothing
        step(quantizer, frames(1)[0])
    assert torch.equal(quantizer.codebook[1], torch.full((DIM,), 9.0))
    step(quantizer, torch.full((1, DIM), 8.0))
    assert torch.allclose(quantizer.codebook[1], torch.full((DIM,), 8.0))


def test_codes_begin_at_different_inputs_of_the_first_step():
    quantizer, x = make(KMeans, codes=15), frames(1)[0]
    step(quantizer, x)
    chosen = torch.cdist(quantizer.codebook, x).argmin(1)
    assert torch.equal(quantizer.codebook, x[chosen])
    assert len(set(chosen.tolist())) == 15


def test_codes_that_find_no_input_begin_in_a_later_step():
    quantizer, data = make(KMeans, codes=24), frames(2)
    step(quantizer, data[0])
    assert (quantizer.weight >= 0).sum() == 20
    step(quantizer, data[1])
    assert (quantizer.weight >= 0).all()


def test_kmeans_fits_as_well_as_lloyds_algorithm_does_from_a_random_start():
    from sklearn.cluster import KMeans as Lloyd

    source, ours, theirs = torch.Generator().manual_seed(0), [], []
    x = torch.randn(12, 1, DIM, generator=source) * 2 + torch.randn(12, 100, DIM, generator=source)
    x = x.flatten(0, 1)[torch.randperm(1200, generator=source)]
    for seed in range(10):
        theirs.append(Lloyd(12, init="random", n_init=1, random_state=seed).fit(x.numpy()).inertia_ / len(x))
        torch.manual_seed(seed)
        quantizer = KMeans(KMeans.Config(codes=12), dim_in=DIM)
        for number in range(40):
            step(quantizer, x[(number % 4) * 300 :][:300])
        ours.append(float((quantizer.eval()(x).vectors - x).square().sum(1).mean()))
    assert sum(ours) < 1.1 * sum(theirs)


@pytest.mark.parametrize("cls", [EMA, KMeans])
def test_refit_forgets_what_was_read_before(cls):
    quantizer, data = make(cls, codes=8), frames(8)
    for x in data[:6]:
        step(quantizer, x)
    quantizer(data[6])
    quantizer.refit()
    quantizer.on_step_end(7)
    moved = data[7] * 0.1 + 50
    for _ in range(3):
        step(quantizer, moved)
    used = quantizer.eval()(moved).ids.unique()
    assert (quantizer.codebook[used] - 50).abs().max() < 1
    assert len(used) > 4


@pytest.mark.parametrize("cls", [EMA, KMeans])
def test_what_is_not_finite_leaves_no_trace(cls):
    quantizer, x = make(cls, codes=8), frames(1)[0]
    quantizer(x * torch.nan)
    quantizer.on_step_end(1)
    assert quantizer.codebook.isfinite().all()


@pytest.fixture
def book(tmp_path):
    centroids = torch.randn(5, DIM, generator=torch.Generator().manual_seed(2))
    found = Codebook(centroids, layer=2, weights="x")
    found.save(tmp_path / "book.safetensors")
    return found, str(tmp_path / "book.safetensors")


def test_ids_are_of_fp32_also_where_a_model_is_in_bf16():
    x, book = frames(1, 2000)[0], Codebook(frames(1, 200, seed=1)[0], layer=2, weights="x")
    wanted = book.ids(x)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(book.ids(x), wanted)


def test_a_codebook_of_extract_is_used_as_it_is(book):
    quantizer, x = make(KMeans, file=book[1]), frames(1)[0]
    for _ in range(2):
        assert torch.equal(step(quantizer, x), book[0].ids(x).long())
        quantizer.refit()
    assert torch.equal(quantizer.codebook, book[0].centroids)
    assert quantizer.codes == 5


def test_a_file_that_is_no_codebook_or_of_another_width_is_refused(book, tmp_path):
    with pytest.raises(HarkError, match="is no codebook"):
        make(KMeans, file=str(tmp_path / "missing"))
    (tmp_path / "text").write_text("centroids")
    with pytest.raises(HarkError, match="is no codebook"):
        make(KMeans, file=str(tmp_path / "text"))
    overrides = [
        "data.train=[]",
        "encoder=fastconformer_tiny",
        "quantizer=kmeans",
        f"quantizer.file={book[1]}",
    ]
    with pytest.raises(HarkError, match="6 dimensions, but what this objective quantizes has 640"):
        check(compose_config(overrides).config)


def test_a_codebook_is_built_on_a_device_without_memory(book):
    with torch.device("meta"):
        quantizer = KMeans(KMeans.Config(file=book[1]), dim_in=DIM)
    assert quantizer.codebook.is_meta
    assert quantizer.codebook.shape == (5, DIM)


@pytest.mark.parametrize("quantizer", ["ema", "kmeans"])
@pytest.mark.parametrize("objective", ["nest", "wav2vec2", "w2v_bert"])
def test_any_objective_can_predict_clusters(objective, quantizer):
    overrides = [
        "data.train=[]",
        f"objective={objective}",
        f"quantizer={quantizer}",
        "quantizer.codes=16",
        "encoder=fastconformer_tiny",
        "encoder.stride=4",
        "masking=span",
        "masking.length=4",
    ]
    config = compose_config(overrides).config
    check(config)
    model = assemble(config)
    before = model.quantizer.codebook.clone()
    train(student(model, config), [speech(model, seed=k) for k in range(2)])
    assert not torch.equal(before, model.quantizer.codebook)
