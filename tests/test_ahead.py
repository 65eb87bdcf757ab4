"""How a batch gets to the device: read one ahead on a GPU, pinned, and with no effect on what a checkpoint says."""

from itertools import islice

import pytest
import torch

from research.contracts import Batch, Seq
from research.data import torch_reader
from research.data.ahead import ahead, one_ahead
from research.data.loader import Loaded
from research.engine import bindings, pipeline
from research.errors import HarkError
from research.training import data, streamed
from research.training.health.panel import some
from tests.sharded import as_shar, source_of

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device on this machine")


class Page:
    """Stands for what a reader loads."""

    def __init__(self, number):
        self.number, self.pinned = number, False

    def pin_memory(self):
        self.pinned = True
        return self


def loaded(number, rows=3):
    x = torch.full((rows, 64), float(number))
    lengths = torch.tensor([64] * rows)
    audio, noisy = Seq(x, lengths), Seq(x + 1, lengths)
    labels = Seq(torch.full((rows, 2, 1), number), torch.tensor([2] * rows))
    batch = Batch(
        audio, noisy, torch.arange(rows), noise=Seq(-x, lengths), labels=labels, ids=[str(number)] * rows
    )
    return Loaded(0, batch)


def test_each_item_is_sent_before_the_one_in_front_of_it_is_given():
    told = []

    def send(item):
        told.append(f"send {item}")
        return lambda: told.append(f"give {item}") or item

    items = one_ahead(iter(range(3)), send)
    assert next(items) == 0
    assert told == ["send 0", "send 1", "give 0"]
    assert list(items) == [1, 2]
    assert told[3:] == ["send 2", "give 1", "give 2"]
    assert list(one_ahead(iter([]), send)) == []


def test_no_more_is_read_than_one_ahead_and_closing_ends_the_reading():
    read, ended = [], []

    def source():
        try:
            for number in range(100):
                read.append(number)
                yield number
        finally:
            ended.append(True)

    items = one_ahead(source(), lambda item: lambda: item)
    assert list(islice(items, 3)) == [0, 1, 2]
    assert read == [0, 1, 2, 3]
    items.close()
    del items
    assert ended


def test_what_cannot_be_read_is_told_when_it_is_asked_for():
    def source():
        yield from range(3)
        raise HarkError("broken")

    items = one_ahead(source(), lambda item: lambda: item)
    assert list(islice(items, 3)) == [0, 1, 2]
    with pytest.raises(HarkError, match="broken"):
        next(items)


def test_a_host_is_given_what_was_read_as_it_is():
    read = iter([loaded(0)])
    assert ahead(read, torch.device("cpu")) is read


def test_a_batch_goes_elsewhere_whole():
    batch = loaded(5).batch
    there = batch.to(torch.device("meta"))
    parts = (there.audio, there.noisy, there.noise, there.labels)
    assert all(part.x.is_meta and not part.lengths.is_meta for part in parts)
    assert there.changed is batch.changed
    assert there.ids == batch.ids
    clean = Batch.clean(batch.audio).map(torch.clone)
    assert clean.noisy is clean.audio
    assert clean.audio.x is not batch.audio.x
    assert clean.noise is clean.labels is None


@pytest.mark.parametrize("workers", [0, 2])
def test_threads_pin_what_they_load(workers):
    if bindings.problem():
        pytest.skip(bindings.problem())
    pages = list(pipeline.read(range(5), Page, workers, pin=True))
    assert [page.number for page in pages] == [0, 1, 2, 3, 4]
    assert all(page.pinned for page in pages)
    assert not any(page.pinned for page in pipeline.read(range(5), Page, workers))


def test_the_panel_of_a_run_stays_on_the_host():
    batch = loaded(1).batch
    panel = some(batch, 100)
    assert panel.audio.x.device.type == "cpu"
    assert panel.audio.x.untyped_storage().data_ptr() != batch.audio.x.untyped_storage().data_ptr()


@pytest.fixture(scope="module")
def trains(speech, tmp_path_factory):
    """The same utterances for a plan and as a Shar."""
    return {
        "plan": speech["train"],
        "shar": as_shar(speech["train"], tmp_path_factory.mktemp("ahead") / "shar"),
    }


def kept(kind, train, count=12):
    """Of each batch its utterances, what a checkpoint after it keeps, and what was counted by then."""
    source = source_of(kind, train)
    batches = source.train(0, [])
    found = [(fed.batch.ids, source.state(), source.counts()) for fed in islice(batches, count)]
    batches.close()
    return found


@pytest.mark.usefixtures("module_cache")
@pytest.mark.parametrize("kind", ["plan", "shar"])
def test_a_checkpoint_counts_what_was_consumed_and_not_what_is_on_its_way(kind, trains, monkeypatch):
    plain, sent = kept(kind, trains[kind]), []

    def lead(read, device):
        return one_ahead(read, lambda item: sent.append(item) or (lambda: item))

    monkeypatch.setattr(data, "ahead", lead)
    monkeypatch.setattr(streamed, "ahead", lead)
    assert kept(kind, trains[kind]) == plain
    assert len(sent) == len(plain) + 1


@needs_gpu
@pytest.mark.parametrize("read", [torch_reader.read, pipeline.read])
def test_batches_lie_on_the_gpu_when_the_step_begins(read):
    if read is pipeline.read and bindings.problem():
        pytest.skip(bindings.problem())
    device = torch.device("cuda", torch.cuda.current_device())
    sums = []
    batches = ahead(read(range(50), loaded, 2, pin=True), device)
    for each in batches:
        assert each.batch.audio.x.device == each.batch.labels.x.device == device
        assert not each.batch.audio.lengths.is_cuda
        torch.cuda._sleep(1_000_000)
        sums.append(torch.stack([each.batch.audio.x.sum(), each.batch.labels.x.sum().float()]))
        del each
    values = torch.stack(sums).cpu()
    torch.testing.assert_close(values, torch.tensor([[192.0 * i, 6.0 * i] for i in range(50)]))


@needs_gpu
def test_a_read_batch_is_pinned_and_an_empty_one_is_given_as_it_is():
    (one,) = torch_reader.read([1], loaded, 0, pin=True)
    assert one.batch.audio.x.is_pinned()
    empty = Loaded(0)
    assert next(ahead(iter([empty]), torch.device("cuda"))) is empty


def test_an_error_of_the_reader_reaches_who_asks():
    def items():
        yield 1
        raise HarkError("a file is gone")

    with pytest.raises(HarkError, match="a file is gone"):
        list(one_ahead(items(), lambda item: lambda: item))
