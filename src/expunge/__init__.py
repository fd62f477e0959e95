"""Make a trained PyTorch model forget part of its training data, and measure whether it did."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expunge.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from expunge.advice.recommend import Recommendation, recommend
    from expunge.api import adopt, audit, train, unlearn
    from expunge.audits import AUDITS
    from expunge.audits.base import Audit
    from expunge.audits.panel import Panel
    from expunge.audits.scores import Scores
    from expunge.audits.strength import Strength
    from expunge.backdoor.inspecting import Inspection, inspect
    from expunge.data.batch import Batch
    from expunge.data.load import Data, load_data
    from expunge.data.parts import Part
    from expunge.data.split import Split
    from expunge.data.task import Classification, Task
    from expunge.data.view import DataView
    from expunge.errors import (
        AccessError,
        ConfigError,
        DataError,
        DivergenceError,
        ExpungeError,
        ModelError,
        SplitError,
        UserError,
    )
    from expunge.methods import METHODS
    from expunge.methods.base import Method, SgdMethod, constant_rate
    from expunge.models.mask import Mask
    from expunge.per_sample.fisher import fisher_diagonal
    from expunge.per_sample.products import weighted_gradient
    from expunge.place import Place
    from expunge.pruning import PRUNERS
    from expunge.pruning.base import Pruner
    from expunge.pruning.original import Pruned, prune
    from expunge.scores.gaps import average_gap, excess_gap, gap
    from expunge.scores.info import ScoreInfo
    from expunge.scores.score import Score
    from expunge.trained.opening import load
    from expunge.trained.record import Record
    from expunge.trained.trained import Trained
    from expunge.training.cost import Cost
    from expunge.training.fit import fit
    from expunge.training.loop import StepRule
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run

_HOMES = {
    "AUDITS": "audits",
    "AccessError": "errors",
    "Audit": "audits.base",
    "Batch": "data.batch",
    "Classification": "data.task",
    "ConfigError": "errors",
    "Cost": "training.cost",
    "Data": "data.load",
    "DataError": "errors",
    "DataView": "data.view",
    "DivergenceError": "errors",
    "ExpungeError": "errors",
    "METHODS": "methods",
    "Inspection": "backdoor.inspecting",
    "Mask": "models.mask",
    "Method": "methods.base",
    "ModelError": "errors",
    "PRUNERS": "pruning",
    "Panel": "audits.panel",
    "Part": "data.parts",
    "Place": "place",
    "Pruned": "pruning.original",
    "Pruner": "pruning.base",
    "Recipe": "training.recipe",
    "Recommendation": "advice.recommend",
    "Record": "trained.record",
    "Run": "training.run",
    "Score": "scores.score",
    "ScoreInfo": "scores.info",
    "Scores": "audits.scores",
    "SgdMethod": "methods.base",
    "Split": "data.split",
    "SplitError": "errors",
    "StepRule": "training.loop",
    "Strength": "audits.strength",
    "Task": "data.task",
    "Trained": "trained.trained",
    "UserError": "errors",
    "adopt": "api",
    "audit": "api",
    "average_gap": "scores.gaps",
    "constant_rate": "methods.base",
    "excess_gap": "scores.gaps",
    "fisher_diagonal": "per_sample.fisher",
    "fit": "training.fit",
    "gap": "scores.gaps",
    "inspect": "backdoor.inspecting",
    "load": "trained.opening",
    "load_data": "data.load",
    "prune": "pruning.original",
    "recommend": "advice.recommend",
    "train": "api",
    "unlearn": "api",
    "weighted_gradient": "per_sample.products",
}

__all__ = [
    "AUDITS",
    "METHODS",
    "PRUNERS",
    "AccessError",
    "Audit",
    "Batch",
    "Classification",
    "ConfigError",
    "Cost",
    "Data",
    "DataError",
    "DataView",
    "DivergenceError",
    "ExpungeError",
    "Inspection",
    "Mask",
    "Method",
    "ModelError",
    "Panel",
    "Part",
    "Place",
    "Pruned",
    "Pruner",
    "Recipe",
    "Recommendation",
    "Record",
    "Run",
    "Score",
    "ScoreInfo",
    "Scores",
    "SgdMethod",
    "Split",
    "SplitError",
    "StepRule",
    "Strength",
    "Task",
    "Trained",
    "UserError",
    "__version__",
    "adopt",
    "audit",
    "average_gap",
    "constant_rate",
    "excess_gap",
    "fisher_diagonal",
    "fit",
    "gap",
    "inspect",
    "load",
    "load_data",
    "prune",
    "recommend",
    "train",
    "unlearn",
    "weighted_gradient",
]


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `import expunge` alone stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module 'expunge' has no attribute {name!r}")
    value = getattr(importlib.import_module(f"expunge.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
