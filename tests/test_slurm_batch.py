"""What sbatch is told, without a SLURM to hear it."""

import pytest

from research.config import Cluster
from research.errors import HarkError
from research.launch.sweep.order import Order
from research.launch.sweep.slurm_batch import dependency, parameters, parts, signal_delay


def order_with(after="", folder="/s", code="/c"):
    return Order("/r", "s", folder, code, "/w", after=after)


def afters(*ids):
    return [order_with(after=job) for job in ids]


@pytest.mark.parametrize(
    ("jobs", "limit", "numbers", "waits"),
    [
        (afters(*[""] * 5), 1000, [[0, 1, 2, 3, 4]], [None]),
        (afters(*[""] * 5), 2, [[0, 1], [2, 3], [4]], [None] * 3),
        (afters("7_0", "7_1", "7_2"), 9, [[0, 1, 2]], ["aftercorr:7"]),
        (afters("7_0", "7_1", "8_0", "8_1"), 2, [[0, 1], [2, 3]], ["aftercorr:7", "aftercorr:8"]),
        (afters("7_1", "7_0"), 9, [[0], [1]], ["afterok:7_1", "afterok:7_0"]),
        (afters("7_0"), 9, [[0]], ["afterok:7_0"]),
        (afters("7", "7", "", ""), 9, [[0, 1], [2, 3]], ["afterok:7", None]),
        ([order_with(code="/a"), order_with(code="/b"), order_with(code="/b")], 9, [[0], [1, 2]], [None] * 2),
    ],
)
def test_what_can_be_one_array_is(jobs, limit, numbers, waits):
    found = list(parts(jobs, limit))
    assert found == numbers
    assert [dependency([jobs[k] for k in part]).get("dependency") for part in found] == waits


@pytest.mark.parametrize(
    ("hours", "warning", "seconds"),
    [(24, 120, 120), (24, 600, 600), (0.1, 120, 120), (0.05, 120, 30), (0.01, 120, 10)],
)
def test_the_warning_leaves_half_of_the_time_even_when_it_comes_a_minute_early(hours, warning, seconds):
    assert signal_delay(Cluster(hours=hours, warning=warning)) == seconds


def test_resources_are_of_a_node_where_slurm_counts_by_node():
    cluster = Cluster(device="h100", nodes=2, per_node=8, cpus=6, memory_gb=1.5, hours=0.99, account="a")
    given = parameters(cluster, [order_with()], "x", 0)
    assert given["mem"] == "12288M"
    assert (given["nodes"], given["ntasks_per_node"], given["gpus_per_node"]) == (2, 8, 8)
    assert (given["cpus_per_task"], given["time"]) == (6, 60)
    assert (given["account"], given["partition"]) == ("a", None)
    assert parameters(Cluster(), [order_with()], "x", 0)["gpus_per_node"] is None
    with pytest.raises(HarkError, match="h1000"):
        parameters(Cluster(device="h1000"), [order_with()], "x", 0)


def test_extra_adds_options_and_null_takes_one_away():
    extra = {"mem": None, "mail-user": "me", "exclusive": True, "hold": False, "open-mode": "truncate"}
    given = parameters(Cluster(extra=extra), [order_with()], "x", 0)
    assert given["mem"] is None
    added = given["additional_parameters"]
    assert {key: added[key] for key in ("mail_user", "exclusive", "open_mode")} == {
        "mail_user": "me", "exclusive": True, "open_mode": "truncate",
    }  # fmt: skip
    assert "hold" not in added
