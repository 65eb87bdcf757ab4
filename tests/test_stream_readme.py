"""The README of streams answers for every option, of NeMo and of hark."""

import re
from dataclasses import fields
from pathlib import Path

from research.config import Streams

README = (Path(__file__).parents[1] / "research/data/streams/README.md").read_text()
OPTIONS = """
    input_cfg manifest_filepath tarred_audio_filepaths cuts_path shar_path skip_missing_manifest_entries
    tarred_random_access batch_size batch_duration quadratic_duration use_bucketing bucket_duration_bins
    bucket_batch_size num_buckets num_cuts_for_bins_estimate bucket_buffer_size shuffle_buffer_size
    concurrent_bucketing bucketing_2d_strict_mode drop_last shuffle seed shard_seed num_workers pin_memory
    max_open_streams cuda_expandable_segments multi_config sampler_fusion sampler_weights min_duration max_duration
    min_tps max_tps min_tokens max_tokens min_tpt max_tpt measure_total_length pretokenize prompt_format
    use_multimodal_sampling token_equivalent_duration batch_tokens quadratic_factor audio_locator_tag sample_rate
    channel_selector noise_path noise_snr noise_mix_prob perturb_speed concatenate_samples concatenate_gap_seconds
    concatenate_duration_factor concatenate_merge_supervisions db_norm truncate_duration truncate_offset_type
    cut_into_windows_duration cut_into_windows_hop keep_excessive_supervisions rir_enabled rir_path rir_prob
    pad_min_duration pad_direction text_field lang_field metadata_only force_finite force_map_dataset
    force_iterable_dataset slice_length reweight_temperature cut_text_into_windows_tokens max_cer
    min_context_speaker_similarity keep lowpass_enabled compression_enabled clipping_enabled parquet
    BroadcastingDataLoader noise_manifest batch_augmentor type weight tags nemo nemo_tarred lhotse lhotse_shar group
    txt txt_pair nemo_sft_jsonl multimodal_conversation share_gpt lhotse_as_conversation s2s_as_conversation
"""


def test_the_readme_answers_for_every_option_of_nemo():
    theirs = [row.split("|")[1] for row in README.split("## NeMo's options")[1].splitlines() if "|" in row]
    named = set(re.findall(r"`(\w+)`", " ".join(theirs)))
    assert [option for option in OPTIONS.split() if option not in named] == []


def test_the_readme_names_settings_that_are_there():
    names = set(re.findall(r"`data\.([a-z_.]+)", README))
    assert len(names) > 25
    for name in names:
        place = Streams()
        for part in name.split("."):
            assert hasattr(place, part), f"data.{name}"
            place = getattr(place, part)


def test_the_readme_leaves_no_setting_out():
    told = set(re.findall(r"`data\.([a-z_]+)", README))
    elsewhere = {"strict", "headers", "reader"}  # the same for data=manifest
    assert {setting.name for setting in fields(Streams)} - told == elsewhere
