"""A study as cells: each a piece of work with a key, and the keys of what it needs."""

from __future__ import annotations

import functools
import hashlib
import itertools
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from expunge.names.digests import earlier_digest
from expunge.names.text import clean_name
from expunge.scores.rows import CONTROLS, FLOOR, HEAD_ZEROED, ORIGINAL, RETRAIN
from expunge.study.bank_needs import needs_of, without_bank
from expunge.study.entries import Entry, tuned, unfit, variants
from expunge.study.scenarios import scenario_of
from expunge.study.schema import Study

WEIGHT_DISTANCE = "weight_distance"
"""The audit that compares weights with those of a paired retraining."""
BANK_NUMBER = "number"
"""In the configuration of a model of a bank: which one it is."""
Kind = Literal["original", "retrain", "unlearn", "shadow", "forgot_shadow"]
Setting = tuple[str, str, str, str, str]
"""The values of `claims.SETTING`, in words."""


@dataclass(frozen=True)
class Facts:
    """What a plan needs to know of data: digests of both parts, and the names of the classes."""

    fingerprints: tuple[str, str]
    classes: tuple[str, ...]


@dataclass(frozen=True)
class Cell:
    """One piece of work, which several rows of a table may share.

    kind: an original (dense or sparse), a retrained reference (or floor), or one run of a method;
    the method "original" does nothing, and is scored; a model of an original's bank, or one of these
    made to forget. config: everything that decides its result,
    as plain data. starts: the cells whose models it starts from, as they are planned: no file says
    what they are. key: 32 hexadecimal digits of all that. seed: of the rows that it makes.
    """

    kind: Kind
    config: Mapping[str, Any]
    starts: tuple[Cell, ...]
    key: str
    seed: int

    @functools.cached_property
    def needs(self) -> tuple[str, ...]:
        """Keys of the cells that it starts from."""
        return tuple(cell.key for cell in self.starts)

    @property
    def label(self) -> str:
        """A few words for people."""
        what = {
            "original": "original",
            "retrain": "floor" if self.config.get("floor") else "retrain",
        }.get(self.kind, self.config.get("label", ""))
        what = f"paired {what}" if self.config.get("paired") else what
        if BANK_NUMBER in self.config:
            what = f"{what}{', ' if what else ''}bank model {self.config[BANK_NUMBER]}"
        where = f", {self.config['scenario']}" if "scenario" in self.config else ""
        return clean_name(f"{what}{where}, seed {self.seed}")


DIGESTS = ("fingerprint", "transfer_fingerprints", "content")
"""What a configuration has digests in."""


def key_of(kind: str, config: Mapping[str, Any], needs: Sequence[str]) -> str:
    """Digest of a configuration, 32 hexadecimal digits; the order of its fields does not matter.

    Labels are for tables, and no part of what is computed. Digests count as earlier versions wrote them,
    so that their cells are found.
    """
    cut = {name: _earlier(config[name]) for name in DIGESTS if name in config}
    return _key(kind, {**config, **cut}, needs)


def is_key(key: str, kind: str, config: Mapping[str, Any], needs: Sequence[str]) -> bool:
    """Whether it is the key of a configuration, perhaps by an earlier version's rule."""
    return key in (key_of(kind, config, needs), _key(kind, config, needs))


def _key(kind: str, config: Mapping[str, Any], needs: Sequence[str]) -> str:
    computed = {name: value for name, value in config.items() if name != "label"}
    text = json.dumps([kind, computed, needs], sort_keys=True, ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _earlier(told: Any) -> Any:
    """Of a text, or of each in a list; whatever else a file says in its place stays."""
    if isinstance(told, list):
        return [_earlier(one) for one in told]
    return earlier_digest(told) if isinstance(told, str) else told


def make_cell(kind: Kind, config: Mapping[str, Any], starts: Sequence[Cell], seed: int) -> Cell:
    """A cell with its key."""
    key = key_of(kind, config, [cell.key for cell in starts])
    return Cell(kind, config, tuple(starts), key, seed)


@dataclass(frozen=True)
class Row:
    """Which cells make one row of a table for one seed.

    method: label of the row. cell: key of its cell. retrain: key of its reference. base: of the
    original that it starts from. pair: of the paired retraining that its weights are compared with.
    """

    setting: Setting
    method: str
    seed: int
    cell: str
    retrain: str
    base: str = ""
    pair: str = ""


class Cells:
    """Cells by key, each once, in the order in which they were first needed."""

    def __init__(self) -> None:
        self._cells: dict[str, Cell] = {}

    def add(self, kind: Kind, config: Mapping[str, Any], needs: tuple[str, ...], seed: int) -> str:
        """Add a cell if it is not there, after those of these keys; its key."""
        cell = make_cell(kind, config, [self._cells[key] for key in needs], seed)
        self._cells.setdefault(cell.key, cell)
        return cell.key

    def all(self) -> list[Cell]:
        """What a cell needs stands before it."""
        return list(self._cells.values())


def content_of(scenario: str) -> str:
    """A digest of what a scenario only points to, such as a file of ids, as it is now."""
    return scenario_of(scenario).content(scenario)


def plan_cells(
    study: Study,
    load: Callable[[str], Facts],
    chosen: Mapping[tuple[Setting, str], Mapping[str, Any]] | None = None,
    content: Callable[[str], str] = content_of,
) -> tuple[list[Cell], list[Row]]:
    """All cells of a study, each once, after what it needs, and the rows that they make.

    load: data specification -> what is to be known of the data. chosen: tuned fields by
    setting and method. content: scenario -> a digest of what it points to.
    """
    cells, rows = Cells(), []
    for config, setting, seed, facts in originals(study, load, study.seeds):
        base = cells.add("original", config, (), seed)
        for scenario in study.scenarios:
            asked = request(study, scenario, seed, facts, load, content)
            here: Setting = (*setting, scenario)
            retrain = cells.add("retrain", {**asked, "floor": False}, (base,), seed)
            # with further scores, a row is compared with the retrained model itself
            further = study.also_of(scenario)
            needs = (base, retrain) if further else (base,)
            pair = ""
            if study.pair and WEIGHT_DISTANCE in further and not config["density"]:
                # what begins with weights that were rewound has no pair
                paired = {**asked, "floor": False, "paired": True}
                pair = cells.add("retrain", paired, (base,), seed)
                needs = (*needs, pair)
            scored = _Scored(study, further, cells, asked, needs, seed)
            made = {RETRAIN: retrain}
            for label, method in _runs(study, here, chosen or {}).items():
                run: dict[str, Any] = {}
                if method is not None:
                    run = dict(method)
                elif study.criteria and config["density"]:
                    run = {"criteria": True}
                made[label] = scored.add("unlearn", {**run, "label": label}, method)
            if study.floor:
                exact = variants(FLOOR, Entry(method=RETRAIN), allow_code=False)[FLOOR]
                made[FLOOR] = scored.add("retrain", {"floor": True}, exact)
            rows += [
                Row(here, label, seed, key, retrain, base, pair if label != RETRAIN else "")
                for label, key in made.items()
            ]
    return cells.all(), rows


@dataclass(frozen=True)
class _Scored:
    """Adds cells whose models are scored, after the models of a bank that their audits look at.

    These depend on the original, the half and the method alone, so all rows share the first, and all
    audits of a row those that were made to forget.

    further: audits. asked: what is forgotten. needs: keys of the models that a row is compared with,
    the original first.
    """

    study: Study
    further: tuple[str, ...]
    cells: Cells
    asked: Mapping[str, Any]
    needs: tuple[str, ...]
    seed: int

    def add(self, kind: Kind, config: Mapping[str, Any], method: Mapping[str, Any] | None) -> str:
        """Add a cell; its key.

        method: what a cell records of what made its model, None of the original.
        """
        name = None if method is None else method["method"]
        also = without_bank(self.further, name, self.study.bank)
        asks, needs = needs_of(also), self.needs
        if "shadows" in asks and self.study.bank:
            shadows = self._shadows()
            needs = (*needs, *shadows)
            if method is not None and "method" in asks:
                label = config.get("label", FLOOR)
                needs = (*needs, *self._forgetting(shadows, {**method, "label": label}))
        told = {"also": list(also)} if also else {}
        return self.cells.add(kind, {**self.asked, **config, **told}, needs, self.seed)

    def _shadows(self) -> list[str]:
        """Keys of the models of the original's bank, in order of their numbers."""
        weights = "method" in needs_of(self.study.further)  # they are to be made to forget
        return [
            self.cells.add(
                "shadow", {BANK_NUMBER: number, "weights": weights}, self.needs[:1], self.seed
            )
            for number in range(self.study.bank)
        ]

    def _forgetting(self, shadows: Sequence[str], method: Mapping[str, Any]) -> list[str]:
        """Keys of these models, each made to forget as the row is."""
        return [
            self.cells.add(
                "forgot_shadow",
                {**self.asked, **method, BANK_NUMBER: number},
                (self.needs[0], shadow),
                self.seed,
            )
            for number, shadow in enumerate(shadows)
        ]


def _runs(
    study: Study, setting: Setting, chosen: Mapping[tuple[Setting, str], Mapping[str, Any]]
) -> dict[str, Mapping[str, Any] | None]:
    """Label -> record of the method in one setting; None is the original, to which nothing is done."""
    found: dict[str, Mapping[str, Any] | None] = {ORIGINAL: None}
    for control in CONTROLS if study.controls else ():
        if control != HEAD_ZEROED or scenario_of(setting[-1]).whole_classes(setting[-1]):
            found |= variants(control, Entry(method=control), allow_code=False)
    for label, entry in study.methods.items():
        if unfit(entry, setting[-1], dense=setting[3] == "dense"):
            continue
        fields = chosen.get((setting, label))
        if fields is None:
            found |= variants(label, entry, allow_code=False)
        else:
            found[label] = tuned(entry, fields, allow_code=False)
    return found


def request(
    study: Study,
    scenario: str,
    seed: int,
    facts: Facts,
    load: Callable[[str], Facts],
    content: Callable[[str], str],
) -> dict[str, Any]:
    """What a cell is asked to forget, as plain data."""
    asked = scenario_of(scenario).request(scenario, seed, len(facts.classes))
    wanted: dict[str, Any] = {"scenario": asked, "forget_seed": seed, "seed": seed}
    if digest := content(scenario):
        wanted["content"] = digest
    if study.transfer is not None:
        wanted["transfer"] = study.transfer.model_dump(mode="json")
        wanted["transfer_fingerprints"] = list(load(study.transfer.data).fingerprints)
    return wanted


def originals(
    study: Study, load: Callable[[str], Facts], seeds: Sequence[int]
) -> Iterator[tuple[dict[str, Any], tuple[str, str, str, str], int, Facts]]:
    """Configuration of each original, its setting in words, its seed, and what is known of its data."""
    for spec in study.data:
        data = load(spec)
        prints = list(data.fingerprints)
        for model, name, density, seed in itertools.product(
            study.models, study.recipes, study.densities, seeds
        ):
            config = {
                "data": spec,
                "fingerprint": prints,
                "model": model,
                "recipe": study.recipes[name].model_dump(mode="json"),
                "density": density.resolved(),
                "seed": seed,
                "validation": study.validation,
                "split_seed": study.split_seed,
            }
            yield config, (spec, model, name, density.label), seed, data
