"""What every unlearning method is: validated settings, declared reads, one function."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import nn

from expunge.data.batch import Part
from expunge.data.view import DataView
from expunge.recipe import Recipe, Settings
from expunge.run import Run


class Method(Settings):
    """An unlearning method. Its fields are its hyper-parameters, with their paper's defaults.

    A new method is one file with such a class, and one line in `expunge.methods.METHODS`; the
    contract tests then cover it.
    """

    name: ClassVar[str]
    paper: ClassVar[str]
    reads: ClassVar[Part]

    @abstractmethod
    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """Return a model that has forgotten. `model` is a private copy and may be changed.

        Reads `data` only as declared in `reads`, and draws seeds from `run` alone.
        """


def sgd(
    run: Run, *, epochs: int, lr: float, batch_size: int, momentum: float, weight_decay: float,
) -> Recipe:  # fmt: skip
    """SGD at a constant rate, in the original's precision where that is known."""
    original = run.recipe or Recipe(augmentation="none")
    return Recipe(
        epochs=epochs, lr=lr, batch_size=batch_size, momentum=momentum, weight_decay=weight_decay,
        schedule="constant", precision=original.precision,
        augmentation=original.augmentation,
    )  # fmt: skip
