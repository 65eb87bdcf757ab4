"""What predicts the future by telling it from other times is no leak, though its distractors were heard."""

import pytest

from research.conformance.case import Case
from research.conformance.rules import Broken
from research.conformance.targets import no_target_leaks, parts_do_as_it_says, targets_follow_the_signal
from tests.borrowed import borrowed


@pytest.fixture(scope="module", autouse=True)
def cpc():
    with borrowed(["tests.cpc"]) as names:
        assert names["objective"] == ["cpc", "cpc_now"]
        yield


@pytest.mark.parametrize("rule", [no_target_leaks, parts_do_as_it_says, targets_follow_the_signal])
def test_predictive_coding_keeps_the_rules(rule):
    rule(Case("objective", "cpc"))


def test_predicting_what_was_just_heard_is_caught():
    with pytest.raises(Broken, match="predicts piece 2 of the signal and hears it"):
        no_target_leaks(Case("objective", "cpc_now"))
