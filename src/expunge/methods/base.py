"""What every unlearning method is: validated settings, declared reads, one function."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, ClassVar, Literal

from expunge.data.parts import Part
from expunge.errors import DivergenceError
from expunge.training.recipe import Recipe, Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Method(Settings):
    """An unlearning method. Its fields are its hyper-parameters, with their paper's defaults.

    A new method is one file with such a class, and one line in `expunge.methods.METHODS`; the
    contract tests then cover it. What is built in imports torch only where it computes, so that its
    name, settings and scope are read at once.

    whole_classes: it forgets whole classes and nothing else; other requests are refused.
    presets: published settings other than the defaults, by name: `make_method("unsir:notebook")`.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    reads: ClassVar[Part]
    whole_classes: ClassVar[bool] = False
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {}

    @abstractmethod
    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """Return a model that has forgotten. `model` is a private copy and may be changed.

        Reads `data` only as declared in `reads`, and draws seeds from `run` alone.
        """


def constant_rate(
    run: Run,
    *,
    epochs: int,
    lr: float,
    batch_size: int,
    momentum: float = 0.9,
    weight_decay: float = 0.0,
    optimizer: Literal["sgd", "adam"] = "sgd",
) -> Recipe:
    """A recipe without a schedule, in the original's precision where that is known."""
    original = run.recipe or Recipe(augmentation="none")
    return Recipe(
        epochs=epochs,
        lr=lr,
        batch_size=batch_size,
        momentum=momentum,
        weight_decay=weight_decay,
        optimizer=optimizer,
        schedule="constant",
        precision=original.precision,
        augmentation=original.augmentation,
    )


@contextmanager
def check_weights(model: nn.Module, run: Run, advice: str) -> Iterator[None]:
    """For a method that sets weights at once: the same check for divergence as `fit` makes.

    Raises DivergenceError with the advice if the weights are not finite afterwards, or their norm
    exceeds 100 times what it was.
    """
    from expunge.training.loop import EXPLOSION, SMALLEST_START, parameter_norm

    start = max(parameter_norm(model.parameters()), SMALLEST_START)
    yield
    size = parameter_norm(model.parameters())
    if not size <= EXPLOSION * start:
        raise DivergenceError(
            f"{run.label} diverged: the weights' norm is {size:.3g}, more than {EXPLOSION:g} times "
            f"the {start:.3g} it started from; {advice}"
        )
