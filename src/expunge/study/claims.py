"""Statements about a study's results that its seeds decide, or leave undecided."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from expunge.audits.backdoor import WORKS
from expunge.audits.statistics import paired_interval
from expunge.errors import ConfigError, nearest
from expunge.study.results import SETTING, with_average_gap

Verdict = Literal["holds", "fails", "undecided"]
KEYS = (*SETTING, "sparsity")
SIDE = re.compile(
    r"^\s*(?:(?P<score>\S.*?)\s+of\s+(?P<method>\S.*?))?\s*(?:\bat\s+(?P<at>.+?))?\s*$"
)
NUMBER = re.compile(r"\d*\.?\d+ ?%?")
HINT = "write one like `average gap of finetune at density 95 % omp < at density dense`"


@dataclass(frozen=True)
class Side:
    """One side of a claim: a score of a method, under some of the study's settings."""

    score: str
    method: str
    at: Mapping[str, str]

    @property
    def sparsity(self) -> float | None:
        """The sparsity that is asked for, in [0, 1]; None where none is."""
        text = self.at.get("sparsity")
        if text is None:
            return None
        return float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)


@dataclass(frozen=True)
class Claim:
    """`less` is smaller than `more`. text: as written."""

    text: str
    less: Side
    more: Side


@dataclass(frozen=True)
class Found:
    """What became of a claim: mean difference less - more over n pairs, its 95 % interval.

    "holds": the whole interval is below 0; "fails": above; "undecided": it holds 0, or there are
    fewer than two pairs. why: what was missing.
    """

    claim: Claim
    verdict: Verdict
    difference: float
    low: float
    high: float
    n: int
    why: str = ""


def parse_claim(text: str) -> Claim:
    """Read `SCORE of METHOD [at KEY VALUE, ...] < [SCORE of METHOD] [at KEY VALUE, ...]`.

    KEY is data, model, recipe, density, scenario or sparsity; on the right, what is left out is as
    on the left, and a value alone is of the left side's only key. Raises ConfigError.
    """
    sides = text.split("<")
    if len(sides) != 2:
        raise ConfigError(f"claim {text!r} compares nothing: {HINT}")
    left, right = (SIDE.match(side) for side in sides)
    if left is None or right is None or not left["score"]:
        raise ConfigError(f"claim {text!r} names no score of a method: {HINT}")
    at = _settings(text, left["at"], {})
    less = Side(left["score"], left["method"], at)
    changed = {**at, **_settings(text, right["at"], at)}
    more = Side(right["score"] or less.score, right["method"] or less.method, changed)
    if less == more:
        raise ConfigError(f"claim {text!r} compares something with itself: {HINT}")
    return Claim(text, less, more)


def _settings(text: str, at: str | None, left: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for part in (at or "").split(","):
        if not part.strip():
            continue
        key, _, value = part.strip().partition(" ")
        if key not in KEYS:
            if len(left) == 1:  # a value alone
                key, value = next(iter(left)), part.strip()
            else:
                raise ConfigError(
                    f"claim {text!r}: no setting {key!r}{nearest(key, KEYS)}; there are: "
                    f"{', '.join(KEYS)}"
                )
        if not value.strip():
            raise ConfigError(f"claim {text!r}: {key} has no value: {HINT}")
        if key == "sparsity" and not NUMBER.fullmatch(value.strip()):
            raise ConfigError(f"claim {text!r}: sparsity {value.strip()!r} is no number: {HINT}")
        found[key] = value.strip()
    return found


def judge(claim: Claim, frame: pd.DataFrame) -> Found:
    """Decide a claim by paired differences over what both sides have: seeds, and other settings.

    frame: as `results` returns it. Failed and unfinished rows are left out. Differences are averaged
    per seed first, so that only seeds count as independent.
    """
    whole = with_average_gap(frame)
    both = [_series(side, whole) for side in (claim.less, claim.more)]
    missing = [
        f"no {side.score} of {side.method} {_told(side)}".strip()
        + (" where the trigger worked before" if side.score.startswith("ASR") else "")
        for side, values in zip((claim.less, claim.more), both, strict=True)
        if not len(values)
    ]
    # a setting that the claim varies is no part of the pairing
    varied = {_column(key) for side in (claim.less, claim.more) for key in side.at}
    keys = [name for name in (*SETTING, "seed") if name not in varied]
    less, more = (values.groupby(keys, sort=False)["value"].mean() for values in both)
    apart = (less - more).replace([np.inf, -np.inf], np.nan).dropna()
    by_seed = apart.groupby("seed").mean() if len(apart) else apart
    n = len(by_seed)
    if missing or n < 2:
        why = "; ".join(missing) or f"{n} seed{'' if n == 1 else 's'} with both sides"
        mean = float(by_seed.mean()) if n else np.nan
        return Found(claim, "undecided", mean, np.nan, np.nan, n, why)
    mean, low, high = paired_interval(by_seed.tolist(), [0.0] * n)
    verdict: Verdict = "holds" if high < 0 else "fails" if low > 0 else "undecided"
    return Found(claim, verdict, mean, low, high, n)


def _series(side: Side, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows of one side."""
    chosen = frame[(frame["score"] == side.score) & (frame["method"] == side.method)]
    if side.score.startswith("ASR"):
        chosen = _where_it_worked(chosen, frame)
    for key, value in side.at.items():
        if key == "sparsity":
            chosen = chosen[[_is_sparsity(d, side.sparsity or 0.0) for d in chosen["density"]]]
        else:
            chosen = chosen[chosen[key].astype(str) == value]
    return chosen


def _where_it_worked(chosen: pd.DataFrame, frame: pd.DataFrame) -> pd.DataFrame:
    """The rows whose original called half of the triggered images the target, or more.

    Where a backdoor never worked, nothing can be said of its cleansing.
    """
    keys = [*SETTING, "seed"]
    before = frame[(frame["score"] == "ASR") & (frame["method"] == "original")]
    worked = before[before["value"] >= WORKS][keys]
    return chosen.merge(worked, on=keys, how="inner")


def _is_sparsity(label: str, asked: float) -> bool:
    """Of a density's label: `95 % omp` is 0.95, dense is 0; labels have six digits."""
    percent = 0.0 if label == "dense" else float(label.split(" ")[0])
    return math.isclose(percent, 100 * asked, rel_tol=1e-4, abs_tol=1e-6)


def _column(key: str) -> str:
    return "density" if key == "sparsity" else key


def _told(side: Side) -> str:
    return ", ".join(f"{key} {value}" for key, value in side.at.items())


def sentence(found: Found) -> str:
    """A claim and what became of it, in one line."""
    if found.why:
        return f"{found.claim.text}: undecided ({found.why})"
    return (
        f"{found.claim.text}: {found.verdict}, difference {found.difference:+.2f} "
        f"[{found.low:+.2f}, {found.high:+.2f}], n = {found.n}"
    )
