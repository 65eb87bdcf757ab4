"""Comparisons with peers: both sides do equal work, and ratios say how sure they are. No peer is needed here."""

import sys

import pytest

from research.model import check
from tests.benchmarks.against import PEERS, SIZES, Side, compared, read, work_of
from tests.benchmarks.peers.hark_side import WORKS, composed

# Trained parameters of the peer's side at --size small and large, and how many more hark has: its w2v-BERT has codes and
# their prediction besides; its quantizer reads `dim` and not 512 channels, its encoder projects these at any width; the
# projections of its attention have biases, and no norm follows the last block of its conformer.
PARAMETERS = {
    ("nemo", "nest"): {"small": (9_233_664, 0), "large": (112_964_608, 0)},
    ("nemo", "contrast"): {"small": (7_424_000, 182_704), "large": (109_123_328, 489_904)},
    ("fairseq2", "wav2vec2"): {"small": (8_559_104, -163_840), "large": (60_498_688, 262_656)},
    ("speechbrain", "wav2vec2"): {"small": (8_565_376, -163_840), "large": (59_194_496, 0)},
    ("speechbrain", "best_rq"): {"small": (8_824_256, 2_560), "large": (112_373_952, 25_088)},
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize(("peer", "work"), WORKS)
def test_hark_trains_as_many_parameters_as_the_peer(peer: str, work: str, size: str) -> None:
    objective = check(composed(work_of(read([work, "--peer", peer, "--size", size]))))
    theirs, more = PARAMETERS[peer, work][size]
    assert sum(p.numel() for p in objective.parameters() if p.requires_grad) == theirs + more
    assert abs(more) < 0.03 * theirs


def test_every_work_of_a_peer_has_its_architecture_here() -> None:
    assert set(WORKS) == {(peer, work) for peer, works in PEERS.items() for work in works}


def test_interval_of_a_ratio_is_students_t_on_logarithms() -> None:
    # logarithms 0, ln 2, 2 ln 2: t of 2 degrees of freedom is 4.303, and 2 ** (4.303 / 3 ** 0.5) = 5.595
    assert compared([1.0, 2.0, 4.0]) == {"ratio": 2.0, "low": 0.36, "high": 11.19, "least": 1.0, "most": 4.0}


def test_flags_stand_in_for_those_of_a_size() -> None:
    work = work_of(read(["nest", "--size", "large", "--batch", "2"]))
    assert (work["layers"], work["dim"], work["heads"], work["batch"]) == (17, 512, 8, 2)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nest", "--peer", "fairseq2"], "--peer fairseq2 has wav2vec2"),
        (["nest", "--sides", "hark,fairseq2"], "choose from hark,nemo,nemo_tuned"),
        (["nest", "--rounds", "1"], "an interval needs 2 or more"),
    ],
)
def test_refuses_what_cannot_be_compared(
    words: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        read(words)
    assert said in capsys.readouterr().err


def test_a_side_that_fails_says_how_to_see_why() -> None:
    with pytest.raises(
        SystemExit, match=r"ended with 3; to see why: echo 1 \| .*'raise SystemExit\(3\)' '\{\}'"
    ):
        Side([sys.executable, "-c", "raise SystemExit(3)"], {}, {})


def test_a_side_answers_with_its_steps() -> None:
    words = ["nest", "--layers", "1", "--dim", "32", "--heads", "2", "--batch", "1", "--seconds", "1"]
    side = Side(
        [sys.executable, "-m", "tests.benchmarks.peers.hark_side"],
        work_of(read([*words, "--threads", "1"])),
        {},
    )
    try:
        told = side.work(2).work(1).told(None)
    finally:
        side.process.kill()
    assert told["step_s"] > 0
    assert told["peak_rss_mb"] > 100
    assert told["parameters"] > 100_000
