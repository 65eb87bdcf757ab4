"""Runs of a W&B project as a data frame, from a small server of our own: the public API's own client reads them."""

import json
import math
import os

import pytest
import wandb

from research.analysis import frame
from research.errors import HarkError
from research.training.follower import catch_up
from tests.leftovers import Folder
from tests.wandb_server import KEY, serving

ONLINE = ("log.wandb=online", "log.project=ours")


@pytest.fixture(scope="module")
def uploaded(tmp_path_factory):
    """Two finished runs of a sweep, the loss of one of which is no number, as the server has them."""
    root = tmp_path_factory.mktemp("project")
    folder = Folder(root / "runs")
    there = {
        "WANDB_API_KEY": KEY,
        "NETRC": os.devnull,
        "WANDB_SILENT": "true",
        "XDG_CACHE_HOME": str(root / "cache"),
    }
    with serving() as server, pytest.MonkeyPatch.context() as patch:
        for name, value in (there | {"WANDB_BASE_URL": server.url}).items():
            patch.setenv(name, value)
        wandb.teardown()  # whom other tests have talked to
        for codes, loss in ((16, 1.0), (32, math.nan)):
            tag = f"quantizer.codes={codes}"
            said = []
            catch_up(
                folder.run(tag, *ONLINE, f"log.tags=['{tag}','run.seed=0']", loss=loss, score=0.8),
                said.append,
            )
            assert not said
        yield folder, server
        wandb.teardown()


def test_a_project_reads_as_its_folder_but_for_what_the_server_has_not(uploaded):
    folder, _server = uploaded
    here, there = frame.runs(folder.path), frame.runs("wandb:us/ours")
    same = [
        name for name in here if name not in ("path", "commit", "problems", "wall_s", "device_h", "audio_h")
    ]
    there = there.set_index("run").loc[here["run"]].reset_index()
    assert here[same].to_json() == there[same].to_json()
    assert there.attrs["factors"] == ["quantizer.codes"]
    assert there[["wall_s", "audio_h"]].isna().all(axis=None)
    for own, told in zip(here["problems"], there["problems"], strict=True):
        assert told == "; ".join(filter(None, ["cost.json is missing", own]))


def test_a_run_that_has_not_moved_is_not_fetched_again(uploaded):
    _folder, server = uploaded
    frame.runs("wandb:us/ours")
    server.asked.clear()
    frame.runs("wandb:us/ours")
    assert server.asked == []
    name = next(iter(server.facts))
    last = json.loads(server.history[name][-1])
    server.history[name].append(json.dumps(last | {"_step": 21, "train/loss": 0.25}))
    found = frame.runs("wandb:us/ours").set_index("run")
    assert server.asked == [name]
    assert found["train/loss"][name] == 0.25


@pytest.mark.parametrize(
    ("name", "told"), [("us/theirs", "cannot be read .*theirs"), ("ours", "type wandb:ENTITY/PROJECT")]
)
def test_what_cannot_be_read_is_told(uploaded, name, told):
    with pytest.raises(HarkError, match=told):
        frame.runs(f"wandb:{name}")


def test_without_a_network_or_a_login_it_is_told(uploaded, monkeypatch):
    monkeypatch.setenv("WANDB_BASE_URL", "http://127.0.0.1:9")
    with pytest.raises(HarkError, match=r"does not answer .* name a folder of runs"):
        frame.runs("wandb:us/ours")
    monkeypatch.setenv("WANDB_API_KEY", "")
    with pytest.raises(HarkError, match="nobody is logged in"):
        frame.runs("wandb:us/ours")
