"""A sweep on this machine, from the command to the scores of its probes."""

import json
import re

from research.cli import main
from tests.runs import TINY

PROBE = "--probe phone_frames --sentences 4 --dev 2 --seeds 2 --baseline log_mel"


def test_cells_are_trained_probed_and_never_repeated(corpus, speech, tmp_path, capsys):
    train = tmp_path / "train.jsonl"
    train.write_text(speech["train"].read_text())
    for name in ("phones_train.jsonl", "phones_test.jsonl"):
        lines = [json.loads(line) for line in (corpus / name).read_text().splitlines()[:12]]
        for line in lines:
            line["audio_filepath"] = str(corpus / line["audio_filepath"])
        (tmp_path / name).write_text("".join(json.dumps(line) + "\n" for line in lines))
    common = (
        *TINY,
        "train.steps=4",
        f"data.train=[{train}]",
        f"run.folder={tmp_path / 'runs'}",
        "cluster.parallel=2",
    )
    words = ["sweep", "--name", "s", *common, "run.seed=0,1", "--probe", PROBE]
    assert main([*words, "--follow"]) == 0
    said = capsys.readouterr().out
    assert "4 jobs are queued" in said
    assert "2 cells: 2 done" in said
    for run in (tmp_path / "runs").glob("run-*"):
        assert json.loads((run / "done.json").read_text())["steps"] == 4
        assert "phone_frames" in (run / "probes.jsonl").read_text()
    assert main(["status", "s", "--folder", str(tmp_path / "runs")]) == 0
    assert re.search(r"0\.\d+ \[0\.\d+, 0\.\d+\]", capsys.readouterr().out)
    assert main(words) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main(["sweep", "--name", "other", *common, "run.name=other", "run.seed=1,2", "--dry-run"]) == 0
    assert "2 cells: 1 done, 1 missing" in capsys.readouterr().out  # the same run, whatever it is called
