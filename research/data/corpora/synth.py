"""Synthetic speech from pip alone: 12 languages, 20 voices, phone times. Never report its scores as speech."""

import zlib
from concurrent.futures import ProcessPoolExecutor
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from rich.progress import track

from research.data.corpora import audio, splits
from research.data.corpora.clips import Clip, save
from research.data.corpora.corpus import Part, Row, Splits, finish, is_whole, making, remember
from research.errors import HarkError

if TYPE_CHECKING:
    from faker import Faker

    from research.data.corpora.espeak import Espeak

SHARD = 100  # utterances for one fresh engine
WORKERS = 2
NUMBERS = 0.3  # share of sentences that end in a number
SOURCE = "espeak-ng"
LABELLED = "en"  # phone names mean different sounds in different languages: the probe gets one
LANGS = {  # of espeak-ng -> of Faker
    "en-us": "en_US",
    "de": "de_DE",
    "fr": "fr_FR",
    "es": "es_ES",
    "it": "it_IT",
    "ru": "ru_RU",
    "cs": "cs_CZ",
    "nl": "nl_NL",
    "pl": "pl_PL",
    "el": "el_GR",
    "da": "da_DK",
    "uk": "uk_UA",
}
VOICES = (
    "m1 m2 m3 m4 m5 m6 m7 f1 f2 f3 f4 f5 Andy Annie Michael Alicia Diogo Gene klatt2 klatt4".split()  # noqa: SIM905
)
NOTES = (
    "synthetic: its scores say nothing about speech",
    "sentences of phones_test are in neither train nor valid; those of phones_train are in train, without labels",
)
LICENCES = """# Licences

Rendered by espeak-ng {engine} (GPL-3.0-or-later, <https://github.com/espeak-ng/espeak-ng>) as packaged by
espeakng-loader, from random sentences of the word lists of Faker {words} (MIT, <https://github.com/joke2k/faker>).
"""


def prepare(out: Path, utterances: int) -> Path:
    """Make the synthetic corpus in `out` and give the folder: the same audio on every run.

    HarkError when the extra `synth` is not installed, or the disk is full.
    """
    if utterances < 1:
        raise HarkError(f"--utterances {utterances}: at least 1 is needed")
    inputs = versions() | {"utterances": str(utterances)}
    if not is_whole(out, inputs):
        with making(out):
            parts = make_shards(out, utterances, str(versions()))
            licences = LICENCES.format(engine=inputs["espeakng-loader"], words=inputs["faker"])
            finish(out, inputs=inputs, parts=parts, licences=licences, split=split, notes=NOTES)
    return out


def versions() -> dict[str, str]:
    try:
        return {name: version(name) for name in ("espeakng-loader", "faker")}
    except PackageNotFoundError as error:
        raise HarkError(f"{error.name} is not installed: pip install 'hark-ssl[synth]'") from None


def split(rows: list[Row]) -> Splits:
    """Of the American English sentences, three tenths test the phone probe and the others train it."""
    return splits.speech(rows, [row for row in rows if row["lang"] == LABELLED], test=0.3, train=0.7)


def make_shards(out: Path, utterances: int, key: str) -> list[Part]:
    """Render all shards, each in a process of its own."""
    (out / SOURCE).mkdir(exist_ok=True)
    shards = [range(start, min(start + SHARD, utterances)) for start in range(0, utterances, SHARD)]
    pool = ProcessPoolExecutor(WORKERS, mp_context=get_context("spawn"), max_tasks_per_child=1)
    with pool:
        done = pool.map(partial(shard, out, key), shards)
        return list(track(done, description="shards", total=len(shards)))


def shard(out: Path, key: str, numbers: range) -> Part:
    def make() -> Part:
        from research.data.corpora.espeak import Espeak  # noqa: PLC0415  of an extra

        engine = Espeak()
        return Part([utterance(engine, out, number) for number in numbers])

    return remember(out, f"{numbers.start:06d}", f"{key} {numbers}", make)


def utterance(engine: "Espeak", out: Path, number: int) -> Row:
    """Render one utterance, all of whose choices follow from its number."""
    lang, voice = list(LANGS)[number % len(LANGS)], VOICES[number // len(LANGS) % len(VOICES)]
    key = f"{lang}-{number:06d}"
    fake = faker(lang)
    fake.seed_instance(key)
    draw = fake.random
    text = fake.sentence(nb_words=draw.randint(5, 11))
    if draw.random() < NUMBERS:
        text = f"{text.rstrip('.')}, {draw.randrange(10 ** draw.randint(1, 5))}."
    engine.voice(f"{lang}+{voice}", draw.randint(140, 210), draw.randint(30, 70), draw.randint(30, 80))
    samples, phones = engine.say(text, zlib.crc32(key.encode()))  # (N,)
    wave = audio.standard(samples.astype(np.float32) / np.float32(32_768), engine.rate)  # (N,)
    clip = Clip(
        key=key,
        file="",
        data=samples.tobytes(),
        kind="synthetic",
        word="",
        lang=lang.split("-")[0],
        speaker=voice,
        text=text,
        phones=phones,
    )
    return save(wave * draw.uniform(0.3, 1.0), clip, out / SOURCE, key, engine.rate)


@cache
def faker(lang: str) -> "Faker":
    from faker import Faker  # noqa: PLC0415  of an extra

    return Faker(LANGS[lang])
