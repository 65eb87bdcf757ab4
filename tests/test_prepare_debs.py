"""Corpora out of Debian packages: fetched through apt for real, or skipped where there is none."""

import errno
import hashlib
import io
import json
import multiprocessing
import os
import re
import shutil
import subprocess
import tarfile

import numpy as np
import pytest
import soundfile

from research.config import Data
from research.data import manifest
from research.data.corpora import clips, corpus, debs, debspeech, noise, packages
from research.data.corpora.pins import PINS, Pin
from research.data.corpora.speech import PACKAGES
from research.errors import HarkError

SPANISH, ITALIAN = "asterisk-prompt-es-co", "asterisk-core-sounds-it-g722"  # gsm at 8 kHz, g722 at 16 kHz
NAMED = {package.name: package for package in PACKAGES}


@pytest.fixture(scope="session")
def fetched():
    try:
        return debs.fetch([SPANISH, ITALIAN], None)
    except HarkError as error:
        pytest.skip(f"packages cannot be had here: {error}")


@pytest.fixture(scope="session")
def deb_dir(fetched, tmp_path_factory):
    folder = tmp_path_factory.mktemp("debs")
    for name, path in fetched.items():
        shutil.copy(path, folder / f"{name}_{PINS[name].version}_all.deb")
    return folder


@pytest.fixture(scope="module")
def presets():
    """A preset that is small enough for a test."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(debspeech.PRESETS, "tiny", [NAMED[ITALIAN], NAMED[SPANISH]])
        yield


@pytest.fixture(scope="module")
def made(presets, deb_dir, tmp_path_factory):
    return debspeech.prepare(tmp_path_factory.mktemp("made") / "tiny", "tiny", deb_dir)


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def files_below(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def without_apt(patch, folder):
    folder.mkdir()
    patch.setenv("PATH", str(folder))


# ---- packages ----


@pytest.fixture(scope="module")
def cache(fetched, tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


def test_a_download_is_verified_kept_and_needs_no_apt_again(cache, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    path = debs.fetch([SPANISH], None)[SPANISH]
    assert path == cache / "hark" / "debs" / f"{SPANISH}.deb"
    assert debs.digest(path) == PINS[SPANISH].sha256
    assert path.stat().st_size == PINS[SPANISH].size
    without_apt(monkeypatch, tmp_path / "bin")
    assert debs.fetch([SPANISH], None)[SPANISH] == path
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(HarkError, match=r"--deb-dir.*hark prepare synth"):
        debs.fetch([SPANISH], None)


def test_another_version_in_the_repository_is_named(cache, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(cache))
    found = PINS[ITALIAN]
    monkeypatch.setitem(PINS, ITALIAN, type(found)("9.9-1", 1, "0" * 64))
    with pytest.raises(HarkError) as caught:
        debs.fetch([ITALIAN], None)
    told = str(caught.value)
    for part in (ITALIAN, "9.9-1", "0" * 64, found.version, found.sha256, "--deb-dir"):
        assert part in told
    assert "\n" not in told


# one at a time, as apt: a second complains, and finds no lists
ONE_APT = {
    "apt-get": """
echo "$@" >> {folder}/calls
mkdir {folder}/busy || {{ echo "E: Could not get lock" >&2; exit 100; }}
sleep 1
case "$*" in *update) touch {folder}/lists;; *) printf hello > x.deb;; esac
rmdir {folder}/busy""",
    "apt-cache": 'test -e {folder}/lists && printf "Version: 1-1\\nSHA256: {sha}\\n"',
}


def test_two_that_need_the_same_package_download_it_once(own_cache, tmp_path, monkeypatch):
    sha = hashlib.sha256(b"hello").hexdigest()
    monkeypatch.setitem(PINS, "x", Pin("1-1", 5, sha))
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    for name, lines in ONE_APT.items():
        (tmp_path / name).write_text("#!/bin/sh\n" + lines.format(folder=tmp_path, sha=sha))
        (tmp_path / name).chmod(0o755)
    context = multiprocessing.get_context("fork")
    both = [context.Process(target=debs.fetch, args=(["x"], None)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    calls = (tmp_path / "calls").read_text().splitlines()
    assert [call.split()[-1] for call in calls] == ["update", "x=1-1"]


def test_a_damaged_or_missing_deb_is_refused(deb_dir, tmp_path):
    (source,) = deb_dir.glob(f"{SPANISH}_*")
    data = bytearray(source.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / source.name).write_bytes(data)
    with pytest.raises(HarkError, match=rf"{SPANISH}.*SHA-256 is \w+, expected {PINS[SPANISH].sha256}"):
        debs.fetch([SPANISH], tmp_path)
    with pytest.raises(HarkError, match=f"no {ITALIAN}_1.6.1-1_all.deb"):
        debs.fetch([ITALIAN], tmp_path)


@pytest.mark.skipif(not shutil.which("dpkg-deb"), reason="dpkg-deb tells what the truth is")
def test_members_are_what_dpkg_unpacks(fetched, tmp_path):
    subprocess.run(["dpkg-deb", "-x", fetched[SPANISH], tmp_path], check=True)
    truth = {path.as_posix(): data for path, data in files_below(tmp_path).items()}
    found = dict(debs.members(fetched[SPANISH], re.compile(r"\.gsm$|/copyright$")))
    assert len(found) == 286
    assert all(truth[name] == data for name, data in found.items())


def test_members_of_odd_size_are_padded(tmp_path):
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w:xz") as archive:
        (tmp_path / "a.txt").write_text("hello")
        archive.add(tmp_path / "a.txt", "./usr/a.txt")
    (tmp_path / "x.deb").write_bytes(
        b"!<arch>\n"
        + f"{'control.tar.xz/':<48}{3:<10}`\n".encode()
        + b"odd\n"
        + f"{'data.tar.xz/':<48}{len(content.getvalue()):<10}`\n".encode()
        + content.getvalue()
    )
    assert list(debs.members(tmp_path / "x.deb", re.compile("txt"))) == [("usr/a.txt", b"hello")]


def test_what_is_no_package_is_refused(tmp_path):
    (tmp_path / "x.deb").write_bytes(b"hello")
    with pytest.raises(HarkError, match="not a Debian package"):
        list(debs.members(tmp_path / "x.deb", re.compile("")))


# ---- a prepared set ----


def test_rows_tell_what_the_files_hold(made):
    rows = rows_of(made / "manifest.jsonl")
    assert len(rows) == 582 + 278
    keys = ["id", "audio_filepath", "duration", "text", "lang", "speaker", "source", "kind", "word", "sr0"]
    assert all(list(row) == keys for row in rows)
    assert len({row["id"] for row in rows}) == len({row["audio_filepath"] for row in rows}) == len(rows)
    for row in rows[::20]:
        info = soundfile.info(made / row["audio_filepath"])
        assert (info.samplerate, info.channels, info.format, info.subtype) == (16_000, 1, "FLAC", "PCM_16")
        assert info.frames / 16_000 == row["duration"]
    assert {(row["source"], row["lang"], row["speaker"], row["sr0"]) for row in rows} == {
        (ITALIAN, "it", "it_IT_m_Carlo", 16_000),
        (SPANISH, "es", "es_CO_f_July", 8000),
    }
    words = {row["word"] for row in rows}
    assert {"digits/1", "tt-weasels", "confbridge-leave-in"} <= words
    assert not words & {"beep", "beeperr", "tt-monkeys", "silence/1", "confbridge-join", "ascending-2tone"}


def test_gsm_and_g722_are_decoded_as_such(made):
    """A telephone prompt has speech in it, and one of 8 kHz nothing above 4 kHz."""
    shares = {}
    for row in rows_of(made / "manifest.jsonl")[::40]:
        wave, _ = soundfile.read(made / row["audio_filepath"])
        power = np.abs(np.fft.rfft(wave)) ** 2
        half = len(power) // 2
        shares.setdefault(row["source"], []).append(power[round(half * 1.05) :].sum() / power.sum())
        assert 0.003 < np.sqrt(np.mean(wave**2)) < 0.5
        assert power[: half // 2].sum() > 0.3 * power.sum(), "energy of speech is low; noise would be flat"
    assert max(shares[SPANISH]) < 1e-3
    assert np.median(shares[ITALIAN]) > 1e-3


def test_the_training_reader_takes_the_manifests(made):
    paths = [made / "train.jsonl", made / "valid.jsonl"]
    read = manifest.load(paths, Data(train=[], max_seconds=120.0))
    assert len(read) == 582 + 278
    assert read.durations.sum() / 60 == pytest.approx(
        json.loads((made / "summary.json").read_text())["minutes"], abs=0.01
    )


def test_summary_and_licences(made):
    summary = json.loads((made / "summary.json").read_text())
    assert summary["utterances"] == 860
    assert summary["source"][SPANISH] == {"utterances": 278, "minutes": 9.97}
    assert summary["lang"]["it"]["utterances"] == 582
    assert summary["splits"]["valid"]["utterances"] == 86
    assert summary["inputs"][ITALIAN] == PINS[ITALIAN].sha256
    text = (made / "LICENSES.md").read_text()
    for part in (f"## {SPANISH} 0.20070403-2.1", "Carlo Flora", "CC-BY-3.0", "July"):
        assert part in text


def test_credit_that_a_licence_asks_for_is_shown():
    parts = [corpus.Part([], licence="terms")]
    text = packages.licences([NAMED["asterisk-prompt-it-menardi-wav"]], parts)
    assert "http://www.voip.ammdomus.it" in text.split("copyright file")[0]
    assert any("ammdomus" in line for line in packages.credits_of(debspeech.PRESETS["core"]))
    assert packages.credits_of(debspeech.PRESETS["mini"]) == []


def test_a_finished_set_is_left_alone(made, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "nothing"))
    without_apt(monkeypatch, tmp_path / "bin")
    before = {path: path.stat().st_mtime_ns for path in made.rglob("*")}
    assert debspeech.prepare(made, "tiny") == made
    assert {path: path.stat().st_mtime_ns for path in made.rglob("*")} == before


def test_an_interrupted_one_goes_on_after_its_last_whole_package(made, deb_dir, tmp_path, monkeypatch):
    def stop_in_the_middle(clip, out, source, longest):
        if source == SPANISH and clip.key > "m":
            raise KeyboardInterrupt
        return clips.render(clip, out, source, longest)

    out = shutil.copytree(made, tmp_path / "tiny")
    shutil.rmtree(out / SPANISH)
    for name in ("summary.json", "manifest.jsonl", f".parts/{SPANISH}.json"):
        (out / name).unlink()
    with monkeypatch.context() as patch:
        patch.setattr(packages, "render", stop_in_the_middle)
        with pytest.raises(KeyboardInterrupt):
            debspeech.prepare(out, "tiny", deb_dir)
    assert 0 < len(list((out / SPANISH).iterdir())) < 278
    assert not (out / "manifest.jsonl").exists()
    before = {path: path.stat().st_mtime_ns for path in (out / ITALIAN).iterdir()}
    debspeech.prepare(out, "tiny", deb_dir)
    assert {path: path.stat().st_mtime_ns for path in (out / ITALIAN).iterdir()} == before
    assert files_below(out) == files_below(made)


def test_a_full_disk_is_one_line_and_nothing_is_lost(made, deb_dir, tmp_path):
    out = shutil.copytree(made, tmp_path / "tiny")
    (out / "summary.json").write_text('{"inputs": "others"}')
    (out / "manifest.jsonl.part").symlink_to("/dev/full")
    with pytest.raises(HarkError, match=os.strerror(errno.ENOSPC)):
        debspeech.prepare(out, "tiny", deb_dir)
    assert not (out / "summary.json").exists()
    (out / "manifest.jsonl.part").unlink()
    debspeech.prepare(out, "tiny", deb_dir)
    assert files_below(out) == files_below(made)


def test_a_folder_that_is_a_file_is_one_line(tmp_path, deb_dir, presets):
    (tmp_path / "x").write_text("")
    with pytest.raises(HarkError, match=f"{tmp_path / 'x'}: "):
        debspeech.prepare(tmp_path / "x", "tiny", deb_dir)


def test_unknown_preset_is_refused_with_the_nearest(tmp_path):
    with pytest.raises(HarkError, match=r"--preset ful: unknown; did you mean 'full'\?"):
        debspeech.prepare(tmp_path, "ful")


def test_every_package_is_pinned_and_presets_grow():
    used = packages.inputs([*PACKAGES, *noise.PACKAGES])
    assert used.keys() == PINS.keys()
    mini, core, full = ([p.name for p in debspeech.PRESETS[name]] for name in ("mini", "core", "full"))
    assert full[: len(core)] == core
    assert core[: len(mini)] == mini
    assert len(mini) == 6
    assert len(packages.inputs(debspeech.PRESETS["core"])) == 12
    assert set(full) - set(core) == {
        "tuxpaint-stamps-default",
        "klettres-data",
        "ktuberling-data",
        "gcin-voice",
    }
