"""Runs without training, and what `hark extract` makes of them."""

import argparse
import json

import torch
from safetensors.torch import load_file

from research import runs
from research.compose import compose_config
from research.contracts import Batch, Seq
from research.data import audio
from research.engine.weights import MODEL
from research.evaluation.extract_encode import encode, still
from research.interop.load import load as open_checkpoint
from research.launch import extract_command
from research.model import assemble

TINY = ("encoder=fastconformer_tiny", "quantizer.codes=64", "data.train=[none.jsonl]")


def tiny_run(folder, *overrides):
    """An untrained run with one checkpoint."""
    composed = compose_config([*TINY, f"run.folder={folder}", *overrides])
    path = runs.create(composed.config, composed.choices, composed.overrides)
    file = path / "checkpoints" / "step_3" / MODEL
    file.parent.mkdir(parents=True)
    torch.save(assemble(composed.config).state_dict(), file)
    return path


def extract(run, source, out, *words):
    """`hark extract` in this process, in batches of a few utterances; give the folder."""
    parser = argparse.ArgumentParser()
    extract_command.add_arguments(parser)
    common = ["--out", out, "--batch-seconds", "15", "--workers", "0", "--device", "cpu"]
    extract_command.run(parser.parse_args([str(word) for word in (run, source, *common, *words)]))
    return out


def lines_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def facts_of(out):
    return json.loads((out / "features.json").read_text())


def clips(corpus, path, count=10):
    """A manifest of the shortest sentences of a corpus, and of three segments of one of its files."""
    lines = sorted(lines_of(corpus / "phones_test.jsonl"), key=lambda line: line["duration"])
    for line in lines:
        line["audio_filepath"] = str(corpus / line["audio_filepath"])
    long = {"audio_filepath": lines[count]["audio_filepath"], "duration": 0.7}
    parts = [long | {"offset": offset, "label": f"part {offset}"} for offset in (0.0, 0.5, 1.1)]
    chosen = [lines[7], *parts, *lines[:7], *lines[8:count]]
    path.write_text("".join(json.dumps(line) + "\n" for line in chosen))
    return path


def tensors(out):
    found = {}
    for path in sorted((out / "shards").iterdir()):
        found |= load_file(path)
    return found


def same(one, two):
    return one.keys() == two.keys() and all(torch.equal(value, two[key]) for key, value in one.items())


def alone(run, line, layers):
    """What the model makes of an utterance by itself: (L, T, D)."""
    upstream, _ = open_checkpoint(run)
    clip = audio.read(line["audio_filepath"], line.get("offset", 0.0), line["duration"], 16_000)
    wave = torch.from_numpy(clip.samples)[None]
    batch = Batch.clean(Seq(wave, torch.tensor([wave.size(1)])))
    with still(upstream):
        (found,) = encode(upstream, batch, layers)
    return found
