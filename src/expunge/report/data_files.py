"""The tables of scores for programs: CSV and JSON, unrounded."""

from __future__ import annotations

import json
import math
from typing import Any

import pandas as pd
from pandas.api.types import is_numeric_dtype

from expunge.names.text import clean
from expunge.report.cells import Mean, Seconds
from expunge.report.further import further_rows, spread_of
from expunge.report.score_tables import ScoreTables
from expunge.scores.gaps import ExcessGap
from expunge.scores.rows import ATTACK_SIZE, BOUND, FINDINGS_FILE, SAID, SET, SETTING
from expunge.scores.table import USUAL, score_infos

SCORES_FILE = (
    *SETTING,
    *("method", "seed", "score", "value", "low", "high", "n"),
    *(ATTACK_SIZE, BOUND, *SAID, "cell"),
)
"""The columns of every file of scores, before those of settings."""
SPREAD = ("mean", "sd", "low", "high", "n")
EXCESS = ("mean", "low", "high", "n")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")
"""What a formula begins with, to one spreadsheet or another."""


def scores_csv(frame: pd.DataFrame) -> str:
    """A row for each measured value, with the same columns whoever writes it: `SCORES_FILE`, empty
    where nothing is known, and then `set.NAME` for each setting of a method.
    """
    infos = score_infos(frame)
    settings = sorted(str(name) for name in frame.columns if str(name).startswith(SET))
    whole = frame.reindex(columns=[*SCORES_FILE, *settings])
    known = whole["score"].map(lambda name: infos.get(str(name)))
    whole = whole.assign(
        unit=known.map(lambda one: one and one.unit),
        target=known.map(lambda one: one and one.target),
    )
    return csv_text(whole)


def findings_csv(findings: pd.DataFrame) -> str:
    """A row for each finding of a score, with the columns of `FINDINGS_FILE`; p is empty where nobody
    knows it.
    """
    return csv_text(findings.reindex(columns=[*FINDINGS_FILE]))


def to_csv(tables: ScoreTables) -> str:
    """A row per scenario and method, one number per column (`UA_mean`, `UA_sd`, `UA_low`, ...); of each
    further score its mean, standard deviation and n, and where values are only bounds how many, and
    what their mean is.
    """
    table = pd.DataFrame(_flat(tables.rows))
    rest = further_rows(tables.frame)
    for score in rest["score"].unique():
        groups = rest[rest["score"] == score].groupby(["scenario", "method"])
        spreads = {key: spread_of(own, 0) for key, own in groups}
        columns: dict[str, list[Any]] = {
            f"{score}_mean": [one.mean for one in spreads.values()],
            f"{score}_sd": [one.sd for one in spreads.values()],
            f"{score}_n": [one.n for one in spreads.values()],
        }
        capped = [one.at_least + one.at_most for one in spreads.values()]
        if any(capped):
            columns[f"{score}_at_cap"] = capped
            columns[f"{score}_bound"] = [one.bound for one in spreads.values()]
        index = pd.MultiIndex.from_tuples(list(spreads), names=["scenario", "method"])
        numbers = pd.DataFrame(columns, index=index)
        table = table.merge(numbers, how="left", left_on=["scenario", "method"], right_index=True)
    return csv_text(table)


def csv_text(frame: pd.DataFrame) -> str:
    """A frame as CSV. A text that a spreadsheet would take for a formula begins with an apostrophe."""
    safe = frame.rename(columns=_inert)
    for place, (_, column) in enumerate(frame.items()):
        if not is_numeric_dtype(column):
            safe.isetitem(place, column.map(_inert, na_action="ignore").array)
    return safe.to_csv(index=False)


def _inert(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    return f"'{clean(value)}" if value.startswith(FORMULA) else clean(value)


def to_json(tables: ScoreTables) -> str:
    """`{"note": ..., "rows": [...]}`, cells as objects, nan as null."""
    rows = [
        {str(name): _plain(value) for name, value in record.items()}
        for record in tables.rows.to_dict("records")
    ]
    content = _finite({"note": tables.note, "rows": rows})
    return json.dumps(content, indent=2, allow_nan=False, ensure_ascii=False)


def _plain(value: Any) -> Any:
    """A cell as a mapping of its numbers; anything else as it is."""
    if isinstance(value, Mean):
        return {**{name: getattr(value, name) for name in SPREAD}, "gap": value.gap}
    if isinstance(value, Seconds):
        return {**{name: getattr(value, name) for name in SPREAD}, "gap": None}
    if isinstance(value, ExcessGap):
        return {"mean": value.value, "low": value.low, "high": value.high, "n": value.n}
    return value


def _flat(rows: pd.DataFrame) -> list[dict[str, Any]]:
    """Records with one number per column; every record has every column."""
    parts: dict[str, tuple[str, ...]] = {s: (*SPREAD, "gap") for s in USUAL if s in rows}
    parts |= {"RTE": SPREAD, "excess_gap": EXCESS}
    records = []
    for record in rows.to_dict("records"):
        numbers: dict[str, Any] = {}
        for name, value in record.items():
            if name in parts:
                known = {} if value is None else _plain(value)
                numbers |= {f"{name}_{part}": known.get(part) for part in parts[name]}
            else:
                numbers[str(name)] = value
        records.append(numbers)
    return records


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
