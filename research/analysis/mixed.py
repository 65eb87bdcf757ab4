"""What is wrong with runs only beside others: other code, other settings than the same factors say, other questions."""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import pandas as pd

from research.analysis.digest import Digest
from research.analysis.factors import OWN, decides

SHORT = 10  # characters of a commit


def tell(digests: Sequence[Digest], frame: pd.DataFrame, overrides: Sequence[str]) -> None:
    """Add to the problems of every run that differs from most in what should be the same for all."""
    there = [each for each in digests if each.config]
    codes = {each.run: code(each) for each in there}
    for each, most in unlike(codes, there):
        each.problems.append(f"code {codes[each.run]}, most have {most}")
    for probe in dict.fromkeys(name for each in there for name in each.asked):
        asked = {each.run: each.asked[probe] for each in there if probe in each.asked}
        for each, _ in unlike(asked, there):
            each.problems.append(f"{probe} was asked about other utterances than most runs'")
    for each in there:
        if OWN[0] not in each.config:
            each.problems.append("config.yaml has no run.seed")
    other_settings(there, frame, overrides)


def code(each: Digest) -> str:
    """Commit, and what its working tree had beside it."""
    return (each.commit[:SHORT] or "unknown") + (f"+{each.diff[:4]}" if each.diff else "")


def unlike(found: dict[str, str], digests: Sequence[Digest]) -> list[tuple[Digest, str]]:
    """Runs that do not have what most have, and what that is."""
    if len(set(found.values())) < 2:
        return []
    most = Counter(found.values()).most_common(1)[0][0]
    return [(each, most) for each in digests if found.get(each.run, most) != most]


def other_settings(digests: Sequence[Digest], frame: pd.DataFrame, overrides: Sequence[str]) -> None:
    """Tell runs that have the factors of others, but not all of their settings: defaults that changed in between."""
    levels = {row["run"]: str([row[key] for key in overrides]) for row in frame.to_dict("records")}
    keys = dict.fromkeys(key for each in digests for key in each.config if key not in OWN)
    groups: dict[str, list[Digest]] = {}
    for each in digests:
        groups.setdefault(levels[each.run], []).append(each)
    for group in groups.values():
        for key in keys:
            values = {each.run: str(each.config[key]) for each in group if key in each.config}
            others = unlike(values, group)
            for each, most in others if others and decides(key, group[0].config) else ():
                each.problems.append(f"{key}={values[each.run]}, others of the same factors have {most}")


def gaps(frame: pd.DataFrame) -> pd.DataFrame:
    """Runs that a full design would have: one row per combination of factor levels and seed that is not done.

    The factors and seed, `state` (`none` where no run is), and `problems`. A combination that has no run at all counts
    as not part of the design.
    """
    factors: list[str] = frame.attrs["factors"]
    seeds = sorted(frame["seed"].dropna().unique())
    rows: list[dict[str, Any]] = []
    groups = frame.groupby(factors, dropna=False, sort=False) if factors else [((), frame)]
    for levels, group in groups:
        for seed in seeds:
            mine = group[group["seed"] == seed]
            if (mine["state"] == "done").any():
                continue
            state = mine["state"].iloc[0] if len(mine) else "none"
            told = "; ".join(filter(None, mine["problems"]))
            rows.append(
                dict(zip(factors, levels, strict=True)) | {"seed": seed, "state": state, "problems": told}
            )
    return pd.DataFrame(rows, columns=[*factors, "seed", "state", "problems"])
