"""Make a trained PyTorch model forget part of its training data, and measure whether it did."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from expunge.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from expunge.api import Record, Result, audit, train, unlearn
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
    from expunge.folders.store import load_model, save_model
    from expunge.methods import METHODS
    from expunge.methods.base import Method, SgdMethod, constant_rate
    from expunge.models.mask import Mask
    from expunge.per_sample.fisher import fisher_diagonal
    from expunge.per_sample.products import weighted_gradient
    from expunge.pruning import PRUNERS
    from expunge.pruning.base import Pruner
    from expunge.pruning.original import Pruned, prune
    from expunge.scores.gaps import average_gap, excess_gap, gap
    from expunge.scores.score import Score
    from expunge.training.cost import Cost
    from expunge.training.fit import fit
    from expunge.training.loop import StepRule
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run

_HOMES = {
    "AccessError": "errors",
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
    "Mask": "models.mask",
    "Method": "methods.base",
    "ModelError": "errors",
    "PRUNERS": "pruning",
    "Part": "data.parts",
    "Pruned": "pruning.original",
    "Pruner": "pruning.base",
    "Recipe": "training.recipe",
    "Record": "api",
    "Result": "api",
    "Run": "training.run",
    "Score": "scores.score",
    "SgdMethod": "methods.base",
    "Split": "data.split",
    "SplitError": "errors",
    "StepRule": "training.loop",
    "Task": "data.task",
    "UserError": "errors",
    "audit": "api",
    "average_gap": "scores.gaps",
    "constant_rate": "methods.base",
    "excess_gap": "scores.gaps",
    "fisher_diagonal": "per_sample.fisher",
    "fit": "training.fit",
    "gap": "scores.gaps",
    "load_data": "data.load",
    "load_model": "folders.store",
    "prune": "pruning.original",
    "save_model": "folders.store",
    "train": "api",
    "unlearn": "api",
    "weighted_gradient": "per_sample.products",
}

__all__ = [
    "METHODS",
    "PRUNERS",
    "AccessError",
    "Batch",
    "Classification",
    "ConfigError",
    "Cost",
    "Data",
    "DataError",
    "DataView",
    "DivergenceError",
    "ExpungeError",
    "Mask",
    "Method",
    "ModelError",
    "Part",
    "Pruned",
    "Pruner",
    "Recipe",
    "Record",
    "Result",
    "Run",
    "Score",
    "SgdMethod",
    "Split",
    "SplitError",
    "StepRule",
    "Task",
    "UserError",
    "__version__",
    "audit",
    "average_gap",
    "constant_rate",
    "excess_gap",
    "fisher_diagonal",
    "fit",
    "gap",
    "load_data",
    "load_model",
    "prune",
    "save_model",
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
