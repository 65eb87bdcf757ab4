"""Texts of lines and cuts, with the batches that they are read into; what cannot have one."""

import pytest
import soundfile
import torch

from research.compose import compose_config
from research.config import Streams
from research.data.streams.loader import StreamLoader
from research.engine.gangs import start
from research.errors import HarkError
from research.training.given import Given
from research.training.streamed import Streamed
from tests.clips import Source, clip_of, hear
from tests.sounds import RATE, signal_of, write


def texts(*clips, wants=("text",)):
    return hear(StreamLoader(Streams(), [Source()], None, 0, wants), *clips).batch.texts


@pytest.fixture
def line(tmp_path):
    soundfile.write(tmp_path / "a.wav", signal_of(2.0, RATE), RATE)
    return {"audio_filepath": "a.wav", "duration": 1.0}


def test_texts_are_those_of_the_rows(tmp_path, line):
    clips = [clip_of(line | {"text": text, "id": text}, tmp_path) for text in ("two", "", "one")]
    clips.insert(1, clip_of(line | {"audio_filepath": "gone.wav", "text": "lost"}, tmp_path))
    assert texts(*clips) == ["two", "", "one"]
    assert texts(*clips, wants=()) == []


def test_a_line_without_a_text_is_refused(tmp_path, line):
    with pytest.raises(HarkError, match="utterance 'mine' has no text"):
        texts(clip_of(line | {"id": "mine"}, tmp_path))


def test_the_text_of_a_cut_is_that_of_its_supervisions(cuts):
    from lhotse import SupervisionSegment

    found, folder = cuts

    def told(name, *parts):
        cut = found[name].drop_supervisions()
        cut.supervisions = [
            SupervisionSegment(f"{name}{at}", cut.recording_id, at, 0.5, text=text) for at, text in parts
        ]
        return cut

    first, second = told("mono", (1.0, "there"), (0.0, "hello")), told("mono", (0.0, "again"))
    assert texts(clip_of(first.to_dict(), folder)) == ["hello there"]
    assert texts(clip_of(first.append(second).to_dict(), folder)) == ["hello there again"]
    with pytest.raises(HarkError, match="has no supervision with a text"):
        texts(clip_of(found["mono"].to_dict(), folder))


@pytest.mark.parametrize(
    ("wants", "typed", "says"),
    [
        (("labels",), [], "data=lhotse: gives no labels of frames; type data=manifest"),
        (("text",), ["data.window_seconds=1.0"], "data.window_seconds=1: a text is of a whole utterance"),
        (("text",), ["data.truncate_seconds=0.5"], "data.truncate_seconds=0.5: a text is of a whole"),
    ],
)
def test_what_streams_cannot_give_is_refused(tmp_path, line, wants, typed, says):
    path = write(tmp_path / "m.jsonl", line | {"text": "one"})
    cfg = compose_config(["data=lhotse", f"data.train=[{path}]", *typed]).config
    ranks = start("cpu")
    try:
        with pytest.raises(HarkError, match=says):
            Streamed(cfg, ranks, Given(wants))
    finally:
        ranks.close()


def test_ctc_trains_on_streams(tmp_path, line, own_cache):
    lines = [line | {"id": str(k), "text": "да"} for k in range(6)]
    path = write(tmp_path / "m.jsonl", *lines)
    cfg = compose_config(
        [
            "data=lhotse",
            f"data.train=[{path}]",
            f"data.valid=[{path}]",
            "data.batch_seconds=3",
            "objective=ctc",
        ]
    ).config
    ranks = start("cpu")
    try:
        source = Streamed(cfg, ranks, Given(("text",)))
        assert set(next(source.train(0, [])).batch.texts) == {"да"}
        assert [len(batch.texts) for _, batch in source.valid()] == [
            len(batch.audio.lengths) for _, batch in source.valid()
        ]
        assert torch.is_tensor(source.nothing.audio.x)
        assert source.nothing.texts == [""]
    finally:
        ranks.close()
