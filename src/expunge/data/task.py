"""What a sample's loss and a model's output mean: classification, and the protocol for others."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._pytree import tree_flatten

from expunge.data.batch import Batch
from expunge.data.spec import UNNAMED
from expunge.errors import DataError, LogitsError, listed
from expunge.names.code import import_object, in_a_line


class Task(Protocol):
    """Per-sample losses to train with, and outputs to score."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Loss of each sample (batch,), differentiable in the model's parameters."""
        ...

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """Outputs to score, or to learn from: first axis = sample, float32.

        Differentiable in the model's parameters and in the inputs, so that a method may train a model
        to another's outputs; who only scores calls it without gradients.
        """
        ...


class Classification:
    """Cross-entropy on class logits.

    The model may return logits (batch, classes), or what `read_logits` finds them in. Inputs that are
    a dictionary are passed as keyword arguments, as models of the Hugging Face hub want.
    """

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """Cross-entropy of each sample (batch,), computed in float32."""
        if batch.labels is None:
            raise DataError("classification needs labels, and this batch has none")
        return functional.cross_entropy(logits_of(model, batch), batch.labels, reduction="none")

    def observe(self, model: nn.Module, batch: Batch) -> dict[str, Tensor]:
        """`logits`: (batch, classes) float32."""
        return {"logits": logits_of(model, batch)}


def logits_of(model: nn.Module, batch: Batch) -> Tensor:
    """Class logits (batch, classes) in float32."""
    inputs: Any = batch.inputs
    outputs = read_logits(model(**inputs) if isinstance(inputs, Mapping) else model(inputs))
    if outputs.ndim != 2:
        raise DataError(
            f"the model returns shape {tuple(outputs.shape)}; classification needs logits of shape "
            "(batch, classes)"
        )
    logits: Tensor = outputs if outputs.dtype == torch.float64 else outputs.float()
    return logits


def read_logits(outputs: Any) -> Tensor:
    """The logits in what a model returned: a tensor alone, `logits` of a mapping or an object, or the
    one tensor that a list, a tuple, a mapping or an object holds.

    Raises DataError where that leaves a choice: nobody guesses which of several tensors it is.
    """
    if isinstance(outputs, Tensor):
        return outputs
    mapping = isinstance(outputs, Mapping)
    named = outputs.get("logits") if mapping else getattr(outputs, "logits", None)
    if isinstance(named, Tensor):
        return named
    held = dict(outputs) if mapping else getattr(outputs, "__dict__", None) or outputs
    found = [leaf for leaf in tree_flatten(held)[0] if isinstance(leaf, Tensor)]
    if len(found) == 1:
        return found[0]
    shapes = listed([str(tuple(one.shape)) for one in found])
    raise DataError(
        f"the model returns a {type(outputs).__name__} of {len(found)} tensors"
        f"{f', {shapes}' if found else ''}, and classification needs logits of shape (batch, classes): "
        "return them alone, or under the name logits in a dictionary"
    )


def class_logits(task: Task) -> Callable[[nn.Module, Batch], Tensor]:
    """(model, batch) -> class logits (batch, classes), as the task observes them.

    What it returns raises LogitsError for a task without classes.
    """
    if isinstance(task, Classification):
        return logits_of  # float64 stays float64
    return lambda model, batch: logits_of_task(task.observe(model, batch))


def logits_of_task(observed: Mapping[str, Tensor]) -> Tensor:
    """Class logits of what a task observed. Raises LogitsError for a task without classes."""
    if "logits" not in observed:
        raise LogitsError(
            f"the task's `observe` gives {', '.join(map(repr, observed)) or 'nothing'}, and what looks "
            "at classes needs 'logits' of shape (batch, classes)"
        )
    return observed["logits"]


def task_named(task: Task, name: str | None) -> str | None:
    """How a folder names a task: `module:Class`, None for classification, OF_ITS_DATA or UNNAMED."""
    if name is not None or type(task) is Classification:
        return name
    kind = type(task)
    known = getattr(sys.modules.get(kind.__module__), kind.__qualname__, None)
    plain = kind.__module__ != "__main__" and known is kind and not getattr(task, "__dict__", None)
    return f"{kind.__module__}:{kind.__qualname__}" if plain else UNNAMED


def named_task(name: str, *, allow_code: bool) -> Task:
    """The task `module:Class`, or `module:object`.

    Raises DataError for code that is not allowed, cannot be imported, or is no task.
    """
    made = import_object(name, allow_code=allow_code, what="task", error=DataError)
    if isinstance(made, type):
        try:
            made = made()
        except Exception as cause:  # whatever the class of somebody's own raises
            raise DataError(
                f"task {name!r}: {type(cause).__name__}: {in_a_line(cause)}; a task's class is called "
                "without arguments"
            ) from cause
    missing = [part for part in ("losses", "observe") if not callable(getattr(made, part, None))]
    if missing:
        raise DataError(
            f"task {name!r} has no function {missing[0]}; a task has losses(model, batch) and "
            "observe(model, batch)"
        )
    task: Task = made
    return task
