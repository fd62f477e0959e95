"""Claims decided by a study's seeds, or left undecided."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import pandas as pd

from expunge.scores.rows import SETTING
from expunge.scores.statistics import paired_interval
from expunge.scores.table import WORKS
from expunge.study.claims import Claim, Side
from expunge.study.results import with_average_gap

Verdict = Literal["holds", "fails", "undecided"]


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
