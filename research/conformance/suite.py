"""Which rules hold for which kind of plugin."""

from research.conformance import (
    aggregation,
    augmentation,
    common,
    criterion,
    downstream,
    edges,
    encoder,
    frontend,
    head,
    hidden,
    learning,
    loss,
    masking,
    probe,
    quantizer,
    ranks,
    state,
    targets,
)
from research.conformance.case import Case
from research.conformance.rules import Rule
from research.contracts import Masking

EVERY = (common.builds_at_full_size, common.config_reads_back)
MODEL = (
    state.forward_moves_no_state,
    state.validation_leaves_no_trace,
    state.step_end_runs_once,
    state.resuming_is_exact,
    state.checkpoint_is_whole,
    loss.loss_is_a_sum,
    loss.padding_changes_nothing,
    loss.stats_keep_their_names,
    ranks.ranks_are_micro_batches,
    targets.no_target_leaks,
    targets.targets_follow_the_signal,
    hidden.targets_are_masked,
    targets.parts_do_as_it_says,
    targets.seed_decides_everything,
    targets.bf16_keeps_targets,
    learning.gradients_reach_every_parameter,
    learning.groups_cover_every_parameter,
    learning.loss_falls,
    edges.odd_batches_are_harmless,
    edges.device_is_never_read,
)
DOWNSTREAM = (
    downstream.forward_keeps_state,
    downstream.parameters_are_reached,
    downstream.inputs_are_kept,
    downstream.autocast_is_harmless,
    downstream.odd_rows_are_harmless,
    downstream.host_never_waits,
)
RULES: dict[str, tuple[Rule, ...]] = {
    "objective": (*EVERY, *MODEL),
    "encoder": (
        *EVERY,
        encoder.frames_are_a_stride_apart,
        encoder.layers_are_those_asked,
        encoder.frames_ignore_padding,
        encoder.statistics_ignore_padding,
        encoder.frames_are_left_alone,
        encoder.frames_hear_no_further_than_they_say,
        *MODEL,
    ),
    "frontend": (
        *EVERY,
        frontend.frames_are_a_hop_apart,
        frontend.frames_ignore_padding,
        frontend.audio_is_left_alone,
        frontend.short_audio_is_finite,
        *MODEL,
    ),
    "quantizer": (
        *EVERY,
        quantizer.ids_are_codes,
        quantizer.ids_depend_on_the_input_only,
        quantizer.ids_survive_autocast,
        quantizer.inputs_are_left_alone,
        *MODEL,
    ),
    "masking": (
        *EVERY,
        masking.masks_are_on_the_host,
        masking.padding_is_never_masked,
        masking.rows_that_can_be_masked_are,
        masking.rows_draw_their_own,
        masking.seed_decides_the_mask,
        masking.channels_are_hidden_whole,
    ),
    "augmentation": (
        *EVERY,
        augmentation.clean_signal_is_left_alone,
        augmentation.changed_rows_are_listed,
        augmentation.earlier_changes_are_kept,
        augmentation.lengths_and_padding_stay,
        augmentation.seed_decides_the_noise,
        augmentation.odd_clips_are_harmless,
        augmentation.device_is_never_read,
    ),
    "probe": (
        *EVERY,
        probe.answers_add_up,
        probe.seed_decides_the_answers,
        probe.features_are_left_alone,
        probe.asking_teaches_nothing,
        probe.knowledge_pays,
        probe.mixtures_tell_their_weights,
    ),
    "aggregation": (
        *EVERY,
        aggregation.width_is_as_promised,
        aggregation.frames_stand_alone,
        *DOWNSTREAM,
    ),
    "head": (
        *EVERY,
        head.vectors_are_as_promised,
        head.rows_ignore_padding,
        head.statistics_ignore_padding,
        *DOWNSTREAM,
    ),
    "criterion": (
        *EVERY,
        criterion.loss_is_a_sum,
        criterion.padding_changes_nothing,
        criterion.scores_are_as_promised,
        criterion.stats_keep_names,
        criterion.learning_pays,
        *DOWNSTREAM,
    ),
}


def rules_for(kind: str, name: str) -> tuple[Rule, ...]:
    """Give the rules that a plugin has to keep."""
    case = Case(kind, name)
    if case.placeholder:
        return common.config_reads_back, common.refuses_to_build
    if issubclass(case.cls, Masking) and not case.cls.hides:
        return common.config_reads_back, masking.masks_are_on_the_host, masking.padding_is_never_masked
    return RULES[kind]
