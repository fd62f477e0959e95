"""A control: what is gained by silencing a class in the last layer, and nothing else."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import Method, Scope
from expunge.methods.fisher import ZEROES, logit_rows

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run

WITHOUT = (
    "leave this control out (of a study with controls: false, which leaves out last_epoch too)"
)


class HeadZeroed(Method):
    """Control: the forgotten classes' rows and biases of the last layer set to 0, nothing else.

    The model still sees in a sample what it saw before, so nothing is forgotten; yet UA, RA, TA and
    MIA look at the outputs alone, and may be near retrain's. A method that does no better than this
    has not been shown to forget a class; `linear_probe` and `relearn_time` tell the two apart.

    Equation: W_c = 0 and b_c = 0 for each forgotten class c.

    Cost: nothing; one look at the last layer.

    Use it when a table needs the row that every method for classes must beat.

    Avoid it when something is to be forgotten.
    """

    name: ClassVar[str] = "head_zeroed"
    paper: ClassVar[str] = "of this package; the class rows of Golatkar et al.'s program, CVPR 2020"
    reads: ClassVar[Part] = Part.FORGET_LABELS
    scope: ClassVar[Scope] = "class"
    needs_classes: ClassVar[bool] = True
    seeded: ClassVar[bool] = False
    trains: ClassVar[bool] = False

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError for a model without such a layer, or with a frozen one."""
        import torch

        gone = torch.unique(data.forget_labels())
        names = logit_rows(model, gone, data, run, ZEROES, WITHOUT)
        with torch.no_grad():
            for name in names:
                model.get_parameter(name)[gone] = 0.0
        return model
