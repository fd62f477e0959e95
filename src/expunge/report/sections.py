"""The parts of a report's page as plain data: settings, tables, answers, galleries, pictures.

Numbers come from `expunge.report.tables`; nothing here decides how a page looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd

from expunge.errors import ConfigError
from expunge.report.backdoor_figures import backdoor_figure
from expunge.report.drawn import Drawn
from expunge.report.further import USUAL, further_values, spread
from expunge.report.model_figures import class_figure, confidence_figure
from expunge.report.study_figures import (
    cost_figure,
    nearest_methods,
    radar_figure,
    sparsity_figure,
    sparsity_of,
)
from expunge.report.tables import (
    FLOOR,
    NOTHING,
    RETRAIN,
    YARDSTICKS,
    Cell,
    Excess,
    cells,
    ordered_methods,
    papers_table,
)

SETTING = ("data", "model", "recipe", "density", "scenario")
"""The columns of a frame that say under what a method ran."""
IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
"""Any other address is left out: a page must never fetch, nor run, what a detail brings along."""
SAMPLES = 12
"""At most so many samples stand in a gallery."""
Detail = Mapping[str, Any]


@dataclass(frozen=True)
class Picture:
    """A figure and the name, without a suffix, of its files and of its place in the page."""

    stem: str
    drawn: Drawn


@dataclass(frozen=True)
class Entry:
    """A cell of a table: its text, a lighter rest, the value that sorts it, words on hovering."""

    text: str
    rest: str = ""
    value: str = ""
    hint: str = ""
    bold: bool = False


@dataclass(frozen=True)
class Line:
    """A row of a table. kind: yardstick, best, failed or empty."""

    name: str
    entries: list[Entry]
    kind: str = ""


@dataclass(frozen=True)
class Grid:
    """A table: the first header is that of the rows' names."""

    headers: list[str]
    lines: list[Line]


@dataclass(frozen=True)
class Answer:
    """Which method came nearest. gap: points, of the means over seeds. floor: a second retraining's
    points, seed by seed. cost: share of retraining's seconds.
    """

    method: str
    gap: float
    cost: float
    excess: Excess | None
    floor: float

    @property
    def undecided(self) -> bool:
        """Whether the interval of the excess gap holds 0, or there is none."""
        return self.excess is None or not (self.excess.low > 0 or self.excess.high < 0)


@dataclass(frozen=True)
class Block:
    """One setting: its tables and pictures, each None or empty where there is nothing to show.

    runs_frame: the frame's rows. forgotten: samples in the forget set. costs: method, seconds, ratio
    to retraining, as texts.
    """

    name: str
    key: dict[str, str]
    rows: pd.DataFrame
    answer: Answer | None
    table: Grid
    further: Grid | None
    runs: Grid
    one_seed: bool
    forgotten: int | None
    gallery: dict[str, Any] | None
    costs: list[tuple[str, str, str]]
    runs_frame: pd.DataFrame
    pictures: list[Picture] = field(default_factory=list)


@dataclass(frozen=True)
class Section:
    """The settings that differ in their density alone."""

    name: str
    blocks: list[Block]
    pictures: list[Picture] = field(default_factory=list)


def sections(frame: pd.DataFrame, table: pd.DataFrame, details: Sequence[Detail]) -> list[Section]:
    """What a page shows of a study, in the order of the frame. For the arguments see `Report`.

    Raises:
        ConfigError: if the table was not made from the frame, or is none.
    """
    groups: dict[tuple[str, ...], list[Block]] = {}
    for number, (name, key, part) in enumerate(_settings(frame, table)):
        own = [d for d in details if all(str(d.get(c)) == key[c] for c in SETTING)]
        block = _block(name, key, table[table["scenario"] == name], part, own, number + 1)
        groups.setdefault(tuple(key[c] for c in SETTING if c != "density"), []).append(block)
    found = []
    for number, blocks in enumerate(groups.values()):
        first = blocks[0]
        name = first.name
        if len(blocks) > 1:  # `for_tables` names the density last
            name = name.removesuffix(f", {first.key['density']}")
        found.append(Section(name, blocks, _sparsity(blocks, number + 1)))
    return found


def _settings(
    frame: pd.DataFrame, table: pd.DataFrame
) -> list[tuple[str, dict[str, str], pd.DataFrame]]:
    """The table's scenarios, the settings that they stand for, and the frame's rows of each.

    The table has the frame's rows in their order, the failed ones last.
    """
    missing = [c for c in (*SETTING, "method", "seed", "score", "value") if c not in frame.columns]
    if missing:
        raise ConfigError(f"the frame of results lacks the columns {', '.join(missing)}")
    failed = frame["score"] == "failed"
    keys = pd.concat([frame[~failed], frame[failed]])[[*SETTING]].astype(str).drop_duplicates()
    names = [str(name) for name in table["scenario"].unique()]
    text = frame[[*SETTING]].astype(str)
    found = []
    if len(keys) == len(names):
        for name, key in zip(names, keys.to_dict("records"), strict=True):
            own = {str(column): str(value) for column, value in key.items()}
            part = frame[(text == pd.Series(own)).all(axis="columns")]
            if set(part["method"]) != set(table.loc[table["scenario"] == name, "method"]):
                break
            found.append((name, own, part))
    if not names or len(found) != len(names):
        raise ConfigError(
            "the table does not belong to the frame: make it from this frame, all of it, with "
            "expunge.study.results.for_tables"
        )
    return found


def _block(
    name: str,
    key: dict[str, str],
    long: pd.DataFrame,
    frame: pd.DataFrame,
    details: Sequence[Detail],
    number: int,
) -> Block:
    rows = papers_table(long)
    ranked = nearest_methods(rows)
    drawn = {
        "radar": radar_figure(rows),
        "cost": cost_figure(rows),
        "classes": class_figure(details, ranked),
        "confidence": confidence_figure(details, ranked),
    }
    stem = f"{number:02d}-{_slug(name)}"
    table = _main(long, rows)
    sizes = frame[(frame["score"] == "UA") & ~frame["method"].isin(YARDSTICKS)]
    counts = sizes["n"].dropna() if "n" in sizes else sizes["value"][:0]
    return Block(
        name=name,
        key=key,
        rows=rows,
        answer=_answer(rows),
        table=table,
        further=_further(frame),
        runs=_runs(frame),
        one_seed=frame["seed"].nunique() == 1,
        forgotten=int(counts.iloc[0]) if len(counts) else None,
        gallery=gallery(details, ranked),
        costs=_costs(table),
        runs_frame=frame,
        pictures=[Picture(f"{stem}-{what}", one) for what, one in drawn.items() if one],
    )


def _sparsity(blocks: Sequence[Block], number: int) -> list[Picture]:
    """A figure for each pruner, over the densities that it made; the dense model is in each."""
    known = [(at[1], block) for block in blocks if (at := sparsity_of(block.key["density"]))]
    pictures = []
    pruners = list(dict.fromkeys(pruner for pruner, _ in known if pruner))
    for pruner in pruners or [""]:
        own = {b.key["density"]: b for made_by, b in known if made_by in ("", pruner)}
        for what, drawn in (
            ("sparsity", sparsity_figure({name: block.rows for name, block in own.items()})),
            ("backdoor", backdoor_figure({name: b.runs_frame for name, b in own.items()})),
        ):
            if drawn:
                if len(pruners) > 1:
                    drawn = replace(drawn, title=f"{drawn.title}: {pruner}")
                pictures.append(Picture(f"{number:02d}-{_slug(f'{what} {pruner}')}", drawn))
    return pictures


def _answer(rows: pd.DataFrame) -> Answer | None:
    """The method with the smallest average gap; None without a retrained model."""
    best = rows[rows["best"].astype(bool)].to_dict("records")
    if not best:
        return None
    floor = rows.loc[rows["method"] == FLOOR, "seed_gap"].astype(float)
    row = best[0]
    return Answer(
        str(row["method"]),
        float(row["avg_gap"]),
        float(row["rte_ratio"]),
        row["excess_gap"],
        float(floor.iloc[0]) if len(floor) else math.nan,
    )


def _main(long: pd.DataFrame, rows: pd.DataFrame) -> Grid:
    """The papers' table, texts as `tables.cells` has them; columns without any value are left out."""
    headers, texts = cells(long)
    lines = []
    for row, words in zip(rows.to_dict("records"), texts, strict=True):
        entries = []
        for header, text in list(zip(headers, words, strict=True))[1:]:
            main, bracket, rest = text.partition(" (")
            bold = bool(row["best"]) and header == "avg gap"
            value, hint = _sorting(row, header)
            entries.append(Entry(main, bracket.strip() + rest, value, hint, bold))
        kind = "yardstick" if row["method"] in YARDSTICKS else "best" if row["best"] else ""
        lines.append(Line(str(row["method"]), entries, kind or ("failed" if row["failed"] else "")))
    used = [any(line.entries[n].text != NOTHING for line in lines) for n in range(len(headers) - 1)]
    for line in lines:
        line.entries[:] = [one for one, shown in zip(line.entries, used, strict=True) if shown]
    return Grid([n for n, shown in zip(headers, [True, *used], strict=True) if shown], lines)


def _costs(table: Grid) -> list[tuple[str, str, str]]:
    """Of each method: name, seconds, and ratio to retraining; an empty text is not known."""
    found = []
    for line in table.lines:
        known = dict(zip(table.headers[1:], line.entries, strict=True))
        seconds, ratio = known.get("RTE s"), known.get("RTE / retrain")
        if line.kind != "yardstick":
            text = seconds.text if seconds and seconds.value else ""
            found.append((line.name, text, ratio.value if ratio else ""))
    return found


def _sorting(row: dict[Any, Any], header: str) -> tuple[str, str]:
    """The number that a cell of the papers' table is sorted by, and what hovering tells."""
    names = {
        "avg gap": "avg_gap",
        "excess gap": "excess_gap",
        "95 % interval": "excess_gap",
        "RTE s": "RTE",
        "RTE / retrain": "rte_ratio",
    }
    value = row[names.get(header, header)]
    if isinstance(value, Cell):
        return number(value.mean), _told(value.low, value.high, value.n)
    if isinstance(value, Excess):
        return number(value.low if header == "95 % interval" else value.mean), f"n = {value.n}"
    return number(value), ""


def _told(low: float, high: float, n: int) -> str:
    if math.isnan(low):
        return f"n = {n}"
    return f"95 % interval of the mean {low:.2f} to {high:.2f}, n = {n}"


def number(value: Any) -> str:
    """For sorting: six digits; empty where there is no number."""
    known = isinstance(value, int | float | np.number) and math.isfinite(value)
    return f"{value:.6g}" if known else ""


def _further(frame: pd.DataFrame) -> Grid | None:
    """Scores outside the papers' table: mean ± standard deviation over seeds."""
    scores, rows = further_values(frame)
    if not scores:
        return None
    lines = []
    for method, found, of in rows:
        entries = [
            Entry(spread(own, of), value=number(own.mean()), hint=f"n = {len(own)}")
            for own in found
        ]
        lines.append(Line(method, entries, "yardstick" if method in YARDSTICKS else ""))
    return Grid(["method", *scores], lines)


def _runs(frame: pd.DataFrame) -> Grid:
    """A row for each run: its seed, and each score with its interval over samples."""
    broken = frame.loc[frame["score"] == "failed", ["method", "seed"]]
    failed = set(broken.itertuples(index=False, name=None))
    present = set(frame["score"]) - {"failed"}
    scores = [name for name in USUAL if name in present]
    scores += [str(n) for n in frame["score"].unique() if n in present and n not in scores]
    found: dict[tuple[str, Any], dict[str, Entry]] = {}
    columns = ("method", "seed", "score", "value", "low", "high", "n")
    have = frame.reindex(columns=list(columns))
    for method, seed, score, value, low, high, n in have.itertuples(index=False):
        found.setdefault((method, seed), {})[str(score)] = _single(score, value, low, high, n)
    order = ordered_methods([method for method, _ in found])
    lines = []
    for method, seed in sorted(found, key=lambda run: (order.index(run[0]), run[1])):
        own = found[method, seed]
        entries = [Entry(str(seed), value=number(seed))]
        entries += [own.get(score, Entry(NOTHING)) for score in scores]
        kind = "failed" if (method, seed) in failed else ""
        name = f"{method} (failed)" if kind else str(method)
        lines.append(Line(name, entries, kind or ("yardstick" if method in YARDSTICKS else "")))
    heads = ["RTE s" if score == "RTE" else score for score in scores]
    return Grid(["method", "seed", *heads], lines)


def _single(score: str, value: float, low: float, high: float, n: float) -> Entry:
    if not math.isfinite(value):
        return Entry(NOTHING)
    ends = f"[{low:.1f}, {high:.1f}]" if math.isfinite(low) and math.isfinite(high) else ""
    samples = f"n = {n:,.0f}" if score != "RTE" and math.isfinite(n) else ""
    usual = score in USUAL and not (score == "RTE" and value < 100)
    text = f"{value:.1f}" if usual else f"{value:.3g}" if score == "RTE" else f"{value:.4g}"
    return Entry(text, ends, number(value), samples)


def gallery(details: Sequence[Detail], methods: Sequence[str]) -> dict[str, Any] | None:
    """The first forget samples, and what each model says of them; of the first seed alone.

    Returns the seed, the models in order, and for each sample: id, label, image (a checked data
    URI, or None) and per model None or predicted, percent, right.
    """
    kept = [d for d in details if d.get("gallery")]
    if not kept:
        return None
    seed = kept[0]["seed"]
    shown = {
        str(d["method"]): {g["id"]: g for g in d["gallery"]} for d in kept if d["seed"] == seed
    }
    models = [n for n in ("original", RETRAIN, *methods) if n in shown]
    if not models:
        return None
    samples = []
    for name, first in list(shown[models[0]].items())[:SAMPLES]:
        image = first.get("image")
        safe = isinstance(image, str) and IMAGE.fullmatch(image) is not None
        says = [_says(shown[model].get(name)) for model in models]
        samples.append(
            {
                "id": str(name),
                "label": str(first["label"]),
                "image": image if safe else None,
                "says": says,
            }
        )
    return {"seed": seed, "models": models, "samples": samples}


def _says(sample: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if sample is None:
        return None
    return {
        "predicted": str(sample["predicted"]),
        "percent": f"{100 * float(sample['probability']):.0f}",
        "true_percent": f"{100 * float(sample['true_probability']):.1f}",
        "right": sample["predicted"] == sample["label"],
    }


def _slug(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:60]
