"""How one cell is made: train, retrain or unlearn, observe, score, and write it whole."""

from __future__ import annotations

import functools
import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, load_model, save_file, save_model
from torch import nn

from expunge import methods, pruning
from expunge.api import Record, Result, audit_panel, train, unlearn
from expunge.audits.details import details
from expunge.audits.panel import Subject, observe_panel
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.hardware import machine_name
from expunge.methods import make_method
from expunge.models.mask import Mask, overlap
from expunge.names.code import module_file
from expunge.progress import Reporter, Silent
from expunge.pruning import make_pruner
from expunge.pruning.original import mask_without, prune
from expunge.scores.score import Score
from expunge.study.cells import Cell, Facts
from expunge.study.scenarios import Given, scenario_of
from expunge.study.store import Store
from expunge.training.cost import Cost
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import constructor, resolve_recipe
from expunge.transfer.adapt import full_finetune, linear_probe
from expunge.transfer.head import without_head
from expunge.transfer.target import Target, as_target
from expunge.version import VERSION


@dataclass
class Bench:
    """What a worker needs for cells: the store, where data lie, the device; data are kept.

    keep_all: write every cell's weights, not those alone that other cells start from. allow_code:
    whether data, methods and pruners may be `module:object`.
    """

    store: Store
    data_dir: str | None = None
    device: str | None = None
    keep_all: bool = False
    allow_code: bool = True
    progress: Reporter = field(default_factory=Silent)
    _data: dict[str, Data] = field(default_factory=dict)
    _bases: dict[str, Base] = field(default_factory=dict)
    _splits: dict[str, Split] = field(default_factory=dict)
    _targets: dict[tuple[str, str], Data] = field(default_factory=dict)

    def data(self, spec: str) -> Data:
        """The data of a specification, loaded once."""
        if spec not in self._data:
            with self.progress.work(f"reading {spec}"):
                self._data[spec] = load_data(
                    spec, data_dir=self.data_dir, allow_code=self.allow_code
                )
        return self._data[spec]

    def facts(self, spec: str) -> Facts:
        """What a plan needs to know of the data, from the data themselves."""
        data = self.data(spec)
        with self.progress.work(f"planning, fingerprint of {spec}"):
            return Facts((data.train.fingerprint, data.test.fingerprint), tuple(data.classes))

    def split(self, cell: Cell, base: Base) -> Split:
        """What a cell forgets; the last one is kept, for finding it may take long."""
        config = cell.config
        transfer = config.get("transfer")
        key = json.dumps([cell.needs[0], config["scenario"], config["forget_seed"], transfer])
        if key not in self._splits:
            given = Given(
                base.model,
                base.data,
                base.split,
                config["forget_seed"],
                Run(
                    names=("scenario", cell.seed),
                    accelerator=accelerator_on(self.device),
                    label="choosing what to forget",
                    progress=self.progress,
                ),
                Target(**transfer) if transfer else None,
                lambda spec: self.target(base.spec, spec),
            )
            asked = config["scenario"]
            self._splits = {key: scenario_of(asked).split(asked, given)}
        return self._splits[key]

    def target(self, source: str, spec: str) -> Data:
        """Data of a target task in the form of the source's, made once."""
        if (source, spec) not in self._targets:
            self._targets[source, spec] = as_target(self.data(source), self.data(spec))
        return self._targets[source, spec]

    def base(self, key: str) -> Base:
        """An original of the store; the last one is kept, for its cells stand next to each other."""
        if key not in self._bases:
            self._bases = {key: read_base(key, self)}
        return self._bases[key]


@dataclass(frozen=True)
class Base:
    """An original as other cells start from it. spec: of its data."""

    spec: str
    model: nn.Module
    data: Data
    split: Split
    recipe: Recipe
    architecture: str
    mask: Mask | None
    saw_data: bool | None


def do_cell(cell: Cell, bench: Bench) -> None:
    """Make a cell and write it. The caller holds its claim, and what it needs is done."""
    start = time.perf_counter()
    scored: dict[str, Any] = {"scores": []}
    if cell.kind == "original":
        result = _original(cell, bench)
        scored |= {
            "recipe": result.recipe.model_dump(mode="json") if result.recipe else None,
            "saw_data": result.record.log.get("saw_data"),
        }
    else:
        base = bench.base(cell.needs[0])
        result, scored = _forget(cell, base, bench)
    content = {
        "kind": cell.kind,
        "label": cell.label,
        "config": dict(cell.config),
        "needs": list(cell.needs),
        "seed": cell.seed,
        **scored,
        "made_from": _dates(cell, bench.store),
        "cost": result.record.cost.to_dict(),
        "warnings": list(result.record.warnings),
        "log": result.record.log,
        "source": source_of(cell),
        "version": VERSION,
        "torch": torch.__version__,
        "machine": machine_name(result.record.cost.device),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "seconds": time.perf_counter() - start,
    }
    with bench.store.writing(cell.key, content) as folder:
        if bench.keep_all or cell.kind == "original" or _is_reference(cell):
            _write_model(folder, result.model, result.mask)


def _is_reference(cell: Cell) -> bool:
    return cell.kind == "retrain" and not cell.config["floor"]


def _write_model(folder: Path, model: nn.Module, mask: Mask | None) -> None:
    save_model(model, str(folder / "model.safetensors"))
    if mask is not None:
        packed = {name: keep.cpu().contiguous() for name, keep in mask.items()}
        save_file(packed, folder / "mask.safetensors")


def _original(cell: Cell, bench: Bench) -> Result:
    config = cell.config
    data = bench.data(config["data"])
    split = _whole(data, config)
    common: dict[str, Any] = {
        "recipe": Recipe(**config["recipe"]),
        "split": split,
        "seed": config["seed"],
        "device": bench.device,
        "progress": bench.progress,
    }
    if not config["density"]:
        return train(data, config["model"], **common)
    settings = {name: value for name, value in config["density"].items() if name != "pruner"}
    pruner = make_pruner(config["density"]["pruner"], settings, allow_code=bench.allow_code)
    return prune(data, config["model"], pruner, **common)


def _whole(data: Data, config: Mapping[str, Any]) -> Split:
    return Split.whole(data, validation=config["validation"], split_seed=config["split_seed"])


def read_base(key: str, bench: Bench) -> Base:
    """An original from the store."""
    content = bench.store.read(key)
    config = content["config"]
    data = bench.data(config["data"])
    split = _whole(data, config)
    model = constructor(config["model"], data, split)()
    folder = bench.store.path(key)
    if not (folder / "model.safetensors").exists():
        raise ConfigError(
            f"{folder} is a record without weights, and something new starts from them; delete that "
            "folder, and run the study again"
        )
    load_model(model, str(folder / "model.safetensors"))
    file = folder / "mask.safetensors"
    mask = load_file(file) if file.exists() else None
    return Base(
        config["data"],
        model.eval(),
        data,
        split,
        Recipe(**content["recipe"]),
        config["model"],
        mask,
        content["saw_data"],
    )


def _forget(cell: Cell, base: Base, bench: Bench) -> tuple[Result, dict[str, Any]]:
    """Retrain, or run a method, or do nothing; and the scores and details of what came of it."""
    config = cell.config
    split = bench.split(cell, base)
    names: tuple[str | int, ...] | None = None
    if cell.kind == "retrain":
        names = ("retrain", cell.seed, "floor") if config["floor"] else ("retrain", cell.seed)
        method = make_method("retrain")
    elif "method" in config:
        method = make_method(config["method"], config["settings"], allow_code=bench.allow_code)
    else:
        result = _untouched(cell, base, split, bench)
        scored = _scores(cell, result, base, split, bench)
        if config.get("criteria"):
            scored["scores"] += [s.to_dict() for s in _criteria(cell, base, split, bench)]
        return result, scored
    result = unlearn(
        base.model,
        base.data,
        split,
        method,
        seed=cell.seed,
        recipe=base.recipe,
        names=names,
        fresh=base.architecture,
        mask=base.mask,
        mask_saw_forget=base.saw_data,
        device=bench.device,
        progress=bench.progress,
    )
    return result, _scores(cell, result, base, split, bench)


def _untouched(cell: Cell, base: Base, split: Split, bench: Bench) -> Result:
    """The original as a row of its own; its cost is its training's."""
    cost = Cost(**bench.store.read(cell.needs[0])["cost"])
    record = Record("original", {}, (), cost)
    return Result(base.model, record, split, base.recipe, base.mask)


def _criteria(cell: Cell, base: Base, split: Split, bench: Bench) -> list[Score]:
    """How far the mask of a sparse original depends on the forget set, and what finding it took."""
    content = bench.store.read(cell.needs[0])
    density = dict(content["config"]["density"])
    blind = mask_without(
        base.data,
        base.architecture,
        make_pruner(density.pop("pruner"), density, allow_code=bench.allow_code),
        split,
        recipe=base.recipe,
        seed=content["config"]["seed"],
        device=bench.device,
        progress=bench.progress,
    )
    shared = 100 * overlap(base.mask or {}, blind)
    seconds = float(content["log"]["seconds_to_mask"])
    return [
        Score("mask_overlap", shared, 1, None, None, "percent", "high"),
        Score("mask_s", seconds, 1, None, None, "seconds", "low"),
    ]


def _scores(cell: Cell, result: Result, base: Base, split: Split, bench: Bench) -> dict[str, Any]:
    run = Run(
        names=("audit", cell.seed),
        accelerator=accelerator_on(bench.device),
        progress=bench.progress,
    )
    if cell.config.get("on") == "validation":  # tuning never sees the test set
        base = replace(base, data=_judged_on_validation(base))
    also = cell.config.get("also", [])
    original = retrained = None
    if also:
        model = constructor(base.architecture, base.data, base.split)()
        load_model(model, str(bench.store.path(cell.needs[1]) / "model.safetensors"))
        original = Subject(base.model, base.data, base.mask)
        retrained = Subject(model.eval(), base.data, base.mask)
    panel = observe_panel(
        Subject(result.model, base.data, base.mask),
        split,
        run,
        original=original,
        retrained=retrained,
        paired=False if also else None,
    )
    scores = audit_panel(panel, also=also, seed=cell.seed)
    transfer = cell.config.get("transfer")
    if transfer and cell.config.get("on") != "validation":  # the target has no validation samples
        scores += _transferred(result.model, base, Target(**transfer), cell.seed, bench)
    return {
        "scores": [score.to_dict() for score in scores],
        "details": {**details(panel.outputs, base.data.classes), "classes": base.data.classes},
        "forgotten_classes": [base.data.classes[c] for c in split.forgotten_classes(base.data)],
    }


def _transferred(
    model: nn.Module, base: Base, target: Target, seed: int, bench: Bench
) -> list[Score]:
    """How well a model adapts to the study's target task, both ways."""
    data = bench.target(base.spec, target.data)
    run = Run(
        names=("transfer", seed),
        accelerator=accelerator_on(bench.device),
        label="adapting",
        mask=without_head(base.mask, model),
        progress=bench.progress,
    )
    probed = linear_probe(model, data, run)
    tuned = full_finetune(model, data, run, resolve_recipe(target.recipe, data, Split.whole(data)))
    return [*probed.scores("linear_probe"), *tuned.scores("full_finetune")]


def _judged_on_validation(base: Base) -> Data:
    """The data with the validation samples in place of the test set."""
    rows = base.split.rows(base.data.train, Part.VALIDATION)
    if base.data.poison is not None:  # a test set is clean
        clean = [name not in base.data.poison.ids for name in base.data.train.ids[rows].tolist()]
        rows = rows[np.array(clean, dtype=bool)]
    held = base.data.train.subset(rows)
    return replace(base.data, test=held)


def source_of(cell: Cell) -> str:
    """Digest of the source of the method or pruner that a cell runs; empty where it runs none."""
    if cell.kind == "original":
        density = cell.config.get("density")
        return _source(pruning.ALL_PRUNERS.module_of(density["pruner"])) if density else ""
    name = "retrain" if cell.kind == "retrain" else cell.config.get("method", "")
    return method_source(name) if name else ""


def method_source(name: str) -> str:
    """Digest of the file that a method is written in, 32 hexadecimal digits; empty: not found."""
    return _source(methods.ALL_METHODS.module_of(name))


@functools.cache
def _source(module: str) -> str:
    """Read without importing it: whoever looks at a study need not trust its code."""
    file = module_file(module) if module else None
    if file is None:
        return ""
    text = file.read_text(encoding="utf-8")
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def is_stale(cell: Cell, store: Store) -> bool:
    """Whether a finished cell was made by another source than there is now, or from a cell that has
    been made anew since.
    """
    content: Mapping[str, Any] = store.read(cell.key)
    if content.get("source") and source_of(cell) not in ("", content["source"]):
        return True
    made_from: Mapping[str, str] = content.get("made_from", {})
    return any(store.done(key) and store.read(key)["date"] != made_from[key] for key in made_from)


def _dates(cell: Cell, store: Store) -> dict[str, str]:
    """When the cells that a cell starts from were made."""
    return {key: str(store.read(key)["date"]) for key in cell.needs}
