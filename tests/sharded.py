"""A manifest written anew as a Shar and as tars with their manifests, and what a rank hears of it."""

import io
import json
import multiprocessing
import tarfile
from itertools import islice

import soundfile

from research.compose import compose_config
from research.engine.gangs import start
from research.training.loop import open_source

SIZE = 16  # utterances per shard


def lines_of(manifest):
    return [json.loads(line) for line in manifest.read_text().splitlines()]


def as_shar(manifest, folder):
    from lhotse import CutSet, MonoCut, Recording

    cuts = []
    for number, line in enumerate(lines_of(manifest)):
        recording = Recording.from_file(line["audio_filepath"], recording_id=f"r{number}")
        start, duration = line.get("offset", 0.0), line["duration"]
        cuts.append(
            MonoCut(f"u{number}", start, min(duration, recording.duration - start), 0, recording=recording)
        )
    folder.mkdir()
    CutSet(cuts).to_shar(folder, fields={"recording": "flac"}, shard_size=SIZE)
    return folder


def as_tars(manifest, folder):
    (folder / "sharded_manifests").mkdir(parents=True)
    lines = lines_of(manifest)
    for shard in range(-(-len(lines) // SIZE)):
        made = []
        with tarfile.open(folder / f"audio_{shard}.tar", "w") as tar:
            for number in range(SIZE * shard, min(SIZE * (shard + 1), len(lines))):
                line = lines[number]
                rate = soundfile.info(line["audio_filepath"]).samplerate
                begin = round(line.get("offset", 0.0) * rate)
                wave, _ = soundfile.read(
                    line["audio_filepath"],
                    start=begin,
                    stop=begin + round(line["duration"] * rate),
                    dtype="int16",
                )
                held = io.BytesIO()
                soundfile.write(held, wave, rate, format="FLAC")
                info = tarfile.TarInfo(f"u{number}.flac")
                info.size = len(held.getvalue())
                held.seek(0)
                tar.addfile(info, held)
                made.append({"audio_filepath": info.name, "duration": len(wave) / rate, "shard_id": shard})
        manifest_of = folder / "sharded_manifests" / f"manifest_{shard}.json"
        manifest_of.write_text("".join(json.dumps(line) + "\n" for line in made))
    return folder


def source_of(kind, train, ranks=None, *overrides):
    """Open a source: `plan`, or anything else by lanes."""
    how = ("data=manifest",) if kind == "plan" else ("data=lhotse", "data.lanes=3", "data.buffer=20")
    common = (
        f"data.train=[{train}]",
        "data.batch_seconds=8",
        "data.buckets=3",
        "data.workers=0",
        "data.reader=torch",
    )
    ranks = ranks or start("cpu")
    batches = f"train.batches={ranks.size}"
    return open_source(compose_config([*how, *common, batches, *overrides]).config, ranks)


def read(source, count, step=0, state=()):
    """Ids of a rank's batches."""
    return [ids for ids, _ in read_and_keep(source, count, step, state)]


def read_and_keep(source, count, step=0, state=()):
    """Ids of a rank's batches, each with what a checkpoint after it keeps."""
    batches = source.train(step, list(state))
    found = [(fed.batch.ids, source.state()) for fed in islice(batches, count)]
    batches.close()
    return found


def share(ranks, folder, trains, workers, count):
    """What one of several ranks hears of some sources, what it keeps half-way, and what it hears from there on."""
    multiprocessing.set_start_method("fork", force=True)  # of readers: ranks of a run have it too
    told = {}
    for kind, train in trains.items():
        source, again = (source_of(kind, train, ranks, f"data.workers={workers}") for _ in range(2))
        first, states = zip(*read_and_keep(source, count), strict=True)
        told[kind] = {"first": first, "states": states, "then": read(again, count, count, states[-1])}
    (folder / f"{ranks.rank}.json").write_text(json.dumps(told))
