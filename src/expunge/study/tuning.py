"""Tuning on equal terms: as many trials for every method, on seeds that are not reported.

Each setting (data, model, recipe, density, scenario) is tuned by itself, on validation samples: by what
somebody with a request has (`audits.criterion`), or, as papers do, by the average gap to the tuning
seed's own retrained model, an oracle that nobody has who needs a method. Trials are cells like any
others, so a search that was killed goes on where it stopped.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from expunge.audits.criterion import CRITERION
from expunge.errors import ConfigError
from expunge.names.seeds import seed_for
from expunge.scores.gaps import average_gap
from expunge.study.cells import Cell, Cells, Facts, Setting, originals, request
from expunge.study.entries import Entry, is_whole, tuned, unfit
from expunge.study.schema import Study, Tuning
from expunge.study.store import CellStore

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Trial:
    """One choice of a method's tuned fields.

    cells: one for each tuning seed. points: by the study's criterion, the mean over these seeds, lower
    is better; inf if one failed, None: not known yet.
    """

    fields: Fields
    cells: tuple[str, ...]
    points: float | None


@dataclass(frozen=True)
class TuningSearch:
    """All trials of one method in one setting."""

    setting: Setting
    label: str
    trials: tuple[Trial, ...]
    budget: int

    @property
    def best(self) -> Trial | None:
        """The first of the trials with the fewest points; None until all are known."""
        if len(self.trials) < self.budget or any(trial.points is None for trial in self.trials):
            return None
        return min(
            self.trials, key=lambda trial: math.inf if trial.points is None else trial.points
        )


def searches(
    study: Study,
    load: Callable[[str], Facts],
    store: CellStore,
    content: Callable[[str], str],
) -> tuple[list[Cell], list[TuningSearch]]:
    """The cells that tuning needs so far, and where each search stands; the arguments are those of
    `plan_cells`.
    """
    cells, found = Cells(), []
    tuning = study.tuning
    if tuning is None:
        return [], []
    seen: dict[tuple[str, str, str, str], list[tuple[str, int, Facts]]] = {}
    for config, setting, seed, facts in originals(study, load, tuning.seeds):
        base = cells.add("original", config, (), seed)
        seen.setdefault(setting, []).append((base, seed, facts))
    for setting, bases in seen.items():
        for scenario in study.scenarios:
            grounds = []
            for base, seed, facts in bases:
                asked = request(study, scenario, seed, facts, load, content) | {"on": "validation"}
                retrain = None
                if tuning.criterion == "oracle":
                    retrain = cells.add("retrain", {**asked, "floor": False}, (base,), seed)
                else:
                    asked = {**asked, CRITERION: tuning.criterion}
                grounds.append(_Ground(asked, base, retrain, seed))
            for label in tuning.methods:
                if unfit(study.methods[label], scenario, dense=setting[3] == "dense"):
                    continue
                here: Setting = (*setting, scenario)
                trials = _trials(study, tuning, label, here, grounds, cells, store)
                found.append(TuningSearch(here, label, tuple(trials), tuning.trials))
    return cells.all(), found


@dataclass(frozen=True)
class _Ground:
    """What trials of a seed start from: the request, the original, and the oracle's retrained model."""

    asked: Mapping[str, Any]
    base: str
    retrain: str | None
    seed: int


def _trials(
    study: Study,
    tuning: Tuning,
    label: str,
    setting: Setting,
    grounds: Sequence[_Ground],
    cells: Cells,
    store: CellStore,
) -> list[Trial]:
    """Trials as far as they can be planned: a grid at once, Optuna's one after another."""
    entry, space = study.methods[label], tuning.methods[label]
    proposals = (
        _grid(space) if tuning.search == "grid" else _Optuna(tuning, label, entry, space, setting)
    )
    trials: list[Trial] = []
    for fields in proposals:
        told = ", ".join(
            f"{name}={value:.3g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in fields.items()
        )
        keys = []
        for ground in grounds:
            config = {
                **ground.asked,
                **tuned(entry, fields, allow_code=False),
                "label": f"tuning {label} ({told})",
            }
            keys.append(cells.add("unlearn", config, (ground.base,), ground.seed))
        each = [
            points_of(key, ground.retrain, store) for key, ground in zip(keys, grounds, strict=True)
        ]
        trial = Trial(fields, tuple(keys), _mean(each))
        trials.append(trial)
        if isinstance(proposals, _Optuna):
            if trial.points is None:
                break
            proposals.tell(trial.points)
    return trials


def _mean(each: Sequence[float | None]) -> float | None:
    """Of the points of all seeds; None while one is not known."""
    known = [one for one in each if one is not None]
    return sum(known) / len(known) if len(known) == len(each) else None


def points_of(key: str, retrain: str | None, store: CellStore) -> float | None:
    """What a trial is judged by: its own criterion, or its average gap to a retrained model.

    inf if it failed, None if not made yet. retrain: key of the oracle's cell; None: no oracle.
    """
    needed = [one for one in (key, retrain) if one is not None]
    if all(store.done(one) for one in needed):
        ours, *theirs = (_values(store, one) for one in needed)
        points = average_gap(ours, theirs[0]).value if theirs else ours[CRITERION][0]
        return math.inf if math.isnan(points) else points
    failed = any(store.failure(one) is not None and not store.done(one) for one in needed)
    return math.inf if failed else None


def _values(store: CellStore, key: str) -> dict[str, list[float]]:
    """A finished cell's scores."""
    return {
        str(score["name"]): [math.nan if score["value"] is None else float(score["value"])]
        for score in store.read(key)["scores"]
    }


def _grid(space: Mapping[str, Any]) -> list[dict[str, Any]]:
    return [dict(zip(space, values, strict=True)) for values in itertools.product(*space.values())]


def _distribution(ends: Mapping[str, Any], *, whole: bool) -> BaseDistribution:
    """A range of Optuna's, of whole numbers for a field of these."""
    from optuna.distributions import FloatDistribution, IntDistribution

    low, high, log = ends["low"], ends["high"], bool(ends.get("log", False))
    if not whole:
        return FloatDistribution(low, high, log=log)
    return IntDistribution(int(low), int(high), log=log)


class _Optuna:
    """Proposals of Optuna's sampler: the same ones whenever the same points are told."""

    def __init__(
        self, tuning: Tuning, label: str, entry: Entry, space: Mapping[str, Any], setting: Setting
    ) -> None:
        try:
            import optuna
        except ImportError as error:
            raise ConfigError(
                "search: optuna needs Optuna; install it with pip install expunge[tune], or use grid"
            ) from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        seed = seed_for("tuning", tuning.seeds[0], label, *setting) % 2**32
        self.study = optuna.create_study(sampler=optuna.samplers.TPESampler(seed=seed))
        self.left = tuning.trials
        self.space: dict[str, BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(values)
            if isinstance(values, list)
            else _distribution(values, whole=is_whole(entry, name, values, allow_code=False))
            for name, values in space.items()
        }
        self.trial: Any = None

    def __iter__(self) -> _Optuna:
        return self

    def __next__(self) -> dict[str, Any]:
        if not self.left:
            raise StopIteration
        self.left -= 1
        self.trial = self.study.ask(self.space)
        return dict(self.trial.params)

    def tell(self, points: float) -> None:
        """What came of the last proposal."""
        from optuna.trial import TrialState

        if math.isfinite(points):
            self.study.tell(self.trial, points)
        else:
            self.study.tell(self.trial, state=TrialState.FAIL)


def chosen(found: Sequence[TuningSearch]) -> dict[tuple[Setting, str], Fields] | None:
    """Best fields by setting and method; None while a search goes on, or came to nothing."""
    best = {}
    for search in found:
        if search.best is None or search.best.points == math.inf:
            return None
        best[search.setting, search.label] = search.best.fields
    return best


def check_tuned(found: Sequence[TuningSearch], cells: Sequence[Cell], store: CellStore) -> None:
    """Raise ConfigError for a method of which every trial failed; to be asked after a run, which tries
    failed cells again.
    """
    for search in found:
        if search.best is None or search.best.points != math.inf:
            continue
        keys = [cell.key for cell in cells if cell.kind != "unlearn"]
        keys += [key for trial in search.trials for key in trial.cells]
        failures = [failure for key in keys if (failure := store.failure(key)) is not None]
        why = " ".join(f"{failures[0].error}: {failures[0].message}".split()) if failures else ""
        raise ConfigError(
            f"tuning {search.label} ({', '.join(search.setting)}): all {search.budget} trials "
            f"failed{f' ({why})' if why else ''}; give other values to try"
        )


def sentences(study: Study, found: Sequence[TuningSearch]) -> list[str]:
    """What was chosen at what budget, a line for each method and setting."""
    if study.tuning is None:
        return []
    told = [
        f"{search.label} ({', '.join(search.setting)}): "
        + ", ".join(
            f"{name}={value:.4g}" if isinstance(value, float) else f"{name}={value}"
            for name, value in search.best.fields.items()
        )
        + f", the best of {search.budget} by {study.tuning.search} on {_seeds(study.tuning)}, "
        f"{_judged(study.tuning, search.best)}"
        + "".join(f"; {remark}" for remark in _remarks(search, search.best, study.tuning))
        for search in found
        if search.best is not None and search.best.points != math.inf
    ]
    untuned = [label for label in study.methods if label not in study.tuning.methods]
    if untuned:
        told.append(f"not tuned, settings as the study file has them: {', '.join(untuned)}")
    return told


def _seeds(tuning: Tuning) -> str:
    several = "s" if len(tuning.seeds) > 1 else ""
    return f"seed{several} {', '.join(map(str, tuning.seeds))}"


def _judged(tuning: Tuning, best: Trial) -> str:
    """By what, and how good it was."""
    if tuning.criterion == "oracle":
        return (
            f"average gap {best.points:.2f} to a retrained model (an oracle) on validation samples"
        )
    return f"{best.points:.2f} points on validation samples, without a retrained model"


def _remarks(search: TuningSearch, best: Trial, tuning: Tuning) -> list[str]:
    """What speaks against calling the best trial an optimum."""
    failed = sum(trial.points == math.inf for trial in search.trials)
    remarks = [f"{failed} of the trials failed"] if failed else []
    equal = sum(trial.points == best.points for trial in search.trials)
    if equal > 1:
        return [*remarks, f"{equal} of the trials are as good, and the first of them is taken"]
    ends = []
    for name, value in best.fields.items():
        tried = tuning.methods[search.label][name]
        numbers = isinstance(tried, list) and all(isinstance(one, int | float) for one in tried)
        if numbers and len(tried) > 2 and value in (min(tried), max(tried)):
            ends.append(name)
    if ends:
        remarks.append(
            f"{' and '.join(ends)} at the end of what was tried: the best may lie beyond"
        )
    return remarks
