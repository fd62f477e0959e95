"""The papers' table of scores: one row per method, each cell read against retraining.

The input is a long frame with the columns scenario, method, seed, score and value, one row per
measured value. Scores are UA, RA, TA, MIA (percent), TA_forget (percent, optional) and RTE
(seconds); three methods are not methods: "original" (nothing done), "retrain" (the target) and
"floor" (a second retraining of each seed, which shows how far two retrainings lie apart). A value
that is missing or not finite counts as a failed run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from pandas.api.types import is_numeric_dtype

from expunge.errors import ConfigError
from expunge.names.text import clean_name
from expunge.report.cells import Mean, Seconds
from expunge.scores.gaps import ExcessGap, average_gap, beyond_floor, gap, own_gaps
from expunge.scores.rows import (
    ATTACK_SIZE,
    CONTROLS,
    FLOOR,
    NO_METHODS,
    ORIGINAL,
    RETRAIN,
    ordered_methods,
)
from expunge.scores.statistics import mean_sd, paired_interval, student_interval
from expunge.scores.table import AVERAGED, SCORES, USUAL

FRAME_COLUMNS = ("scenario", "method", "seed", "score", "value")
"""The columns of a frame of scores, from which tables are made."""
Pair = tuple[list[float], list[float]]


def papers_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario and method: original, retrain and floor first, then as they came.

    Columns: scenario, method, seeds (with a usable value of any score), failed (seeds with an
    unusable one), a `Mean` or None under UA, MIA, RA, TA and TA_forget (if anywhere present),
    avg_gap (float, nan when one of the four is missing), seed_gap (mean over seeds of each one's own
    average gap; larger, where a seed's gaps have both signs), excess_gap (`ExcessGap` or None: needs
    retrain and floor at the same seeds), RTE (`Seconds` or None), rte_ratio (mean RTE over
    retrain's, nan without), m (what the membership attack was trained on, None where unknown),
    nearest (True for the smallest average gap among the methods of a scenario that have all seeds),
    equalled_by (the rows that do next to nothing and are not shown to be farther from retrain than
    this method), best (nearest, and equalled by none of them).

    Raises:
        ConfigError: if a column is missing, there are no rows, or a value stands twice.
    """
    _check(frame)
    scores = score_columns(frame)
    rows: list[dict[str, Any]] = []
    for scenario, part in frame.groupby("scenario", sort=False):
        here = _rows(part, scores)
        most = max(row["seeds"] for row in here)
        ranked = [
            row
            for row in here
            if row["method"] not in NO_METHODS
            and not row["failed"]
            and row["seeds"] == most
            and not math.isnan(row["avg_gap"])
        ]
        least = min((row["avg_gap"] for row in ranked), default=math.nan)
        for row in ranked:  # by the gap of means too, which tables print
            nearer = [
                other["method"]
                for other in here
                if other["method"] in (ORIGINAL, *CONTROLS) and other["avg_gap"] <= row["avg_gap"]
            ]
            row["equalled_by"] = tuple(dict.fromkeys((*row["equalled_by"], *nearer)))
        rows += [
            {
                "scenario": scenario,
                **row,
                "nearest": nearest,
                "best": nearest and not row["equalled_by"],
            }
            for row in here
            for nearest in [row in ranked and row["avg_gap"] == least]
        ]
    names = ["scenario", "method", "seeds", "failed", *scores]
    names += ["avg_gap", "seed_gap", "excess_gap", "RTE", "rte_ratio", "m"]
    names += ["nearest", "equalled_by", "best"]
    # Columns of objects: pandas would turn a None beside a number into a nan.
    return pd.DataFrame({name: pd.Series([r[name] for r in rows], dtype=object) for name in names})


def note(frame: pd.DataFrame) -> str:
    """One line that states n and what the signs in the table mean; of absent ones it is silent."""
    return note_of(papers_table(frame))


def note_of(table: pd.DataFrame) -> str:
    """The same of a table that `papers_table` has made."""
    counts = sorted(table["seeds"].unique())
    n = " to ".join(str(count) for count in dict.fromkeys([counts[0], counts[-1]]))
    spread = "mean ± standard deviation over seeds" if counts[-1] > 1 else "values of one run"
    text = f"n = {n} {'seed' if n == '1' else 'seeds'}. Scores are percent: {spread}"
    if table["avg_gap"].notna().any():
        text += (
            "; in brackets the gap, the absolute difference to the mean of retrain. avg gap: mean "
            f"of these gaps over {', '.join(AVERAGED)}, so a gap of means, as papers print it"
        )
    else:
        text += "; gaps need the four scores of a retrained model"
    text += "."
    if table["excess_gap"].notna().any():
        text += (
            " excess gap: per seed, that seed's own average gap to its retrain minus that of floor, "
            "a second retrain; mean and paired 95 % interval (one that holds 0 is undecided)."
        )
    if table["RTE"].notna().any():
        text += " RTE: seconds inside the method."
    if table["m"].notna().any():
        sizes = sorted({int(size) for size in table["m"].dropna()})
        told = " to ".join(f"{size:,}" for size in dict.fromkeys([sizes[0], sizes[-1]]))
        text += (
            f" MIA: by an attack trained on m = {told} members and as many others; it depends on m."
        )
    if set(CONTROLS) & set(table["method"]):
        text += (
            f" {' and '.join(CONTROLS)} are controls that do next to nothing, as original does nothing: "
            "a method that is not shown to be nearer to retrain than each of these is not praised."
        )
    return text


def bold_note(methods: Iterable[str]) -> str:
    """What a bold row is, in a sentence that goes after the note. methods: all rows of the table."""
    if set(CONTROLS) & set(methods):
        return " Bold: the method with the smallest average gap, if it beats every control."
    return " Bold: the method with the smallest average gap; no controls stand beside it."


def score_columns(frame: pd.DataFrame) -> list[str]:
    """The percent scores a table of this frame shows, in order."""
    return [*AVERAGED, *(["TA_forget"] if "TA_forget" in set(frame["score"]) else [])]


def _check(frame: pd.DataFrame) -> None:
    missing = [name for name in FRAME_COLUMNS if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"the frame of scores needs the columns {', '.join(FRAME_COLUMNS)}; "
            f"missing: {', '.join(missing)}"
        )
    if not len(frame):
        raise ConfigError("the frame of scores has no rows: there is nothing to report")
    key = ["scenario", "method", "seed", "score"]
    twice = frame[frame.duplicated(key)]
    if len(twice):
        first = ", ".join(f"{name} {twice.iloc[0][name]}" for name in key)
        raise ConfigError(f"the frame of scores holds two values for {first}: keep one of them")


def _rows(part: pd.DataFrame, scores: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of one scenario."""
    runs = _runs(part)
    retrain, floor = runs.get(RETRAIN), runs.get(FLOOR)
    retrain_time = None if retrain is None else _seconds(retrain)
    own = {} if retrain is None else {name: own_gaps(one, retrain) for name, one in runs.items()}
    rows = []
    for method, values in runs.items():
        target = None if method == RETRAIN else retrain
        pairs = {score: _pair(values, target, score) for score in scores}
        time = _seconds(values)
        row: dict[str, Any] = {
            "method": method,
            "seeds": int(values.notna().any(axis="columns").sum()),
            "failed": _failed(part[part["method"] == method]),
            **{score: _mean(values, score, pairs[score]) for score in scores},
            "avg_gap": _average_gap(pairs),
            "seed_gap": math.nan if target is None else _mean_own_gap(values, target),
            "excess_gap": None if method == FLOOR else _excess_gap(values, target, floor),
            "RTE": time,
            "rte_ratio": math.nan,
            "m": _attack_size(part[part["method"] == method]),
            "equalled_by": () if method in NO_METHODS else _equalled_by(method, own),
        }
        if time and retrain_time and retrain_time.mean > 0:
            row["rte_ratio"] = time.mean / retrain_time.mean
        rows.append(row)
    return rows


def _equalled_by(method: str, own: Mapping[str, pd.Series[float]]) -> tuple[str, ...]:
    """The controls, and the original, that are not shown to be farther from retraining.

    Shown is it by the paired 95 % interval over all seeds of the method: one seed shows nothing, nor
    does a control that failed at some. own: each row's own average gaps, by seed.
    """
    ours = own[method].dropna() if method in own else None
    if ours is None or not len(ours):
        return ()
    found = []
    for control in (ORIGINAL, *CONTROLS):
        if control not in own:
            continue
        theirs = own[control].reindex(ours.index)
        _, _, high = paired_interval(ours.tolist(), theirs.tolist())
        if not high < 0:  # nan where a seed is missing, or is the only one
            found.append(control)
    return tuple(found)


def _attack_size(rows: pd.DataFrame) -> int | None:
    if ATTACK_SIZE not in rows:
        return None
    known = rows.loc[rows["score"] == "MIA", ATTACK_SIZE].dropna()
    return int(known.iloc[0]) if len(known) else None


def _runs(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each method in one scenario: a row per seed, a column per score, nan where unusable."""
    found = {}
    for name in ordered_methods(part["method"].tolist()):
        own = part[part["method"] == name].pivot(index="seed", columns="score", values="value")
        found[name] = own.astype(float).replace([np.inf, -np.inf], np.nan)
    return found


def clean_frame(frame: pd.DataFrame) -> pd.DataFrame:
    """The same, its texts fit for every file and figure: names of one line, without odd signs."""
    cleaned = frame.copy(deep=False)
    for place, (_, column) in enumerate(frame.items()):
        if not is_numeric_dtype(column):
            names = column.map(lambda one: clean_name(one) if isinstance(one, str) else one)
            cleaned.isetitem(place, names.array)
    return cleaned


def _failed(runs: pd.DataFrame) -> int:
    """How many seeds hold a usual score that is missing or not finite; others may be undefined."""
    usual = runs["score"].isin(USUAL)
    unusable = usual & ~np.isfinite(runs["value"].astype(float))
    return int(runs.loc[unusable, "seed"].nunique())


def _mean(values: pd.DataFrame, score: str, pair: Pair | None) -> Mean | None:
    found = _column(values, score)
    if not len(found):
        return None
    mean, low, high = student_interval(found)
    least, most = SCORES[score].limits or (-math.inf, math.inf)  # a share leaves neither end
    low, high = max(low, least), min(high, most)
    apart = None if pair is None else gap(*pair).value
    decimals = SCORES[score].decimals
    sd = mean_sd(found)[1]
    return Mean(mean, sd, low, high, len(found), apart, 1 if decimals is None else decimals)


def _seconds(values: pd.DataFrame) -> Seconds | None:
    found = _column(values, "RTE")
    if not len(found):
        return None
    mean, low, high = student_interval(found)
    return Seconds(mean, mean_sd(found)[1], low, high, len(found))


def _pair(values: pd.DataFrame, retrain: pd.DataFrame | None, score: str) -> Pair | None:
    """A score and the retrained model's over the seeds that both have; None without any."""
    if retrain is None or score not in values.columns or score not in retrain.columns:
        return None
    ours = values[score].to_numpy(dtype=np.float64)
    theirs = retrain[score].reindex(values.index).to_numpy(dtype=np.float64)
    both = ~(np.isnan(ours) | np.isnan(theirs))
    return (ours[both].tolist(), theirs[both].tolist()) if both.any() else None


def _average_gap(pairs: dict[str, Pair | None]) -> float:
    """Nan unless all averaged scores have a gap."""
    known = {score: pair for score, pair in pairs.items() if pair is not None}
    if not set(AVERAGED) <= set(known):
        return math.nan
    ours, theirs = ({score: pair[side] for score, pair in known.items()} for side in (0, 1))
    return average_gap(ours, theirs).value


def _column(values: pd.DataFrame, score: str) -> list[float]:
    """The usable values of a score over seeds; none if the score is absent."""
    series = values[score].dropna() if score in values.columns else pd.Series(dtype=float)
    return series.to_numpy(dtype=np.float64).tolist()


def _mean_own_gap(values: pd.DataFrame, retrain: pd.DataFrame) -> float:
    """Mean over the seeds at which both have all four scores; nan without any."""
    return float(own_gaps(values, retrain).dropna().mean())


def _excess_gap(
    values: pd.DataFrame, retrain: pd.DataFrame | None, floor: pd.DataFrame | None
) -> ExcessGap | None:
    """Over the seeds at which method, retrain and floor have all four scores."""
    if retrain is None or floor is None:
        return None
    of_method, of_floor = own_gaps(values, retrain), own_gaps(floor, retrain)
    both = pd.concat([of_method, of_floor], axis="columns", join="inner").dropna()
    if not len(both):
        return None
    return beyond_floor(*(both.iloc[:, side].tolist() for side in (0, 1)))
