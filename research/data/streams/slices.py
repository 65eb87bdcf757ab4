"""An utterance -> the clips that are heard of it: windows, a part of each, at another speed; or nothing."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from research.config import Cut, Streams
from research.data.plan import Floats
from research.data.streams.clip import Clip, Format
from research.errors import HarkError

KEEP = "data.keep"  # a reason to leave an utterance out
DRAWS = 3  # random numbers that an utterance needs
LEAST = {
    "lanes": 1,
    "buffer": 1,
    "max_rows": 0,
    "quadratic_seconds": 0,
    "window_seconds": 0,
    "window_hop": 0,
    "truncate_seconds": 0,
}


class Slices:
    """What a config wants to be heard of an utterance. HarkError: what it wants makes no sense."""

    def __init__(self, cfg: Streams) -> None:
        check(cfg)
        self.cfg = cfg
        self.window, self.hop = cfg.window_seconds, cfg.window_hop or cfg.window_seconds
        self.asked = 0  # utterances
        self.left_out = Counter[str]()  # reason -> clips, of those that were asked for

    def of(self, clip: Clip, tags: Mapping[str, Any], draws: Sequence[float]) -> Iterator[Clip]:
        """Clips of an utterance. `draws` are DRAWS numbers in [0, 1)."""
        cfg = self.cfg
        self.asked += 1
        if cfg.keep and not self.kept(clip, tags):
            self.left_out[KEEP] += 1
            return
        for one in self.windows(clip) if 0 < self.window < clip.duration else (clip,):
            if 0 < cfg.truncate_seconds < one.duration:
                one = self.truncated(one, draws[0])  # noqa: PLW2901  the same clip, shorter
            if draws[1] < cfg.speed.prob:
                factor = cfg.speed.factors[int(draws[2] * len(cfg.speed.factors))]
                one = one._replace(speed=factor, duration=one.duration / factor)  # noqa: PLW2901
            if one.duration < cfg.min_seconds:
                self.left_out[under(cfg)] += 1
            elif one.duration > cfg.max_seconds:
                self.left_out[over(cfg)] += 1
            else:
                yield one

    def kept(self, clip: Clip, tags: Mapping[str, Any]) -> bool:
        known = {**tags, **facts(clip)}
        for key, wanted in self.cfg.keep.items():
            if known.get(key) not in (wanted if isinstance(wanted, list) else [wanted]):
                return False
        return True

    def windows(self, clip: Clip) -> Iterator[Clip]:
        """Windows up to the end of the utterance; the last one may be shorter."""
        whole, window, hop = clip.duration, self.window, self.hop
        for number in range(min(math.ceil((whole - window) / hop) + 1, math.ceil(whole / hop))):
            start = number * hop
            yield clip._replace(start=clip.start + start, duration=min(window, whole - start))

    def truncated(self, clip: Clip, place: float) -> Clip:
        size = self.cfg.truncate_seconds
        share = {Cut.start: 0.0, Cut.end: 1.0, Cut.random: place}[self.cfg.truncate]
        return clip._replace(start=clip.start + share * (clip.duration - size), duration=size)

    def pieces(self, whole: Floats) -> Floats:
        """Durations (s) of all windows of utterances (U,), truncated: (K,)."""
        x = whole
        if self.window:
            count = np.minimum(np.ceil((x - self.window) / self.hop) + 1, np.ceil(x / self.hop)).clip(1)
            rest = x - (count - 1) * self.hop  # (U,) of the last windows
            full = np.full(int((count - 1).sum()), self.window)
            x = np.concatenate([full, rest.clip(max=self.window)])
        return x.clip(max=self.cfg.truncate_seconds) if self.cfg.truncate_seconds else x

    def durations(self, whole: Floats) -> Floats:
        """Durations (s) of what may be heard of utterances (U,), at every speed: (K,)."""
        x, cfg = self.pieces(whole), self.cfg
        if cfg.speed.prob:
            speeds = cfg.speed.factors if cfg.speed.prob == 1 else [1.0, *cfg.speed.factors]
            x = np.concatenate([x / speed for speed in speeds])
        return x[(x >= cfg.min_seconds) & (x <= cfg.max_seconds)]

    def beyond(self, whole: Floats) -> dict[str, int]:
        """How many clips of utterances (U,) are too short or too long at their own speed, by reason."""
        x, cfg = self.pieces(whole), self.cfg
        short, long = int((x < cfg.min_seconds).sum()), int((x > cfg.max_seconds).sum())
        counts = {under(cfg): short, over(cfg): long}
        return {reason: count for reason, count in counts.items() if count}


def under(cfg: Streams) -> str:
    return f"under {cfg.min_seconds:g} s"


def over(cfg: Streams) -> str:
    return f"over {cfg.max_seconds:g} s"


def facts(clip: Clip) -> dict[str, Any]:
    """What the line of an utterance says; of a cut also what its first supervision and its custom fields say."""
    line: dict[str, Any] = json.loads(clip.line)
    if clip.format is not Format.cut:
        return line
    said = (line.get("supervisions") or [{}])[0]
    return {**said, **(said.get("custom") or {}), **line, **(line.get("custom") or {})}


def check(cfg: Streams) -> None:
    """HarkError names the first setting that makes no sense."""
    for name, least in LEAST.items():
        if getattr(cfg, name) < least:
            raise HarkError(f"data.{name}={getattr(cfg, name):g}: must be at least {least}")
    if cfg.keep is not None and not isinstance(cfg.keep, dict):
        raise HarkError(f"data.keep={cfg.keep}: must be values of keys, as {{lang:[en,de]}}")
    if cfg.window_hop and not cfg.window_seconds:
        raise HarkError(f"data.window_hop={cfg.window_hop:g}: needs data.window_seconds")
    speed = cfg.speed
    if not 0 <= speed.prob <= 1:
        raise HarkError(f"data.speed.prob={speed.prob:g}: must be from 0 to 1")
    if speed.prob and (not speed.factors or min(speed.factors) <= 0):
        raise HarkError(f"data.speed.factors={speed.factors}: must be speeds above 0, as [0.9,1.1]")
