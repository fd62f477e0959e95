"""EU-k: retrain the end of a model from scratch, on features that have seen everything."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from expunge.data.parts import Part
from expunge.methods.base import Method, read_in_training
from expunge.methods.shared.last_blocks import LastBlocks, last_blocks

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.recipe import Recipe
    from expunge.training.run import Run


class Euk(Method, LastBlocks):
    """Retrain the last k blocks and the head from fresh weights on the retain set; all others stay.

    Equation: the original's recipe on loss(x, y) over the retain set, in the parameters of the last k
    blocks and the head, from a fresh draw of these. With k=all it is `retrain`, bit for bit where the
    seed names are the same, and exact. With k the number of blocks nothing is promised: what lies in no
    block, such as a class token, stays the original's.

    Blocks are those of `cfk`. What is frozen stays bit-identical, and its normalisation layers use their
    running statistics; those of what is drawn anew start anew. Validation samples are read only where
    the recipe's schedule is "plateau". An original without a recipe is refused: none is guessed.

    Deviation: the program of SCRUB's authors has settings of its own for this; retraining a part as the
    whole was trained needs none.

    Cost: as many passes over the retain set as the original's recipe has; the backward half of each ends
    at the first block that is trained.

    Use it when forgetting in the last layers is enough, and retraining everything is too dear; k trades
    one for the other.

    Avoid it when the features themselves must forget: the frozen blocks were trained on the forget set
    (classifier-only forgetting; see `linear_probe`). Under a high rate the fresh head may need all the
    epochs that retraining needs, and then little is saved.
    """

    name: ClassVar[str] = "euk"
    paper: ClassVar[str] = "Goel et al., 2022 (EU-k)"
    reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION
    needs_recipe: ClassVar[bool] = True

    def proves(self) -> str:
        """Exact where the whole model is trained anew, for that is retraining."""
        return "exact" if self.k == "all" else self.guarantee

    def reads_now(self, recipe: Recipe | None, *, whole: bool) -> Part:
        """See the base: validation samples for the recipe's schedule alone."""
        return read_in_training(self.reads, recipe)

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ConfigError for more blocks than the model has."""
        import torch

        from expunge.training.fit import train_from

        recipe = run.original_recipe()
        fresh = run.fresh()
        tail = last_blocks(fresh, self.k, len(data.classes), run)
        drawn = {**dict(fresh.named_parameters()), **dict(fresh.named_buffers())}
        with torch.no_grad():
            for name, kept in (*model.named_parameters(), *model.named_buffers()):
                if name in tail.rest:
                    drawn[name].copy_(kept)
                    drawn[name].requires_grad_(kept.requires_grad)
        train_from(fresh, data, run, recipe, update=tail.update, norm=tail.norm)
        return fresh
