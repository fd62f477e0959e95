"""The parts of a report's page as plain data: settings, tables, answers, galleries, pictures.

Tables come from `expunge.report.score_tables`; nothing here decides how a page looks.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pandas as pd

from expunge.errors import ConfigError
from expunge.report.ablation_figure import ablation_figure, ablations
from expunge.report.backdoor_figures import backdoor_figure
from expunge.report.cells import Seconds, finite
from expunge.report.drawn import Drawn
from expunge.report.foreign_figure import foreign_figure
from expunge.report.grid import Grid
from expunge.report.model_figures import RunDetail, class_figure, confidence_figure
from expunge.report.runs import runs_grid
from expunge.report.score_tables import ScenarioTables, ScoreTables
from expunge.report.study_figures import (
    cost_figure,
    nearest_methods,
    percent_cut,
    radar_figure,
    sparsity_figure,
)
from expunge.report.together import TogetherTable
from expunge.scores.gaps import ExcessGap
from expunge.scores.rows import FAILED, FLOOR, NO_METHODS, ORIGINAL, RETRAIN, SETTING

IMAGE = re.compile(r"data:image/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/=]+")
"""Any other address is left out: a page must never fetch, nor run, what a detail brings along."""
SAMPLES = 12
"""At most so many samples stand in a gallery."""


@dataclass(frozen=True)
class Picture:
    """A figure and the name, without a suffix, of its files and of its place in the page."""

    stem: str
    drawn: Drawn


@dataclass(frozen=True)
class Answer:
    """Which method came nearest. gap: points, of the means over seeds. floor: a second retraining's
    points, seed by seed. cost: share of retraining's seconds. equalled_by: rows that do next to nothing
    and are not shown to be farther away.
    """

    method: str
    gap: float
    cost: float
    excess: ExcessGap | None
    floor: float
    equalled_by: tuple[str, ...] = ()

    @property
    def undecided(self) -> bool:
        """Whether the interval of the excess gap holds 0, or there is none."""
        return self.excess is None or self.excess.undecided


@dataclass(frozen=True)
class MethodCost:
    """What a method took: seconds, and as a share of retraining's; None where not known."""

    method: str
    seconds: Seconds | None
    share: float | None


@dataclass(frozen=True)
class Block:
    """One setting: its tables and pictures, each None or empty where there is nothing to show.

    runs_frame: the frame's rows. forgotten: samples in the forget set. left: that a backdoor works on
    the retrained model too, in a sentence; else empty.
    """

    name: str
    key: dict[str, str]
    rows: pd.DataFrame
    answer: Answer | None
    table: Grid
    further: Grid | None
    together: TogetherTable | None
    runs: Grid
    one_seed: bool
    forgotten: int | None
    gallery: dict[str, Any] | None
    costs: list[MethodCost]
    runs_frame: pd.DataFrame
    left: str = ""
    pictures: list[Picture] = field(default_factory=list)

    @property
    def grids(self) -> list[Grid]:
        """The tables whose columns a page explains."""
        together = self.together and self.together.grid
        return [grid for grid in (self.table, self.further, together) if grid]


@dataclass(frozen=True)
class Section:
    """The settings that differ in their density alone."""

    name: str
    blocks: list[Block]
    pictures: list[Picture] = field(default_factory=list)


def sections(
    frame: pd.DataFrame, tables: ScoreTables, details: Sequence[RunDetail]
) -> list[Section]:
    """What a page shows of a study, in the order of the frame.

    tables: of the report's table. frame, details: see `Report`.

    Raises:
        ConfigError: if the tables were not made from the frame.
    """
    groups: dict[tuple[str, ...], list[Block]] = {}
    for number, (own, key, part) in enumerate(_settings(frame, tables)):
        seen = [d for d in details if all(str(d.get(c)) == key[c] for c in SETTING)]
        block = _block(own, key, part, seen, number + 1)
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
    frame: pd.DataFrame, tables: ScoreTables
) -> list[tuple[ScenarioTables, dict[str, str], pd.DataFrame]]:
    """The tables of each scenario, the setting that it stands for, and the frame's rows of that.

    The tables' frame has the frame's rows in their order, the failed ones last.
    """
    missing = [c for c in (*SETTING, "method", "seed", "score", "value") if c not in frame.columns]
    if missing:
        raise ConfigError(f"the frame of results lacks the columns {', '.join(missing)}")
    failed = frame["score"] == FAILED
    keys = pd.concat([frame[~failed], frame[failed]])[[*SETTING]].astype(str).drop_duplicates()
    text = frame[[*SETTING]].astype(str)
    found = []
    if len(keys) == len(tables.scenarios):
        for scenario, key in zip(tables.scenarios, keys.to_dict("records"), strict=True):
            own = {str(column): str(value) for column, value in key.items()}
            part = frame[(text == pd.Series(own)).all(axis="columns")]
            if set(part["method"]) != set(scenario.rows["method"]):
                break
            found.append((scenario, own, part))
    if len(found) != len(tables.scenarios):
        raise ConfigError(
            "the table does not belong to the frame: make it from this frame, all of it, with "
            "expunge.study.results.for_tables"
        )
    return found


def _block(
    tables: ScenarioTables,
    key: dict[str, str],
    frame: pd.DataFrame,
    details: Sequence[RunDetail],
    number: int,
) -> Block:
    rows = tables.rows
    ranked = nearest_methods(rows)
    drawn = {
        "radar": radar_figure(rows),
        "cost": cost_figure(rows),
        "foreign": foreign_figure(frame),
        "classes": class_figure(details, ranked),
        "confidence": confidence_figure(details, ranked),
    }
    drawn |= {
        f"ablation-{_slug(f'{one.method} {one.setting}')}": ablation_figure(rows, one)
        for one in ablations(frame)
    }
    stem = f"{number:02d}-{_slug(tables.scenario)}"
    sizes = frame[(frame["score"] == "UA") & ~frame["method"].isin(NO_METHODS)]
    counts = sizes["n"].dropna() if "n" in sizes else sizes["value"][:0]
    return Block(
        name=tables.scenario,
        key=key,
        rows=rows,
        answer=_answer(rows),
        table=tables.papers.without_empty(),
        further=tables.further,
        together=tables.together,
        runs=runs_grid(frame),
        one_seed=frame["seed"].nunique() == 1,
        forgotten=int(counts.iloc[0]) if len(counts) else None,
        gallery=gallery(details, ranked),
        costs=_costs(rows),
        runs_frame=frame,
        left=tables.left,
        pictures=[Picture(f"{stem}-{what}", one) for what, one in drawn.items() if one],
    )


def _sparsity(blocks: Sequence[Block], number: int) -> list[Picture]:
    """A figure for each pruner, over the densities that it made; the dense model is in each."""
    known = [(at[1], block) for block in blocks if (at := percent_cut(block.key["density"]))]
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
    best = rows[rows["nearest"].astype(bool)].to_dict("records")
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
        tuple(row["equalled_by"]),
    )


def _costs(rows: pd.DataFrame) -> list[MethodCost]:
    """Of each method, in the table's order."""
    return [
        MethodCost(str(row["method"]), row["RTE"], finite(row["rte_ratio"]))
        for row in rows.to_dict("records")
        if row["method"] not in NO_METHODS
    ]


def gallery(details: Sequence[RunDetail], methods: Sequence[str]) -> dict[str, Any] | None:
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
    models = [n for n in (ORIGINAL, RETRAIN, *methods) if n in shown]
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
