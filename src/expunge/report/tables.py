"""The papers' table of scores: one row per method, each cell read against retraining.

The input is a long frame with the columns scenario, method, seed, score and value, one row per
measured value. Scores are UA, RA, TA, MIA (percent), TA_forget (percent, optional) and RTE
(seconds); three methods are not methods: "original" (nothing done), "retrain" (the target) and
"floor" (a second retraining of each seed, which shows how far two retrainings lie apart). A value
that is missing or not finite counts as a failed run.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import pandas as pd

from expunge.errors import ConfigError

COLUMNS = ("scenario", "method", "seed", "score", "value")
AVERAGED = ("UA", "MIA", "RA", "TA")
"""The scores whose gaps make the average gap, in the order of printing."""
ORIGINAL, RETRAIN, FLOOR = "original", "retrain", "floor"
YARDSTICKS = (ORIGINAL, RETRAIN, FLOOR)
NOTHING = "–"


@dataclass(frozen=True)
class Cell:
    """A score over n seeds: mean, sample standard deviation, 95 % Student-t interval, gap.

    `sd`, `low` and `high` are nan for one seed; `gap` is |mean - mean of retrain|, None where
    there is no retrained model and for the retrained model itself.
    """

    mean: float
    sd: float
    low: float
    high: float
    n: int
    gap: float | None = None

    @property
    def text(self) -> str:
        """As papers print it, `93.1±2.3 (6.9)`; no ± for one seed, no bracket without a gap."""
        bracket = "" if self.gap is None else f" ({self.gap:.1f})"
        return _with_spread(self.mean, self.sd, 1) + bracket


@dataclass(frozen=True)
class Excess:
    """Average gap minus the floor's, per seed: mean over n seeds, paired 95 % interval."""

    mean: float
    low: float
    high: float
    n: int


def papers_table(frame: pd.DataFrame) -> pd.DataFrame:
    """One row per scenario and method: original, retrain and floor first, then as they came.

    Columns: scenario, method, seeds (with a usable value of any score), failed (seeds with an
    unusable one), a `Cell` or None under UA, MIA, RA, TA, TA_forget (if anywhere present) and RTE,
    avg_gap (float, nan when one of the four is missing), seed_gap (mean over seeds of each one's own
    average gap; larger, where a seed's gaps have both signs), excess_gap (`Excess` or None: needs
    retrain and floor at the same seeds), rte_ratio (mean RTE over retrain's, nan without), best
    (True for the smallest average gap among the methods of a scenario that have all seeds).

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
            if row["method"] not in YARDSTICKS
            and not row["failed"]
            and row["seeds"] == most
            and not math.isnan(row["avg_gap"])
        ]
        least = min((row["avg_gap"] for row in ranked), default=math.nan)
        rows += [
            {"scenario": scenario} | row | {"best": row in ranked and row["avg_gap"] == least}
            for row in here
        ]
    names = ["scenario", "method", "seeds", "failed", *scores]
    names += ["avg_gap", "seed_gap", "excess_gap", "RTE", "rte_ratio", "best"]
    # Columns of objects: pandas would turn a None beside a number into a nan.
    return pd.DataFrame({name: pd.Series([r[name] for r in rows], dtype=object) for name in names})


def cells(frame: pd.DataFrame) -> tuple[list[str], list[list[str]]]:
    """Headers and rows of text, for a terminal table; the scenario only if there are several."""
    table = papers_table(frame)
    several = table["scenario"].nunique() > 1
    scores = score_columns(frame)
    headers = ["scenario"] if several else []
    headers += ["method", "seeds", *scores]
    headers += ["avg gap", "excess gap", "95 % interval", "RTE s", "RTE / retrain"]
    rows = []
    for row in table.to_dict("records"):
        texts = [str(row["scenario"])] if several else []
        texts += [str(row["method"]), _seeds(row)]
        texts += [NOTHING if row[score] is None else row[score].text for score in scores]
        texts += [_number(row["avg_gap"]), *_excess(row["excess_gap"])]
        texts += [_seconds(row["RTE"]), _ratio(row["rte_ratio"])]
        rows.append(texts)
    return headers, rows


def note(frame: pd.DataFrame) -> str:
    """One line that states n and what the signs in the table mean; of absent ones it is silent."""
    table = papers_table(frame)
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
    return text


def to_markdown(frame: pd.DataFrame) -> str:
    """The table as Markdown with its note; each scenario's best method is bold."""
    headers, rows = cells(frame)
    best = papers_table(frame)["best"]
    named = headers.index("method")
    lines = ["| " + " | ".join(headers) + " |"]
    lines.append("|" + "|".join("---" if i <= named else "---:" for i in range(len(headers))) + "|")
    for texts, is_best in zip(rows, best, strict=True):
        escaped = [escape_cell(text) for text in texts]
        if is_best:
            escaped[named] = f"**{escaped[named]}**"
        lines.append("| " + " | ".join(escaped) + " |")
    bold = " Bold: the method with the smallest average gap." if best.any() else ""
    return "\n".join([*lines, "", note(frame) + bold, ""])


def to_json(frame: pd.DataFrame) -> str:
    """The table as JSON: `{"note": ..., "rows": [...]}`, cells as objects, nan as null."""
    rows = [
        {name: asdict(value) if isinstance(value, Cell | Excess) else value for name, value in r}
        for r in (record.items() for record in papers_table(frame).to_dict("records"))
    ]
    return json.dumps(
        _finite({"note": note(frame), "rows": rows}), indent=2, allow_nan=False, ensure_ascii=False
    )


def score_columns(frame: pd.DataFrame) -> list[str]:
    """The percent scores a table of this frame shows, in order."""
    return [*AVERAGED, *(["TA_forget"] if "TA_forget" in set(frame["score"]) else [])]


def ordered_methods(names: Sequence[str]) -> list[str]:
    """Each name once: original, retrain and floor first, the rest as they came."""
    unique = list(dict.fromkeys(names))
    return [n for n in YARDSTICKS if n in unique] + [n for n in unique if n not in YARDSTICKS]


def _check(frame: pd.DataFrame) -> None:
    missing = [name for name in COLUMNS if name not in frame.columns]
    if missing:
        raise ConfigError(
            f"the frame of scores needs the columns {', '.join(COLUMNS)}; "
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
    retrain_time = None if retrain is None else _cell(retrain, None, "RTE")
    rows = []
    for method, values in runs.items():
        target = None if method == RETRAIN else retrain
        found = {score: _cell(values, target, score) for score in scores}
        gaps = [cell.gap for score in AVERAGED if (cell := found[score]) and cell.gap is not None]
        time = _cell(values, None, "RTE")
        row: dict[str, Any] = {
            "method": method,
            "seeds": int(values.notna().any(axis="columns").sum()),
            "failed": _failed(part[part["method"] == method]),
            **found,
            "avg_gap": float(np.mean(gaps)) if len(gaps) == len(AVERAGED) else math.nan,
            "seed_gap": _seed_gap(values, target),
            "excess_gap": None if method == FLOOR else _excess_gap(values, target, floor),
            "RTE": time,
            "rte_ratio": math.nan,
        }
        if time and retrain_time and retrain_time.mean > 0:
            row["rte_ratio"] = time.mean / retrain_time.mean
        rows.append(row)
    return rows


def _runs(part: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Of each method in one scenario: a row per seed, a column per score, nan where unusable."""
    found = {}
    for name in ordered_methods(part["method"].tolist()):
        own = part[part["method"] == name].pivot(index="seed", columns="score", values="value")
        found[name] = own.astype(float).replace([np.inf, -np.inf], np.nan)
    return found


def _failed(runs: pd.DataFrame) -> int:
    """How many seeds hold a usual score that is missing or not finite; others may be undefined."""
    usual = runs["score"].isin([*AVERAGED, "TA_forget", "RTE"])
    unusable = usual & ~np.isfinite(runs["value"].astype(float))
    return int(runs.loc[unusable, "seed"].nunique())


def _cell(values: pd.DataFrame, retrain: pd.DataFrame | None, score: str) -> Cell | None:
    found = _column(values, score)
    if not len(found):
        return None
    mean, low, high = _student(found)
    sd = float(found.std(ddof=1)) if len(found) > 1 else math.nan
    gap = None
    if retrain is not None and score in retrain.columns:  # over the seeds that both have
        ours = values[score].to_numpy(dtype=np.float64)
        theirs = retrain[score].reindex(values.index).to_numpy(dtype=np.float64)
        both = ~(np.isnan(ours) | np.isnan(theirs))
        if both.any():
            gap = abs(float(ours[both].mean()) - float(theirs[both].mean()))
    return Cell(mean, sd, low, high, len(found), gap)


def _column(values: pd.DataFrame, score: str) -> np.ndarray[Any, np.dtype[np.float64]]:
    """The usable values of a score over seeds; none if the score is absent."""
    series = values[score].dropna() if score in values.columns else pd.Series(dtype=float)
    return series.to_numpy(dtype=np.float64)


def _seed_gap(values: pd.DataFrame, retrain: pd.DataFrame | None) -> float:
    """Mean over the seeds at which both have all four scores; nan without any."""
    if retrain is None:
        return math.nan
    ours, target = (p.reindex(columns=list(AVERAGED)).dropna() for p in (values, retrain))
    seeds = ours.index.intersection(target.index)
    return float((ours.loc[seeds] - target.loc[seeds]).abs().mean(axis="columns").mean())


def _excess_gap(
    values: pd.DataFrame, retrain: pd.DataFrame | None, floor: pd.DataFrame | None
) -> Excess | None:
    """Over the seeds at which method, retrain and floor have all four scores."""
    if retrain is None or floor is None:
        return None
    ours, target, second = (
        part.reindex(columns=list(AVERAGED)).dropna() for part in (values, retrain, floor)
    )
    seeds = ours.index.intersection(target.index).intersection(second.index)
    if not len(seeds):
        return None
    of_method = (ours.loc[seeds] - target.loc[seeds]).abs().mean(axis="columns")
    of_floor = (second.loc[seeds] - target.loc[seeds]).abs().mean(axis="columns")
    return Excess(*_student((of_method - of_floor).to_numpy(dtype=np.float64)), len(seeds))


def _student(values: np.ndarray[Any, np.dtype[np.float64]]) -> tuple[float, float, float]:
    """Mean and ends of its 95 % interval, nan for one value."""
    mean, n = float(values.mean()), len(values)
    if n == 1:
        return mean, math.nan, math.nan
    from scipy import special  # scipy.stats takes a second to import

    half = float(special.stdtrit(n - 1, 0.975)) * float(values.std(ddof=1)) / math.sqrt(n)
    return mean, mean - half, mean + half


def _with_spread(mean: float, sd: float, decimals: int) -> str:
    spread = "" if math.isnan(sd) else f"±{sd:.{decimals}f}"
    return f"{mean:.{decimals}f}{spread}"


def _seeds(row: dict[Any, Any]) -> str:
    failed = f" ({row['failed']} failed)" if row["failed"] else ""
    return f"{row['seeds']}{failed}"


def _number(value: float) -> str:
    return NOTHING if math.isnan(value) else f"{value:.2f}"


def _ratio(value: float) -> str:
    if value < 0.001:
        return "<0.001"
    return f"{value:.3f}" if value < 0.1 else _number(value)


def _excess(excess: Excess | None) -> tuple[str, str]:
    if excess is None:
        return NOTHING, NOTHING
    interval = NOTHING if excess.n == 1 else f"[{excess.low:.2f}, {excess.high:.2f}]"
    return f"{excess.mean:.2f}", interval


def _seconds(cell: Cell | None) -> str:
    """Three digits of the mean, and as many decimals of the spread."""
    if cell is None:
        return NOTHING
    decimals = next((d for d, least in enumerate((100, 10, 1)) if cell.mean >= least), 3)
    return _with_spread(cell.mean, cell.sd, decimals)


def escape_cell(text: str) -> str:
    """Keep a name from ending its cell or becoming markup."""
    for sign, safe in (("&", "&amp;"), ("<", "&lt;"), (">", "&gt;"), ("|", "\\|"), ("\n", " ")):
        text = text.replace(sign, safe)
    return text


def flat(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Records with one number per column (`UA_mean`, `UA_sd`, `UA_low`, ...), unrounded; every record
    has every column.
    """
    rows = []
    for record in table.to_dict("records"):
        spread: dict[str, Any] = {}
        for name, value in record.items():
            if name == "excess_gap":
                fields: tuple[str, ...] = ("mean", "low", "high", "n")
            elif name == "RTE" or name in (*AVERAGED, "TA_forget"):
                fields = ("mean", "sd", "low", "high", "n", "gap")[: 5 if name == "RTE" else 6]
            else:
                spread[str(name)] = value
                continue
            spread |= {f"{name}_{part}": getattr(value, part, None) for part in fields}
        rows.append(spread)
    return rows


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
