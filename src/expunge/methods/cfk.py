"""CF-k: fine-tune the end of a model on what is kept, and trust that the rest fades."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import SgdMethod
from expunge.methods.shared.last_blocks import LastBlocks, last_blocks

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run


class Cfk(SgdMethod, LastBlocks):
    """Fine-tune the last k blocks and the head on the retain set; all other weights stay.

    Equation: SGD on loss(x, y) over the retain set in the parameters of the last k blocks and the head,
    from their original values. With k=all it is `finetune`, bit for bit.

    A block is a residual block, a layer of a transformer, or, where a model has neither, a convolution
    or a linear layer, with its normalisation; an error names the blocks where k is more than there are.
    What is frozen stays bit-identical, and its normalisation layers use their running statistics.

    Deviations: the program of SCRUB's authors trains without momentum and weight decay, and leaves the
    normalisation of frozen layers in training mode, so that its statistics follow the retain set.

    Cost: 10 passes over the retain set; the backward half of each ends at the first block that is
    trained.

    Use it when little may change, or as a baseline: a method that reads the forget set must beat it.

    Avoid it when anything must be gone: the frozen blocks are the original's, and so are the features
    that they give (classifier-only forgetting; see `linear_probe`), and fine-tuning forgets slowly
    (staying put).
    """

    name: ClassVar[str] = "cfk"
    paper: ClassVar[str] = "Goel et al., 2022 (CF-k); settings of SCRUB, NeurIPS 2023"
    reads: ClassVar[Part] = Part.RETAIN

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError for more blocks than the model has."""
        from expunge.training.fit import fit

        tail = last_blocks(model, self.k, len(data.classes), run)
        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run),
            run=run,
            update=tail.update,
            norm=tail.norm,
        )
        return model
