"""A study's finished cells as one long frame, and that frame as the papers' tables want it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from expunge.audits import AUDITS
from expunge.audits.relearn import RelearnTime
from expunge.scores.gaps import own_gaps
from expunge.scores.rows import ATTACK_SIZE, BOUND, FLOOR, ORIGINAL, RETRAIN, SAID, SET, SETTING
from expunge.scores.table import AVERAGE_GAP, AVERAGED, CHANGES, SCORES, own_words
from expunge.study.cells import Cell, Row
from expunge.study.scenarios import scenario_of
from expunge.study.store import CellStore

RELEARN_CAP = RelearnTime().cap


def results(rows: Sequence[Row], store: CellStore) -> pd.DataFrame:
    """One row per setting, method, seed and score: value, 95 % interval (low, high) and n.

    `RTE` is in seconds, and the original has none, for nothing was done to it; the other scores are as
    `audit` has them. A row whose cell is not finished is left out; one that failed, or needs one that
    did, has the score "failed" alone, without a value. Further scores of the retrained model are those
    that the others were compared with. m: of the membership attack. Where some values are no more than
    a cap ("at least", "at most"), `bound` says so. Where there are scores that this package does not
    know, their rows say unit and target.
    """
    compared = _compared()
    found: list[dict[str, Any]] = []
    beside: dict[str, dict[str, Any]] = {}
    for row in rows:
        common = {
            **dict(zip(SETTING, row.setting, strict=True)),
            "method": row.method,
            "seed": row.seed,
            "cell": row.cell,
        }
        if not store.done(row.cell):
            others = (row.base, row.retrain, row.pair)
            needed = [key for key in others if key and not store.done(key)]
            if any(store.failure(key) is not None for key in (row.cell, *needed)):
                found.append({**common, "score": "failed", "value": np.nan})
            continue
        content = store.read(row.cell)
        for score in content["scores"]:
            kept = {name: score.get(name) for name in ("value", "low", "high", "n", BOUND)}
            kept |= {ATTACK_SIZE: (score.get("detail") or {}).get(ATTACK_SIZE)}
            kept |= _capped_of_old(score)
            if row.method == FLOOR and score["name"] == "weight_distance":
                kept |= _distance_floor(score)
            said = own_words(score["name"], score.get("unit"), score.get("target"))
            found.append({**common, "score": score["name"], **kept, **said})
            further = score["name"] in compared or score["name"] not in SCORES
            if further and (theirs := _reference(score)):
                one = {"score": score["name"], "n": score["n"], **theirs, **said}
                beside.setdefault(row.retrain, {})[score["name"]] = one
        if row.method != ORIGINAL:
            found.append({**common, "score": "RTE", "value": content["cost"]["seconds"], "n": 1})
    for row in rows:
        if row.method == "retrain":
            for one in beside.get(row.cell, {}).values():
                setting = dict(zip(SETTING, row.setting, strict=True))
                found.append(
                    {**setting, "method": "retrain", "seed": row.seed, "cell": row.cell, **one}
                )
    columns = [*SETTING, "method", "seed", "score", "value", "low", "high", "n", "cell"]
    columns += [name for name in SAID if any(name in row for row in found)]
    columns += [
        name for name in (ATTACK_SIZE, BOUND) if any(row.get(name) is not None for row in found)
    ]
    frame = pd.DataFrame(found, columns=columns)
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _distance_floor(score: Mapping[str, Any]) -> dict[str, Any]:
    """What is there when nothing is forgotten: of a paired distance alone, for another retraining's is
    that of two draws of initial weights.
    """
    floor = (score.get("detail") or {}).get("floor")
    relative = floor.get("relative") if isinstance(floor, Mapping) else None
    return {"value": float(relative) if isinstance(relative, int | float) else math.nan}


def _reference(score: Mapping[str, Any]) -> dict[str, Any]:
    """What the retrained model had; empty where it was not known."""
    if score.get("reference") is not None:
        return {"value": score["reference"], BOUND: score.get("reference_bound")}
    if (score.get("detail") or {}).get("retrained_reached") is False:  # of an earlier version
        return {"value": float(RELEARN_CAP), BOUND: "at least"}
    return {}


def _capped_of_old(score: Mapping[str, Any]) -> dict[str, Any]:
    """A relearn time of earlier versions, which had no value where it ended at its cap."""
    detail = score.get("detail") or {}
    if score.get("value") is not None or detail.get("reached") is not False:
        return {}
    return {"value": float(RELEARN_CAP), BOUND: "at least"}


def _compared() -> set[str]:
    """Scores that an audit compares by itself; a ratio to the retrained model is 1 for that one."""
    own = (audit for audit in AUDITS.values() if not audit.usual)
    return {info.name for audit in own for info in audit.info if info.unit != "ratio"}


def with_settings(frame: pd.DataFrame, cells: Sequence[Cell]) -> pd.DataFrame:
    """The frame of `results`, and a column `set.NAME` for each setting of a row's method."""
    settings = {cell.key: cell.config.get("settings") or {} for cell in cells}
    names = sorted({name for key in frame["cell"].unique() for name in settings.get(key, {})})
    found = {
        f"{SET}{name}": [settings.get(key, {}).get(name) for key in frame["cell"]] for name in names
    }
    return pd.concat([frame, pd.DataFrame(found, index=frame.index, dtype=object)], axis="columns")


def for_tables(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns scenario, method, seed, score, value that `report.tables` takes, and those of SAID.

    The scenario's name says what else differs between the parts of the study. A failed row counts
    as a missing value of every score that its method has elsewhere.
    """
    columns = ["scenario", "method", "seed", "score", "value"]
    long = frame.assign(scenario=table_names(frame, frame))[
        [*columns, *(name for name in (*SAID, ATTACK_SIZE, BOUND) if name in frame)]
    ]
    failed = long["score"] == "failed"
    filled = long[failed].assign(score="UA")
    return pd.concat([long[~failed], filled], ignore_index=True)


def table_names(rows: pd.DataFrame, frame: pd.DataFrame) -> pd.Series[str]:
    """What the tables of a frame call the scenario of each of some rows."""
    differing = [name for name in SETTING if name != "scenario" and frame[name].nunique() > 1]
    named = rows["scenario"].map(lambda text: scenario_of(text).told(text))
    for name in differing:
        named = named + ", " + rows[name].astype(str)
    return named


def with_derived(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, and for each row the scores of `DERIVED`."""
    return pd.concat([with_average_gap(frame), *_changes(frame)], ignore_index=True)


def _changes(frame: pd.DataFrame) -> Iterator[pd.DataFrame]:
    """Of each method but the original: scores minus its original's."""
    keys = [*SETTING, "seed"]
    for name, score in CHANGES.items():
        own = frame[frame["score"] == score]
        before = own[own["method"] == ORIGINAL].set_index(keys)["value"]
        after = own[own["method"] != ORIGINAL]
        if len(before) and len(after):
            start = before.reindex(pd.MultiIndex.from_frame(after[keys])).to_numpy()
            change = after["value"].to_numpy() - start
            yield after.assign(score=name, value=change, low=np.nan, high=np.nan)


def with_average_gap(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, and for each row the score "average gap", with the m of its MIA.

    It is the mean of |score - the retrained model's of the same setting and seed| over UA, MIA, RA
    and TA; for the retrained model itself there is none.
    """
    keys = [*SETTING, "seed"]
    wide = frame[frame["score"].isin(AVERAGED)].pivot_table(
        index=[*keys, "method"], columns="score", values="value", sort=False
    )
    if not set(AVERAGED) <= set(wide.columns) or RETRAIN not in wide.index.unique("method"):
        return frame
    retrain = wide[wide.index.get_level_values("method") == RETRAIN].droplevel("method")
    apart = wide.drop(RETRAIN, level="method").reset_index("method")
    apart = apart[apart.index.isin(retrain.index)]
    gaps = own_gaps(apart, retrain)
    extra = apart[["method"]].assign(value=gaps.to_numpy(), score=AVERAGE_GAP).reset_index()
    if ATTACK_SIZE in frame:
        sizes = frame[frame["score"] == "MIA"][[*keys, "method", ATTACK_SIZE]]
        extra = extra.merge(sizes, on=[*keys, "method"], how="left")
    if "n" in frame:  # one sample of the smallest part moves the mean by 100 / n points
        least = frame[frame["score"].isin(AVERAGED)].groupby([*keys, "method"], as_index=False)
        sizes = least["n"].min().assign(n=lambda of: len(AVERAGED) * of["n"])
        extra = extra.merge(sizes, on=[*keys, "method"], how="left")
    return pd.concat([frame, extra], ignore_index=True)
