"""Defects that other toolkits shipped are caught, each by a rule that `hark check` runs."""

import pytest

from research.conformance.case import Case
from research.conformance.rules import judge
from research.conformance.suite import rules_for
from tests.borrowed import borrowed

CAUGHT = {
    "norm_over_the_wrong_axis": ("quantizer", "ids_depend_on_the_input_only"),
    "mask_length_is_taken_for_the_stacking": ("objective", "targets_are_masked"),
    "one_mask_from_the_shortest_row": ("masking", "rows_draw_their_own"),
    "mask_on_padding": ("masking", "padding_is_never_masked"),
    "mask_guessed_from_small_values": ("objective", "device_is_never_read"),
    "mean_over_an_empty_mask": ("objective", "odd_batches_are_harmless"),
    "mean_in_place_of_the_sum": ("objective", "loss_is_a_sum"),
    "noise_on_rows_that_were_not_chosen": ("augmentation", "changed_rows_are_listed"),
    "lengths_of_the_noise_clip": ("augmentation", "lengths_and_padding_stay"),
    "features_detached_by_the_mask": ("objective", "gradients_reach_every_parameter"),
    "seed_ignored": ("masking", "seed_decides_the_mask"),
    "seed_accumulated": ("masking", "seed_decides_the_mask"),
    "teacher_moved_in_forward": ("objective", "forward_moves_no_state"),
}


@pytest.fixture(scope="module")
def planted():
    with borrowed(["tests.broken.peers"]) as names:
        yield {name for there in names.values() for name in there}


def test_every_defect_is_in_the_table(planted):
    assert planted == set(CAUGHT)


@pytest.mark.parametrize("defect", CAUGHT)
def test_a_defect_is_caught_by_its_rule(planted, defect):
    kind, name = CAUGHT[defect]
    (rule,) = (rule for rule in rules_for(kind, defect) if rule.__name__ == name)
    found = judge(rule, Case(kind, defect))
    assert found.problem, f"{name} lets {defect} pass"
    assert found.reason
