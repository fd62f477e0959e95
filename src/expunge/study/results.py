"""A study's finished cells as one long frame, and that frame as the papers' tables want it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from expunge.audits import AUDITS
from expunge.scores.gaps import own_gaps
from expunge.scores.rows import RETRAIN, SAID, SETTING
from expunge.scores.table import AVERAGED, SCORES, own_words
from expunge.study.cells import Row
from expunge.study.scenarios import scenario_of
from expunge.study.store import CellStore

AVERAGE_GAP = "average gap"


def results(rows: Sequence[Row], store: CellStore) -> pd.DataFrame:
    """One row per setting, method, seed and score: value, 95 % interval (low, high) and n.

    `RTE` is in seconds; the other scores as `audit` has them. A row whose cell is not finished is
    left out; one that failed, or needs one that did, has the score "failed" alone, without a value.
    Further scores of the retrained model are those that the others were compared with. Where there
    are scores that this package does not know, their rows say unit and target.
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
            needed = [key for key in (row.base, row.retrain) if key and not store.done(key)]
            if any(store.failure(key) is not None for key in (row.cell, *needed)):
                found.append({**common, "score": "failed", "value": np.nan})
            continue
        content = store.read(row.cell)
        for score in content["scores"]:
            kept = {name: score.get(name) for name in ("value", "low", "high", "n")}
            said = own_words(score["name"], score.get("unit"), score.get("target"))
            found.append({**common, "score": score["name"], **kept, **said})
            further = score["name"] in compared or score["name"] not in SCORES
            if further and score.get("reference") is not None:
                one = {"score": score["name"], "value": score["reference"], "n": score["n"], **said}
                beside.setdefault(row.retrain, {})[score["name"]] = one
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
    frame = pd.DataFrame(found, columns=columns)
    numbers = ["value", "low", "high"]
    frame[numbers] = frame[numbers].astype(float)
    return frame


def _compared() -> set[str]:
    """Scores that an audit compares by itself; a ratio to the retrained model is 1 for that one."""
    own = (audit for audit in AUDITS.values() if not audit.usual)
    return {info.name for audit in own for info in audit.info if info.unit != "ratio"}


def for_tables(frame: pd.DataFrame) -> pd.DataFrame:
    """The columns scenario, method, seed, score, value that `report.tables` takes, and those of SAID.

    The scenario's name says what else differs between the parts of the study. A failed row counts
    as a missing value of every score that its method has elsewhere.
    """
    differing = [name for name in SETTING if name != "scenario" and frame[name].nunique() > 1]
    named = frame["scenario"].map(lambda text: scenario_of(text).told(text))
    for name in differing:
        named = named + ", " + frame[name].astype(str)
    columns = ["scenario", "method", "seed", "score", "value"]
    long = frame.assign(scenario=named)[[*columns, *(name for name in SAID if name in frame)]]
    failed = long["score"] == "failed"
    filled = long[failed].assign(score="UA")
    return pd.concat([long[~failed], filled], ignore_index=True)


def with_average_gap(frame: pd.DataFrame) -> pd.DataFrame:
    """The frame, and for each row the score "average gap".

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
    extra = apart[["method"]].assign(value=gaps.to_numpy(), score=AVERAGE_GAP)
    return pd.concat([frame, extra.reset_index()], ignore_index=True)
