"""Durations read fast from lines of manifests are those that the whole check finds."""

import json

import pytest

from research.data import pieces, scan
from research.data.entry import parse, seconds_of

pytestmark = pytest.mark.usefixtures("own_cache")

LINES = [
    {"audio_filepath": "a", "duration": 2.5},
    {"audio_filename": "a", "duration": 2},
    {"text": 'says "duration": 7.5, twice', "duration": 1.5, "audio_filepath": "a"},
    {"text": "ends in a backslash \\", "audio_filepath": "a", "duration": 1.25},
    {"segments": [{"duration": 9.0}], "duration": 3.5, "more": {"duration": 8.0}, "audio_filepath": "a"},
    {"audio_filepath": "a", "offset": 4.5, "duration": 0.5},
    {"audio_filepath": "a", "offset": None, "duration": 0.5},
    {"audio_filepath": "a", "duration": 6.0, "_skipme": True},
    {"audio_filepath": "a", "duration": 6.0, "_skipme": False},
    {"duration": "none", "_skipme": 1},
    {"audio_filepath": "a", "duration": 6.0, "feature_path": "f", "feature_key": "k"},
    '{"audio_filepath": "a", "duration": 1.0, "duration": 2.0}',
    '{"dur\\u0061tion": 3.0, "audio_filepath": "a", "text": "\\ud800"}',
    '{"audio_filepath":"a","duration":1.5e1,"x":NaN}',
    ' \t{ "audio_filepath" : "a" , "duration" : 12 } \r',
]
WRONG = [
    "{",
    "[]",
    '{"audio_filepath": "a"}',
    '{"duration": 1.0}',
    '{"audio_filepath": "", "duration": 1.0}',
    '{"audio_filepath": "a", "duration": 0.0}',
    '{"audio_filepath": "a", "duration": "1.0"}',
    '{"audio_filepath": "a", "duration": true}',
    '{"audio_filepath": "a", "duration": NaN}',
    '{"audio_filepath": "a", "duration": 1e999}',
    '{"audio_filepath": "a", "duration": 1.0, "offset": -1}',
    '{"audio_filepath": "a", "duration": 1.0, "offset": "0"}',
    '{"audio_filepath": "a", "duration": 1.0, "feature_path": "f"}',
    '{"audio_filepath": "a", "duration": 1.0}}',
]


@pytest.mark.parametrize("line", LINES)
def test_a_duration_is_what_the_whole_check_finds(line):
    line = (line if isinstance(line, str) else json.dumps(line)).encode()
    assert seconds_of(line, "/") == parse(line, "/").duration


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_line_is_refused_as_the_whole_check_does(tmp_path, line):
    with pytest.raises(ValueError) as error:
        parse(line.encode(), "/")
    with pytest.raises(ValueError) as ours:
        seconds_of(line.encode(), "/")
    assert str(ours.value) == str(error.value)


def test_durations_come_from_lines_or_from_the_cache(tmp_path, monkeypatch):
    path = tmp_path / "m.jsonl"
    lines = [line if isinstance(line, str) else json.dumps(line) for line in LINES]
    path.write_text("\n".join(lines))
    monkeypatch.setattr(pieces, "SIZE", 200)
    found = scan.durations_of(path)
    kept = scan.rows_of(path, headers=False)
    assert found.tolist() == kept["duration"][~kept["skip"]].tolist()
    monkeypatch.setattr(scan, "gather", None)
    assert scan.durations_of(path).tolist() == found.tolist()
