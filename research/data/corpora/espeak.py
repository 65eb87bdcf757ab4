"""espeak-ng 1.52 through ctypes: text -> 16-bit audio and phones with times. Needs the extra `synth`."""

import ctypes
import tempfile
from pathlib import Path
from typing import Any

import espeakng_loader
import numpy as np
from numpy.typing import NDArray

from research.data.corpora.clips import Segment
from research.errors import HarkError

SYNCHRONOUS, PHONEME_EVENTS, NO_EXIT, UTF8 = 2, 0x0001, 0x8000, 1
RATE, PITCH, RANGE = 1, 3, 4  # parameters
LIST_END, END, PHONEME = 0, 5, 7  # events
LONGEST_PATH = 150  # espeak-ng fails on data paths of 160 characters and more
PAUSE = "pau"


class Label(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("id", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("label", Label),
    ]


CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(Event))


class Espeak:
    """One engine per process. What it says depends on all it said before: fixed texts want a fresh process."""

    def __init__(self) -> None:
        self.espeak: Any = ctypes.CDLL(espeakng_loader.get_library_path())
        data = espeakng_loader.get_data_path()
        if len(data) > LONGEST_PATH:
            self.short = tempfile.TemporaryDirectory()
            link = Path(self.short.name) / "espeak-ng-data"
            link.symlink_to(data)
            data = str(link)
        self.rate = int(
            self.espeak.espeak_Initialize(SYNCHRONOUS, 0, data.encode(), PHONEME_EVENTS | NO_EXIT)
        )
        if self.rate <= 0:
            raise HarkError(f"{data}: espeak-ng cannot use its data; install espeakng-loader again")
        self.audio: list[NDArray[np.int16]] = []
        self.marks: list[tuple[int, str]] = []  # sample, phone mnemonic; "" where a clause ends
        self._callback = CALLBACK(self._receive)  # kept, or it would be collected
        self.espeak.espeak_SetSynthCallback(self._callback)

    def _receive(self, samples: Any, count: int, events: Any) -> int:
        if samples and count > 0:
            self.audio.append(np.ctypeslib.as_array(samples, (count,)).copy())
        i = 0
        while events[i].type != LIST_END:
            if events[i].type in (END, PHONEME):
                name = events[i].label.string.decode("utf8", "replace") if events[i].type == PHONEME else ""
                self.marks.append((events[i].sample, name))
            i += 1
        return 0

    def voice(self, name: str, rate: int, pitch: int, pitch_range: int) -> None:
        """Choose language and variant (`en-us+m3`), words a minute, pitch and its range (0 to 100)."""
        if self.espeak.espeak_SetVoiceByName(name.encode()):
            raise HarkError(f"espeak-ng has no voice {name}")
        for parameter, value in ((RATE, rate), (PITCH, pitch), (RANGE, pitch_range)):
            self.espeak.espeak_SetParameter(parameter, value, 0)

    def say(self, text: str, seed: int) -> tuple[NDArray[np.int16], list[Segment]]:
        """Give audio (N,) at `self.rate`, and phones: stress marks left out, every kind of pause a `pau`."""
        self.audio, self.marks = [], []
        self.espeak.espeak_ng_SetRandSeed(ctypes.c_long(seed))
        data = text.encode() + b"\0"
        self.espeak.espeak_Synth(data, ctypes.c_size_t(len(data)), 0, 1, 0, UTF8, None, None)
        audio = np.concatenate([*self.audio, np.zeros(0, np.int16)])  # (N,)
        ends = [sample for sample, _ in self.marks[1:]] + [len(audio)]
        phones = [
            (
                round(start / self.rate, 4),
                round(end / self.rate, 4),
                PAUSE if name.startswith("_") else name.lstrip("',"),
            )
            for (start, name), end in zip(self.marks, ends, strict=True)
            if name and end > start
        ]
        return audio, phones
