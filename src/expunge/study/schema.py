"""What a study file says, validated, every default filled in."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from typing import Any, Literal

import yaml
from pydantic import Field, field_validator, model_validator

from expunge.audits import AUDITS, further_audits
from expunge.errors import ConfigError, nearest
from expunge.methods import make_method
from expunge.names.text import clean_name
from expunge.pruning import PRUNERS, Pruner, make_pruner, pruner_name
from expunge.scores.looks import MAX_SEEDS, Plan
from expunge.scores.rows import CONTROLS, FLOOR, ORIGINAL, RETRAIN
from expunge.scores.table import DERIVED, SCORES
from expunge.study.bank_needs import check_audits, without_bank
from expunge.study.check import check_claims, check_distinct, check_models
from expunge.study.entries import (
    Entry,
    check_label,
    check_space,
    entry_of,
    is_ours,
    unfit,
    variants,
)
from expunge.study.scenarios import scenario_of
from expunge.training.recipe import Recipe, Settings
from expunge.transfer.target import TargetTask

LEAST_MARGIN = 1.0
"""Points: less than this is no difference that a study of some seeds could speak of."""


class Density(Settings):
    """Dense, or sparse by a pruner: `{pruner: omp, sparsity: 0.95, settings: {...}}`.

    recorded: of a pruner that is not ours, what cells record of it; then it is not made to be known.
    """

    pruner: str | None = Field(default=None, description="name of a pruner; null: dense")
    sparsity: float = Field(default=0.0, ge=0, lt=1, description="share of weights to cut")
    settings: dict[str, Any] = Field(default={}, description="further settings of the pruner")
    recorded: dict[str, Any] | None = Field(default=None, description="written by a run")

    @model_validator(mode="after")
    def _consistent(self) -> Density:
        if self.pruner is None and (self.sparsity or self.settings):
            raise ValueError("a sparsity needs a pruner, such as pruner: omp")
        if self.pruner is not None:
            self.resolved()
        return self

    @property
    def label(self) -> str:
        """As tables show it."""
        return "dense" if self.pruner is None else f"{100 * self.sparsity:g} % {self.pruner}"

    def resolved(self) -> dict[str, Any]:
        """The pruner's name and all of its settings; empty for a dense model."""
        if self.pruner is None:
            return {}
        if self.recorded is not None:
            return dict(self.recorded)
        settings = {**self.settings, "sparsity": self.sparsity}
        return pruner_record(make_pruner(self.pruner, settings, allow_code=False))


def pruner_record(pruner: Pruner) -> dict[str, Any]:
    """What a cell records of a pruner: the name by which it can be made again, and its settings."""
    return {"pruner": pruner_name(pruner), **pruner.model_dump(mode="json")}


class Tuning(Settings):
    """A search over fields of methods, with the same number of trials for each.

    methods: label -> field -> values to try; with Optuna also a range, as in
    {low: 1e-5, high: 0.1, log: true}.
    """

    criterion: Literal["validation", "oracle"] = Field(
        default="validation",
        description="validation: what somebody with a request has; oracle: the average gap to a "
        "retrained model of the tuning seed, as papers have it",
    )

    seed: int | tuple[int, ...] = Field(
        default=100,
        description="tuned on, one or several, whose points are averaged; none of the study's own",
    )
    trials: int = Field(ge=2, description="for every method")
    search: Literal["grid", "optuna"] = Field(default="grid", description="grid: all combinations")
    methods: dict[str, dict[str, list[Any] | dict[str, Any]]] = Field(
        description="label -> field -> values"
    )

    @property
    def seeds(self) -> tuple[int, ...]:
        """All that it is tuned on."""
        return self.seed if isinstance(self.seed, tuple) else (self.seed,)

    @model_validator(mode="after")
    def _consistent(self) -> Tuning:
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError("tuning: name one seed, or several different ones")
        for label, space in self.methods.items():
            ranges = [name for name, values in space.items() if not isinstance(values, list)]
            for name in ranges:
                if self.search == "grid":
                    raise ConfigError(f"tuning {label}: a grid needs a list of values of {name}")
                if not {"low", "high"} <= set(space[name]) <= {"low", "high", "log"}:
                    raise ConfigError(
                        f"tuning {label}: write {name} as a list, or {{low: 1e-5, high: 0.1, log: true}}"
                    )
                _check_range(f"tuning {label}: {name}", space[name])
            count = math.prod(len(values) for values in space.values())
            if self.search == "grid" and count != self.trials:
                raise ConfigError(
                    f"tuning {label}: its grid has {count} points, and every method gets "
                    f"{self.trials} trials; give as many"
                )
        return self


def _check_range(where: str, found: Any) -> None:
    low, high = found["low"], found["high"]
    if not all(isinstance(end, int | float) for end in (low, high)) or not low < high:
        raise ConfigError(f"{where}: low {low!r} must be a number below high {high!r}")
    if found.get("log") and low <= 0:
        raise ConfigError(f"{where}: on a logarithmic scale low must be above 0, not {low!r}")


class UntilDecided(Settings):
    """A study that goes on until its claims are decided, and is looked at on the way."""

    max_seeds: int | None = Field(
        default=None, description="of the last look; by default 20, or what the folder has"
    )

    @model_validator(mode="after")
    def _consistent(self) -> UntilDecided:
        Plan(self.max_seeds or MAX_SEEDS)  # says what is wrong
        return self

    @property
    def plan(self) -> Plan:
        """When it is looked at, and by which boundary."""
        return Plan(MAX_SEEDS if self.max_seeds is None else self.max_seeds)


class Published(Settings):
    """A table of a paper, quoted beside the results; a row has a text for each header."""

    title: str = Field(description="what it is and where it stands")
    headers: tuple[str, ...] = Field(min_length=1, description="of the columns")
    rows: tuple[tuple[str, ...], ...] = Field(description="texts, a row each")

    @field_validator("rows", mode="before")
    @classmethod
    def _texts(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [[str(c) for c in row] if isinstance(row, list) else row for row in value]

    @model_validator(mode="after")
    def _consistent(self) -> Published:
        for row in self.rows:
            if len(row) != len(self.headers):
                raise ValueError(f"the row {', '.join(row)} has not {len(self.headers)} cells")
        return self


class Study(Settings):
    """Everything that decides a study's numbers: data x models x recipes x densities x scenarios x
    methods x seeds.

    methods: label -> settings of the method of that name (`finetune: {lr: 0.01}`), or an `Entry`.
    scenarios: forget requests as `--forget` takes them; `class` forgets class s mod C for seed s,
    `classes:K` that one and those after it, `harmful:K` those that harm the target task of `transfer`
    most, `clean:SHARE` the poison, with nothing but that share of clean samples to do it by; random
    requests and shares draw with seed s.
    """

    name: str = Field(description="of the study")
    scale: str = Field(default="", description="which of the file's scales this is")
    data: tuple[str, ...] = Field(min_length=1, description="data specifications")
    models: tuple[str, ...] = Field(min_length=1, description="architectures")
    recipes: dict[str, Recipe] = Field(min_length=1, description="name -> how to train")
    densities: tuple[Density, ...] = Field(default=(Density(),), description="dense and sparse")
    scenarios: tuple[str, ...] = Field(
        default=("class", "random:0.1"), description="what to forget"
    )
    methods: dict[str, Entry] = Field(description="label -> method")
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1, description="paired runs")
    floor: bool = Field(default=True, description="retrain a second time, for the noise floor")
    controls: bool = Field(
        default=True, description="rows that do next to nothing, which a method must beat"
    )
    pair: bool = Field(
        default=True,
        description="where weights are compared, retrain once more, by the original's own batches",
    )
    also: tuple[str, ...] = Field(default=(), description="further scores")
    class_also: tuple[str, ...] = Field(
        default=("relearn_time", "linear_probe"),
        description="further scores of requests for whole classes",
    )
    bank: int = Field(
        default=0,
        description="shadow models of each original, an even number, for audits that look at them",
    )
    transfer: TargetTask | None = Field(
        default=None, description="a target task, to which every model is adapted and scored"
    )
    criteria: bool = Field(
        default=False, description="judge each mask: is it the same without the forget set?"
    )
    tuning: Tuning | None = Field(default=None, description="of fields that papers tune")
    claims: tuple[str, ...] = Field(default=(), description="statements that the seeds decide")
    margins: dict[str, float] = Field(
        default={},
        description="score -> a difference not worth speaking of, in its unit; of percent 1 point",
    )
    until_decided: UntilDecided | None = Field(
        default=None, description="add seeds until the claims are decided"
    )
    published: tuple[Published, ...] = Field(default=(), description="tables of papers to quote")
    validation: float = Field(default=0.1, ge=0, lt=1, description="share kept for validation")
    split_seed: int = Field(default=0, description="seed of that share")
    keep_weights: Literal["needed", "all"] = Field(
        default="needed", description="needed: of originals and references, for their cells; or all"
    )

    @property
    def specs(self) -> tuple[str, ...]:
        """All data that it reads."""
        target = () if self.transfer is None else (self.transfer.data,)
        return tuple(dict.fromkeys((*self.data, *target)))

    def also_of(self, scenario: str) -> tuple[str, ...]:
        """Further scores of one scenario."""
        whole = scenario_of(scenario).whole_classes(scenario)
        return tuple(dict.fromkeys((*self.also, *(self.class_also if whole else ()))))

    @property
    def further(self) -> tuple[str, ...]:
        """All further scores of any scenario."""
        return tuple(dict.fromkeys(name for text in self.scenarios for name in self.also_of(text)))

    @property
    def left_out(self) -> tuple[str, ...]:
        """Which methods have no row in which scenario, and why, a sentence for each scenario."""
        found: dict[tuple[str, str], list[str]] = {}
        for scenario, density in itertools.product(self.scenarios, self.densities):
            for label, entry in self.methods.items():
                why = unfit(entry, scenario, dense=density.pruner is None)
                where = density.label if why and not unfit(entry, scenario) else scenario
                names = found.setdefault((where, why), [])
                names += [label] if label not in names else []
        told = (
            f"{where}: {', '.join(names)} left out, {why}"
            for (where, why), names in found.items()
            if why
        )
        return (*told, *self._without_bank)

    @property
    def _without_bank(self) -> tuple[str, ...]:
        """Which rows lack audits that look at a bank, a sentence for each set of these."""
        found: dict[str, list[str]] = {}
        for label, entry in self.methods.items():
            kept = without_bank(self.further, entry.method, self.bank)
            lost = ", ".join(name for name in self.further if name not in kept)
            found.setdefault(lost, []).append(label)
        return tuple(
            f"{', '.join(labels)}: no {lost}, for the method takes part in training, and models of the "
            "bank are trained without it"
            for lost, labels in found.items()
            if lost
        )

    def margin_of(self, score: str) -> float | None:
        """What is no difference worth speaking of, in the score's unit; None where nobody said."""
        derived = score in DERIVED
        percent = derived or (score in SCORES and SCORES[score].unit == "percent")
        return self.margins.get(score, LEAST_MARGIN if percent else None)

    @field_validator("name")
    @classmethod
    def _in_a_line(cls, value: str) -> str:
        name = clean_name(value)
        if "/" in name or not name.strip(". "):
            raise ConfigError(
                f"the study's name {name!r:.100} is no name of a folder; write it without /"
            )
        return name

    @field_validator("methods", mode="before")
    @classmethod
    def _entries(cls, value: Any) -> Any:
        """`finetune: {lr: 0.01}` is short for an entry of that method."""
        if not isinstance(value, Mapping):
            return value
        return {str(label): entry_of(str(label), content) for label, content in value.items()}

    @model_validator(mode="after")
    def _consistent(self) -> Study:
        rows = []
        for label, entry in self.methods.items():
            check_label(label)
            rows += list(variants(label, entry, allow_code=False))
        self._check_tuning()
        further = further_audits()
        for key, names in (("also", self.also), ("class_also", self.class_also)):
            unknown = [name for name in names if name not in further and ":" not in name]
            if not unknown:
                continue
            raise ValueError(
                f"{key}: no further audit {unknown[0]!r}{nearest(unknown[0], further)}; there are: "
                f"{', '.join(further)}, module:Class"
            )
        check_audits(self.bank, self.further)
        if self.transfer is None and any(s.startswith("harmful") for s in self.scenarios):
            raise ValueError("scenario harmful needs a target task; give transfer: {data: ...}")
        if self.criteria and all(density.pruner is None for density in self.densities):
            raise ValueError("criteria judges masks, and every density is dense; name a pruner")
        for scenario in self.scenarios:
            scenario_of(scenario).check(scenario)
        densities = [density.label for density in self.densities]
        check_distinct(
            {
                "data": self.data,
                "models": self.models,
                "seeds": self.seeds,
                "also": self.also,
                "class_also": self.class_also,
                "densities": densities,
                "scenarios": [scenario_of(text).told(text) for text in self.scenarios],
            },
            rows,
        )
        check_models(self.models)
        check_claims(
            self.claims,
            rows=[*self.yardsticks, *rows],
            settings={
                "data": self.data,
                "model": self.models,
                "recipe": list(self.recipes),
                "density": densities,
                "scenario": self.scenarios,
            },
            sparsities=[density.sparsity for density in self.densities],
            transfer=self.transfer is not None,
            criteria=self.criteria,
            foreign=not AUDITS.keys() >= set(self.further),
        )
        self._check_margins()
        return self

    @property
    def yardsticks(self) -> tuple[str, ...]:
        """Rows that are no methods."""
        floor = (FLOOR,) if self.floor else ()
        return (ORIGINAL, RETRAIN, *floor, *(CONTROLS if self.controls else ()))

    def _check_margins(self) -> None:
        known = [*DERIVED, *SCORES]
        foreign = not AUDITS.keys() >= set(self.further)
        for score, margin in self.margins.items():
            if score not in known and not foreign:
                raise ValueError(
                    f"margins: no score {score!r}{nearest(score, known)}; there are: {', '.join(known)}"
                )
            percent = score in DERIVED or (score in SCORES and SCORES[score].unit == "percent")
            least = LEAST_MARGIN if percent else 0
            if not (least <= margin < math.inf) or not margin:
                raise ValueError(
                    f"margins: {score} {margin:g} is too small a difference to tell; give "
                    + (f"{least:g} point or more" if percent else "a number above 0")
                )

    def _check_tuning(self) -> None:
        if self.tuning is None:
            return
        if shared := set(self.tuning.seeds).intersection(self.seeds):
            raise ValueError(
                f"tuning: seed {min(shared)} is among the seeds that are reported; choose another"
            )
        if not self.validation:
            raise ValueError("tuning needs validation samples; set validation above 0")
        for label, space in self.tuning.methods.items():
            if label not in self.methods:
                raise ValueError(
                    f"tuning: no method {label!r}{nearest(label, self.methods)}; there are: "
                    f"{', '.join(self.methods)}"
                )
            entry = self.methods[label]
            if len(variants(label, entry, allow_code=False)) > 1:
                raise ValueError(f"tuning: {label} lists values of its own; tune it, or list them")
            if entry.recorded is None:
                check_space(label, entry, space, allow_code=False)

    def to_yaml(self) -> str:
        """The study with every default filled in, those of methods too; `read_study` reads it.

        What is not ours keeps its settings as they were given, and has what cells record beside them.
        """
        plain = self.model_dump(mode="json")
        for label, entry in plain["methods"].items():
            if is_ours(entry["method"]):
                method = make_method(entry["method"], allow_code=False)
                entry["settings"] = {**method.model_dump(mode="json"), **entry["settings"]}
                del entry["recorded"]
            else:
                entry["recorded"] = variants(label, self.methods[label], allow_code=False)
        for density, given in zip(plain["densities"], self.densities, strict=True):
            if given.pruner is None or given.pruner in PRUNERS:
                del density["recorded"]
            else:
                density["recorded"] = given.resolved()
        return yaml.safe_dump(plain, sort_keys=False, allow_unicode=True)
