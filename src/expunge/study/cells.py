"""A study as cells: each a piece of work with a key, and the keys of what it needs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from expunge.data.load import Data
from expunge.methods import Method
from expunge.study.schema import FRESH, Study, variants

Kind = Literal["original", "retrain", "unlearn"]


@dataclass(frozen=True)
class Cell:
    """One piece of work, which several rows of a table may share.

    kind: an original (dense or sparse), a retrained reference (or floor), or one run of a method;
    the method "original" does nothing, and is scored. config: everything that decides its result,
    as plain data. needs: keys of the cells whose models it starts from. key: 32 hexadecimal digits
    of all that. seed: of the rows that it makes.
    """

    kind: Kind
    config: Mapping[str, Any]
    needs: tuple[str, ...]
    key: str
    seed: int

    @property
    def label(self) -> str:
        """A few words for people."""
        what = {
            "original": "original",
            "retrain": "floor" if self.config.get("floor") else "retrain",
        }.get(self.kind, self.config.get("label", ""))
        where = f", {self.config['scenario']}" if "scenario" in self.config else ""
        return f"{what}{where}, seed {self.seed}"


def key_of(kind: str, config: Mapping[str, Any], needs: tuple[str, ...]) -> str:
    """Digest of a configuration, 32 hexadecimal digits; the order of its fields does not matter."""
    text = json.dumps([kind, config, needs], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def make_cell(kind: Kind, config: Mapping[str, Any], needs: tuple[str, ...], seed: int) -> Cell:
    """A cell with its key. Labels are for tables, and no part of what is computed."""
    computed = {name: value for name, value in config.items() if name != "label"}
    return Cell(kind, config, needs, key_of(kind, computed, needs), seed)


@dataclass(frozen=True)
class Row:
    """Which cells make one row of a table for one seed.

    setting: data, model, recipe, density and scenario, in words. method: label of the row.
    """

    setting: tuple[str, str, str, str, str]
    method: str
    seed: int
    cell: str
    retrain: str


def plan(study: Study, load: Callable[[str], Data]) -> tuple[list[Cell], list[Row]]:
    """All cells of a study, each once, after what it needs, and the rows that they make.

    load: data specification -> data, for their fingerprints and classes.
    """
    cells: dict[str, Cell] = {}
    rows = []

    def add(kind: Kind, config: Mapping[str, Any], needs: tuple[str, ...], seed: int) -> str:
        cell = make_cell(kind, config, needs, seed)
        cells.setdefault(cell.key, cell)
        return cell.key

    for original, setting, seed, classes in _originals(study, load):
        base = add("original", original, (), seed)
        for scenario in study.scenarios:
            asked = f"class:#{seed % classes}" if scenario == FRESH else scenario
            request = {"scenario": asked, "forget_seed": seed, "seed": seed}
            here = (*setting, scenario)
            retrain = add("retrain", {**request, "floor": False}, (base,), seed)
            # with further scores, a row is compared with the retrained model itself
            also = {"also": list(study.also)} if study.also else {}
            needs = (base, retrain) if study.also else (base,)
            named: dict[str, Method | None] = {"original": None}
            for label, entry in study.methods.items():
                named |= variants(label, entry)
            made = {"retrain": retrain}
            for label, method in named.items():
                chosen: dict[str, Any] = {}
                if method is not None:
                    chosen = {"method": method.name, "settings": method.model_dump(mode="json")}
                config = {**request, **chosen, **also, "label": label}
                made[label] = add("unlearn", config, needs, seed)
            if study.floor:
                made["floor"] = add("retrain", {**request, "floor": True}, (base,), seed)
            rows += [Row(here, label, seed, key, retrain) for label, key in made.items()]
    return list(cells.values()), rows


def _originals(
    study: Study, load: Callable[[str], Data]
) -> Iterator[tuple[dict[str, Any], tuple[str, str, str, str], int, int]]:
    """Configuration of each original, its setting in words, its seed, and the number of classes."""
    for spec in study.data:
        data = load(spec)
        for model in study.models:
            for name, recipe in study.recipes.items():
                for density in study.densities:
                    for seed in study.seeds:
                        config = {
                            "data": spec, "fingerprint": [data.train.fingerprint, data.test.fingerprint],
                            "model": model, "recipe": recipe.model_dump(mode="json"),
                            "density": density.resolved(), "seed": seed,
                            "validation": study.validation, "split_seed": study.split_seed,
                        }  # fmt: skip
                        setting = (spec, model, name, density.label)
                        yield config, setting, seed, len(data.classes)
