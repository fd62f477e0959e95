"""What a claim compares, pair by pair and seed by seed, and which seeds lack a side.

No seed vanishes: a run that diverged, failed or is not made, and a score that is undefined, are told.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from expunge.errors import listed
from expunge.scores.rows import ATTACK_SIZE, BOUND, FAILED, ORIGINAL, SETTING
from expunge.scores.table import AVERAGE_GAP, CRITERIA, DERIVED, WORKS, score_info
from expunge.study.cells import Row
from expunge.study.claims import Claim, Side

RunKey = tuple[Any, ...]
"""A setting and a seed."""


@dataclass(frozen=True)
class Differences:
    """Of one claim: seed -> mean difference, of the seeds that have all of both sides.

    of: seeds that were asked. lost: which of them lack a side and why, in words; empty: none. unfit:
    the same of those that the claim cannot be about, and which are no loss. capped: values at a cap.
    steps: seed -> by how much one sample moves its difference. series: the differences in the order of
    the seeds, up to the first that lacks a side; nan for those that are unfit.
    """

    by_seed: Mapping[int, float]
    of: int
    lost: str = ""
    unfit: str = ""
    capped: int = 0
    steps: Mapping[int, float] = field(default_factory=dict)
    series: Mapping[int, float] = field(default_factory=dict)

    @property
    def step(self) -> float:
        """The largest of the steps."""
        return max(self.steps.values(), default=0.0)


def differences(claim: Claim, frame: pd.DataFrame, rows: Sequence[Row]) -> Differences:
    """Left minus right, pair by pair of what both sides have, averaged within each seed.

    frame: with the derived scores. Only seeds count as independent. A setting in which nobody has the
    score is no part of the claim. Where a trigger did not work on the original, nothing can be said of
    its cleansing: such a seed is unfit.
    """
    sides = (claim.less, claim.more)
    # a setting that the claim varies is no part of the pairing
    varied = {_column(key) for side in sides for key in side.at}
    names = [name for name in (*SETTING, "seed") if name not in varied]
    planned = [_planned(side, rows, _settings_of(side.score, frame)) for side in sides]
    missing = [
        f"no {side.score} of {side.method} {_told(side)}".strip()
        for side, one in zip(sides, planned, strict=True)
        if not one
    ]
    asked = {key[-1] for one in planned for key in one}
    if missing:
        return Differences({}, len(asked), "; ".join(missing))
    values = [_values(side, frame) for side in sides]
    before = _triggers(frame) if claim.less.score.startswith("ASR") else None
    by_seed: dict[int, list[float]] = {}
    used: dict[int, list[_Value]] = {}
    lost: dict[int, str] = {}
    unfit: set[int] = set()
    for pair, (left, right) in _by_pair(planned, names).items():
        seed = pair[-1]
        if before is not None and all(before.get(key, WORKS) < WORKS for key in (*left, *right)):
            unfit.add(seed)
            continue
        problem = _problem(sides, (left, right), values, before, frame)
        if problem:
            lost.setdefault(seed, problem)
            continue
        less, more = ([values[at][key] for key in keys] for at, keys in ((0, left), (1, right)))
        used.setdefault(seed, []).extend((*less, *more))
        mean = np.mean([one.value for one in less]) - np.mean([one.value for one in more])
        by_seed.setdefault(seed, []).append(float(mean))
    means = {seed: float(np.mean(one)) for seed, one in by_seed.items() if seed not in lost}
    order = [seed for seed in dict.fromkeys(row.seed for row in rows) if seed in asked]
    kept = {seed: means[seed] for seed in order if seed in means}
    whole = itertools.takewhile(lambda seed: seed not in lost, order)
    never = {seed: "the trigger never worked before" for seed in unfit - {*kept, *lost}}
    return Differences(
        kept,
        len(asked),
        _by_reason(lost),
        _by_reason(never),
        capped=sum(one.capped for own in used.values() for one in own),
        steps={
            seed: max(one.step for one in own) / len(by_seed[seed]) for seed, own in used.items()
        },
        series={seed: kept.get(seed, math.nan) for seed in whole},
    )


@dataclass(frozen=True)
class _Value:
    """capped: it stands at its score's cap. m: what the membership attack was trained on, nan where that
    plays no part. step: by how much one sample moves it.
    """

    value: float
    capped: bool
    m: float
    step: float


def _planned(side: Side, rows: Iterable[Row], known: set[RunKey]) -> list[RunKey]:
    """Setting and seed of each row of one side, of the settings in which its score is known."""
    found = []
    for row in rows:
        setting = dict(zip(SETTING, row.setting, strict=True))
        if row.method == side.method and row.setting in known and is_at(side, setting):
            found.append((*row.setting, row.seed))
    return found


def is_at(side: Side, setting: Mapping[str, str]) -> bool:
    """Whether a setting, by `SETTING`'s names, is one that a side of a claim speaks of."""
    for key, value in side.at.items():
        if key == "sparsity":
            if not _is_sparsity(setting["density"], side.sparsity or 0.0):
                return False
        elif setting[key] != value:
            return False
    return True


def _settings_of(score: str, frame: pd.DataFrame) -> set[RunKey]:
    """Settings in which some method has this score."""
    own = frame.loc[frame["score"] == score, [*SETTING]].drop_duplicates()
    return {tuple(one) for one in own.astype(str).to_numpy().tolist()}


def _values(side: Side, frame: pd.DataFrame) -> dict[RunKey, _Value]:
    """By setting and seed."""
    own = frame[(frame["score"] == side.score) & (frame["method"] == side.method)]
    columns = own.reindex(columns=[*SETTING, "seed", "value", "n", BOUND, ATTACK_SIZE])
    attacked = side.score.startswith("MIA") or side.score == AVERAGE_GAP
    found = {}
    for row in columns.to_dict("records"):
        key = (*(str(row[name]) for name in SETTING), int(row["seed"]))
        m = float(row[ATTACK_SIZE]) if attacked and pd.notna(row[ATTACK_SIZE]) else math.nan
        step = _step(side.score, row["n"])
        found[key] = _Value(float(row["value"]), bool(pd.notna(row[BOUND])), m, step)
    return found


def _step(score: str, n: Any) -> float:
    """By how much one sample moves a score; 0 where it does not go in steps, or nobody knows them."""
    unit = "percent" if score in DERIVED else score_info(score).unit
    if unit == "steps":
        return 1.0
    counted = unit == "percent" and score not in CRITERIA  # those are shares of weights
    return 100 / float(n) if counted and pd.notna(n) and float(n) > 0 else 0.0


def _by_pair(
    planned: Sequence[Sequence[RunKey]], names: Sequence[str]
) -> dict[RunKey, tuple[list[RunKey], list[RunKey]]]:
    """What is paired -> the rows of both sides; the seed stands last."""
    places = [[*SETTING, "seed"].index(name) for name in names]
    found: dict[RunKey, tuple[list[RunKey], list[RunKey]]] = {}
    for at, keys in enumerate(planned):
        for key in keys:
            pair = tuple(key[place] for place in places)
            found.setdefault(pair, ([], []))[at].append(key)
    return found


def _problem(
    sides: tuple[Side, Side],
    pair: tuple[list[RunKey], list[RunKey]],
    values: Sequence[Mapping[RunKey, _Value]],
    before: Mapping[RunKey, float] | None,
    frame: pd.DataFrame,
) -> str:
    """Why a pair cannot be compared, in a few words; empty where it can."""
    sizes = set()
    for side, keys, known in zip(sides, pair, values, strict=True):
        if not keys:
            return f"{side.method} {_told(side)}".strip() + " has no such run"
        for key in keys:
            if before is not None and key not in before:
                return f"{ORIGINAL} {_state(ORIGINAL, key, frame)}"
            if before is not None and before[key] < WORKS:
                return "the trigger worked on one side alone before"
            if key not in known:
                return f"{side.method} {_state(side.method, key, frame)}"
            if not math.isfinite(known[key].value):
                return f"{side.score} of {side.method} is undefined"
            m = known[key].m
            sizes.add("unknown" if math.isnan(m) else f"{m:.0f}")
    if len(sizes) > 1:
        return f"the attack was trained on unequal numbers of samples (m = {listed(sorted(sizes))})"
    return ""


def _state(method: str, key: RunKey, frame: pd.DataFrame) -> str:
    """Whether a run that gave no score broke off, or is not made."""
    failed = frame[(frame["score"] == FAILED) & (frame["method"] == method)]
    keys = {
        (*(str(one) for one in setting), int(seed))
        for setting, seed in zip(
            failed[[*SETTING]].to_numpy().tolist(), failed["seed"], strict=True
        )
    }
    return "failed" if key in keys else "is not finished"


def _by_reason(seeds: Mapping[int, str]) -> str:
    """`finetune failed at seeds 1, 3; ...`."""
    reasons: dict[str, list[str]] = {}
    for seed, why in sorted(seeds.items()):
        reasons.setdefault(why, []).append(str(seed))
    return "; ".join(
        f"{why} at seed{'s' if len(of) > 1 else ''} {', '.join(of)}" for why, of in reasons.items()
    )


def _triggers(frame: pd.DataFrame) -> dict[RunKey, float]:
    """ASR of each original, by setting and seed, where it is known."""
    own = frame[(frame["score"] == "ASR") & (frame["method"] == ORIGINAL)].dropna(subset=["value"])
    return {
        (*(str(one) for one in key), int(seed)): float(value)
        for key, seed, value in zip(
            own[[*SETTING]].to_numpy().tolist(), own["seed"], own["value"], strict=True
        )
    }


def _is_sparsity(label: str, asked: float) -> bool:
    """Of a density's label: `95 % omp` is 0.95, dense is 0; labels have six digits."""
    percent = 0.0 if label == "dense" else float(label.split(" ")[0])
    return math.isclose(percent, 100 * asked, rel_tol=1e-4, abs_tol=1e-6)


def _column(key: str) -> str:
    return "density" if key == "sparsity" else key


def _told(side: Side) -> str:
    return ", ".join(f"{key} {value}" for key, value in side.at.items())


def finished_seeds(frame: pd.DataFrame, rows: Sequence[Row]) -> list[int]:
    """The first seeds of which every row is made or has failed, in their order."""
    made = {
        (*(str(one) for one in key[:-1]), int(key[-1]))
        for key in frame[[*SETTING, "method", "seed"]].drop_duplicates().to_numpy().tolist()
    }
    found = []
    for seed in dict.fromkeys(row.seed for row in rows):
        own = (row for row in rows if row.seed == seed)
        if not all((*row.setting, row.method, seed) in made for row in own):
            break
        found.append(seed)
    return found
