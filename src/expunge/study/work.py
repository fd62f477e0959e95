"""How one cell is made: train, retrain or unlearn, observe, score, and write it whole."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import torch

from expunge.api import train, unlearn
from expunge.audits import chosen_audits, there
from expunge.audits.beside import FurtherModels
from expunge.audits.criterion import CRITERION
from expunge.audits.details import details
from expunge.audits.distance_floor import DistanceFloor, distance_floor
from expunge.audits.panel import Panel
from expunge.audits.scores import score_panel
from expunge.audits.shadows import Shadows
from expunge.audits.unseen import held_apart, judged_unseen, reads_on, tested_on, unseen_panel
from expunge.audits.weights import DISTANCE_FLOOR
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.samples import Samples
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.hardware import machine_name
from expunge.methods import Method, make_method
from expunge.models.mask import Mask, overlap
from expunge.place import HERE, Place
from expunge.pruning import make_pruner
from expunge.pruning.original import mask_in_other_order, mask_without
from expunge.scores.score import Score
from expunge.study.bank_work import (
    Made,
    make_forgetting,
    make_shadow,
    shadows_of,
    unlearned_of,
    untouched,
)
from expunge.study.cells import Cell, Facts
from expunge.study.models import read_model
from expunge.study.scenarios import Given, scenario_of
from expunge.study.source import audits_of, source_of
from expunge.study.store import CellStore
from expunge.trained.record import Record
from expunge.trained.recorded import record_of
from expunge.trained.trained import Trained
from expunge.training.cost import Cost
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import resolve_recipe
from expunge.transfer.adapt import full_finetune, linear_probe
from expunge.transfer.head import without_head
from expunge.transfer.target import TargetTask, as_target
from expunge.version import VERSION


@dataclass
class Bench:
    """What a worker needs for cells: the store, and where it works; data and originals are kept.

    keep_all: write every cell's weights, not those alone that other cells start from.
    """

    store: CellStore
    place: Place = HERE
    keep_all: bool = False
    _data: dict[str, Data] = field(default_factory=dict)
    _originals: dict[str, Trained] = field(default_factory=dict)
    _splits: dict[str, Split] = field(default_factory=dict)
    _targets: dict[tuple[str, str], Data] = field(default_factory=dict)
    _panels: dict[str, Panel] = field(default_factory=dict)
    _floors: dict[Trained, DistanceFloor | None] = field(default_factory=dict)
    _masks: dict[Trained, Mask] = field(default_factory=dict)

    def data(self, spec: str) -> Data:
        """The data of a specification, loaded once."""
        if spec not in self._data:
            with self.place.progress.work(f"reading {spec}"):
                self._data[spec] = load_data(
                    spec, data_dir=self.place.data_dir, allow_code=self.place.allow_code
                )
        return self._data[spec]

    def facts(self, spec: str) -> Facts:
        """What a plan needs to know of the data, from the data themselves."""
        data = self.data(spec)
        with self.place.progress.work(f"planning, fingerprint of {spec}"):
            return Facts((data.train.fingerprint, data.test.fingerprint), tuple(data.classes))

    def split(self, cell: Cell, original: Trained) -> Split:
        """What a cell forgets; the last one is kept, for finding it may take long."""
        config = cell.config
        transfer = config.get("transfer")
        key = json.dumps([cell.needs[0], config["scenario"], config["forget_seed"], transfer])
        if key not in self._splits:
            given = Given(
                original,
                config["forget_seed"],
                self.run(("scenario", cell.seed), "choosing what to forget"),
                TargetTask(**transfer) if transfer else None,
                lambda spec: self.target(original, spec),
            )
            asked = config["scenario"]
            self._splits = {key: scenario_of(asked).split(asked, given)}
        return self._splits[key]

    def target(self, source: Trained, spec: str) -> Data:
        """Data of a target task in the form of the source's, made once."""
        key = str(source.data.spec), spec
        if key not in self._targets:
            self._targets[key] = as_target(source.data, self.data(spec))
        return self._targets[key]

    def original(self, cell: Cell) -> Trained:
        """The model of an original; the last one is kept, for its cells stand next to each other."""
        if cell.key not in self._originals:
            data = self.data(cell.config["data"])
            self._originals = {cell.key: read_model(self.store, cell, data, self.place)}
        return self._originals[cell.key]

    def panel(self, cell: Cell, subject: Trained, original: Trained) -> Panel:
        """A model beside its original and its retrained reference; what is known of these two is kept
        for the cells that are compared with the same.
        """
        # an original of the row's own making, where its method took part in training
        mine = "" if original is self.original(cell.starts[0]) else cell.key
        shared = [one for one in cell.starts if one.kind != "forgot_shadow"]
        keys = [one.key for one in shared]
        key = json.dumps([keys, cell.config["scenario"], cell.config["forget_seed"], mine])
        if key not in self._panels:
            retrained, *pair = (
                read_model(self.store, one, subject.data, self.place)
                for one in shared
                if one.kind == "retrain"
            )
            bank = [one for one in shared if one.kind == "shadow"]
            self._panels = {
                key: Panel(
                    subject,
                    subject.split,
                    self.run(("audit", cell.seed), "audit"),
                    original=original,
                    retrained=retrained,
                    pair=pair[0] if pair else None,
                    seed=cell.seed,
                    shadows=shadows_of(bank, original, self.store) if bank else None,
                )
            }
        panel = self._panels[key].judging(subject)
        return replace(panel, unlearned=self._unlearned(cell, panel))

    def _unlearned(self, cell: Cell, panel: Panel) -> Callable[[], Shadows] | None:
        """Gives the models of a bank, made to forget as a row is."""
        shadows, original = panel.shadows, panel.original
        if shadows is None or original is None:
            return None
        forget = panel.split.forget
        made = [one for one in cell.starts if one.kind == "forgot_shadow"]
        if made:
            return unlearned_of(made, original, forget, self.store)
        does_nothing = cell.kind == "unlearn" and "method" not in cell.config
        return partial(untouched, shadows, forget) if does_nothing else None

    def with_floor(self, made: Trained, original: Trained) -> Trained:
        """A paired retraining with the floor of distances in its record.

        That is the same for all that an original forgets, so the last one is kept; what it took is no
        cost of the retraining.
        """
        record = made.record
        cost = record.cost
        if original not in self._floors:
            found = distance_floor(original, record.names, place=self.place)
            self._floors = {original: found}
            cost = cost if found is None else found.booked(cost)
        floor = self._floors[original]
        if floor is None:
            return made
        told = {DISTANCE_FLOOR: floor.distances} if floor.distances else {}
        changes = {
            "settings": {**record.settings, "floor": True},
            "cost": cost,
            "warnings": (*record.warnings, *([floor.warning] if floor.warning else [])),
            "log": {**record.log, **told},
        }
        return replace(made, history=(*made.history[:-1], record.model_copy(update=changes)))

    def mask_floor(self, original: Trained, make: Callable[[], Mask]) -> Mask:
        """A mask found in another order of the samples, the same for all that an original forgets."""
        if original not in self._masks:
            self._masks = {original: make()}
        return self._masks[original]

    def run(self, names: tuple[str | int, ...], label: str = "run") -> Run:
        """A run for what is no training."""
        return Run(
            names=names,
            label=label,
            accelerator=accelerator_on(self.place.device),
            progress=self.place.progress,
        )


def do_cell(cell: Cell, bench: Bench) -> None:
    """Make a cell and write it. The caller holds its claim, and what it needs is done."""
    start = time.perf_counter()
    content: dict[str, Any] = {
        "kind": cell.kind,
        "label": cell.label,
        "config": dict(cell.config),
        "needs": list(cell.needs),
        "seed": cell.seed,
        "scores": [],
    }
    if cell.kind in ("shadow", "forgot_shadow"):  # each file is written as soon as it is there
        with bench.store.writing(cell.key, content) as folder:
            made = _of_bank(cell, bench, folder)
            told = [made.why] if made.why else []
            content |= {"warnings": told, "log": {}, **_told(cell, bench, made.cost, start)}
        return
    scored: dict[str, Any] = {}
    if cell.kind == "original":
        model = _original(cell, bench)
        scored |= {
            "recipe": model.recipe.model_dump(mode="json") if model.recipe else None,
            "saw_data": model.record.log.get("saw_data"),
        }
    else:
        model, scored = _forget(cell, bench)
    notes = scored.pop("notes", [])
    content |= {
        **scored,
        "warnings": [*model.record.warnings, *notes],
        "log": model.record.log,
        **_told(cell, bench, model.record.cost, start),
    }
    with bench.store.writing(cell.key, content) as folder:
        if bench.keep_all or cell.kind == "original" or _is_reference(cell):
            model.write(folder)


def _told(cell: Cell, bench: Bench, cost: Cost, start: float) -> dict[str, Any]:
    """What every cell says of its making. start: when that began."""
    return {
        "made_from": _dates(cell, bench.store),
        "cost": cost.to_dict(),
        "source": source_of(cell),
        **audits_of(cell),
        "version": VERSION,
        "torch": torch.__version__,
        "machine": machine_name(cost.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - start,
    }


def _of_bank(cell: Cell, bench: Bench, folder: Path) -> Made:
    """Make a model of a bank, or make one forget, in a folder."""
    original = bench.original(cell.starts[0])
    if cell.kind == "shadow":
        return make_shadow(cell, original, folder, bench.place)
    method = make_method(
        cell.config["method"], cell.config["settings"], allow_code=bench.place.allow_code
    )
    forget = bench.split(cell, original).forget
    return make_forgetting(cell, original, method, forget, folder, bench.store, bench.place)


def _is_reference(cell: Cell) -> bool:
    return cell.kind == "retrain" and not cell.config["floor"]


def _original(cell: Cell, bench: Bench, method: Method | None = None) -> Trained:
    """An original, trained as usual or by a method that takes part in training."""
    config = cell.config
    data = bench.data(config["data"])
    split = Split.whole(data, validation=config["validation"], split_seed=config["split_seed"])
    pruner = None
    if config["density"]:
        settings = dict(config["density"])
        name = settings.pop("pruner")
        pruner = make_pruner(name, settings, allow_code=bench.place.allow_code)
    return replace(
        train(
            data,
            config["model"],
            recipe=Recipe(**config["recipe"]),
            split=split,
            pruner=pruner,
            method=method,
            seed=config["seed"],
            place=bench.place,
            allow_code=bench.place.allow_code,
        ),
        split_seed=config["split_seed"],
    )


def _forget(cell: Cell, bench: Bench) -> tuple[Trained, dict[str, Any]]:
    """Retrain, or run a method, or do nothing; and the scores and details of what came of it."""
    config = cell.config
    original = bench.original(cell.starts[0])
    split = bench.split(cell, original)
    names: tuple[str | int, ...] | None = None
    if cell.kind == "retrain":
        paired = bool(config.get("paired"))
        if not paired:
            names = ("retrain", cell.seed, "floor") if config["floor"] else ("retrain", cell.seed)
        settings = {"paired": True, "floor": False} if paired else {}
        method = make_method("retrain", settings, allow_code=False)
    elif "method" in config:
        method = make_method(
            config["method"], config["settings"], allow_code=bench.place.allow_code
        )
        if method.takes_part:  # what this costs is no cost of forgetting
            original = _original(cell.starts[0], bench, method)
    else:
        made = replace(
            original, split=split, history=(*original.history, _nothing(original, split))
        )
        scored = _scores(cell, made, original, bench)
        if config.get("criteria"):
            scored["scores"] += [s.to_dict() for s in _criteria(cell, original, split, bench)]
        return made, scored
    judged: Samples | None = None
    if config.get("on") == "validation":  # tuning never sees the test set
        reads = reads_on(method, original, split) if cell.kind == "unlearn" else Part.RETAIN
        split, judged = held_apart(original, split, reads)
    made = unlearn(
        original,
        split,
        method,
        seed=cell.seed,
        names=names,
        place=replace(bench.place, strike=False),
        allow_code=bench.place.allow_code,
    )
    if config.get("paired"):  # others are compared with its weights, and nothing else
        return bench.with_floor(made, original), {"scores": []}
    return made, _scores(cell, made, original, bench, judged)


def _nothing(original: Trained, split: Split) -> Record:
    """The original as a row of its own, to which nothing is done; its cost is its training's."""
    return record_of("original", split, original, cost=original.record.cost)


def _criteria(cell: Cell, original: Trained, split: Split, bench: Bench) -> list[Score]:
    """How far the mask of a sparse original depends on the forget set, and on chance; what it took."""
    planned = cell.starts[0].config
    density = dict(planned["density"])
    if original.recipe is None:
        raise ConfigError("a mask is judged on an original that was trained here")
    given: dict[str, Any] = {
        "pruner": make_pruner(density.pop("pruner"), density, allow_code=bench.place.allow_code),
        "split": split,
        "recipe": original.recipe,
        "seed": planned["seed"],
        "place": bench.place,
        "allow_code": bench.place.allow_code,
    }
    model = planned["model"]
    masks = [
        mask_without(original.data, model, **given),
        bench.mask_floor(original, lambda: mask_in_other_order(original.data, model, **given)),
    ]
    found = [100 * overlap(original.mask or {}, mask) for mask in masks]
    seconds = float(bench.store.read(cell.needs[0])["log"]["seconds_to_mask"])
    return [
        *(
            Score(name, value, 1, None, None, "percent", "high")
            for name, value in zip(("mask_overlap", "mask_overlap_floor"), found, strict=True)
        ),
        Score("mask_s", seconds, 1, None, None, "seconds", "low"),
    ]


def _scores(
    cell: Cell, made: Trained, original: Trained, bench: Bench, judged: Samples | None = None
) -> dict[str, Any]:
    """judged: samples in place of the test set."""
    data = made.data
    if judged is not None:
        data = tested_on(judged, original)
    if CRITERION in cell.config:
        run = bench.run(("audit", cell.seed), "audit")
        return {"scores": [judged_unseen(unseen_panel(made, original, data, run)).to_dict()]}
    also = cell.config.get("also", [])
    subject = replace(made, data=data)
    if also:
        panel = bench.panel(cell, subject, original)
    else:
        run = bench.run(("audit", cell.seed), "audit")
        panel = Panel(subject, made.split, run, seed=cell.seed)
    beside = FurtherModels(shadows=panel.shadows, unlearned=panel.unlearned)
    audits = chosen_audits(
        also,
        beside=there(panel.original, panel.retrained, beside),
        allow_code=bench.place.allow_code,
    )
    # what it cost stands in the cell
    found = score_panel(panel, [audit for audit in audits if audit.name != "run_time"])
    scores = found.scores
    transfer = cell.config.get("transfer")
    if transfer and cell.config.get("on") != "validation":  # the target has no validation samples
        scores += _transferred(made, TargetTask(**transfer), cell.seed, bench)
    return {
        "scores": [score.to_dict() for score in scores],
        "notes": list(found.notes),
        "details": {**details(panel.outputs, data.classes), "classes": data.classes},
        "forgotten_classes": [data.classes[c] for c in made.split.forgotten_classes(data)],
        "whole_classes": made.split.only_whole_classes(data),
    }


def _transferred(made: Trained, target: TargetTask, seed: int, bench: Bench) -> list[Score]:
    """How well a model adapts to the study's target task, both ways."""
    data = bench.target(made, target.data)
    run = replace(
        bench.run(("transfer", seed), "adapting"), mask=without_head(made.mask, made.model)
    )
    probed = linear_probe(made.model, data, run)
    recipe = resolve_recipe(target.recipe, data, Split.whole(data))
    tuned = full_finetune(made.model, data, run, recipe)
    return [*probed.scores("linear_probe"), *tuned.scores("full_finetune")]


def _dates(cell: Cell, store: CellStore) -> dict[str, str]:
    """When the cells that a cell starts from were made."""
    return {key: str(store.read(key)["date"]) for key in cell.needs}
