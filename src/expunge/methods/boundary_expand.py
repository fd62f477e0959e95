"""Boundary Expanding: teach a class to a shadow class of its own, then take that away."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.errors import ModelError
from expunge.methods.base import BatchSize, Epochs, Rate, Scope, SgdMethod, StillNorm, WeightDecay
from expunge.methods.fisher import logit_rows

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView
    from expunge.training.run import Run

INSTEAD = "choose another method for whole classes, such as boundary_shrink"


class BoundaryExpand(SgdMethod):
    """Boundary Expanding: train the samples of a class to an extra class, then cut that class off.

    Equation: cross-entropy of (x, C) on the forget set, where the last layer has a row C beside the C
    rows of the classes, drawn as torch draws such a layer; afterwards the row is removed. With it goes
    what the samples were drawn to, and what is left of them spreads over the classes that stay.

    The returned model has the very shapes, names and classes that it had: the row is there while it is
    trained, and no longer. The last layer must be a linear or convolutional one with a row per class
    that gives the logits, with a weight of its own that is not frozen; other models are refused.

    Deviation: normalisation layers keep their running statistics by default. The authors' program trains
    them on the forgotten class alone, which shifts every prediction; norm="train" does the same.

    Defaults are those of the released program (lr 1e-5, batch 64, no decay), but for 20 epochs where it
    makes 10. At this rate a small class hardly moves: tune it, on a seed not reported.

    Cost: 20 passes over the forget set; it reads nothing else.

    Use it when a whole class must go and the data that stay are out of reach, and no class that stays
    should be given its samples, as boundary_shrink gives them.

    Avoid it when what the class looked like must go too: the samples stay apart in the features, drawn
    towards a class that is no longer shown, so that a probe on these still finds them.
    """

    name: ClassVar[str] = "boundary_expand"
    paper: ClassVar[str] = "Chen et al., CVPR 2023"
    reads: ClassVar[Part] = Part.FORGET
    scope: ClassVar[Scope] = "class"
    needs_classes: ClassVar[bool] = True

    epochs: Epochs = Field(default=20, description="passes over the forget set")
    lr: Rate = Field(default=1e-5, description="learning rate; tune it, on a seed not reported")
    weight_decay: WeightDecay = 0.0
    batch_size: BatchSize = 64
    norm: StillNorm = "eval"

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError for a model whose last layer cannot have another row."""
        import torch
        from torch.nn import functional

        from expunge.data.task import class_logits
        from expunge.methods.shared.extra_row import is_ordinary_layer, one_row_more
        from expunge.training.fit import fit

        classes = len(data.classes)
        gone = torch.unique(data.source(Part.FORGET).labels)
        does = "gives the last layer a row more"
        names = logit_rows(model, gone, data, run, does, INSTEAD)
        head = min(names).rpartition(".")[0]
        if not is_ordinary_layer(model.get_submodule(head)):
            raise ModelError(
                f"{run.label} {does}, and the weight of {head!r} is made of others, normalised or "
                f"masked; make it an ordinary one, or {INSTEAD}"
            )
        observe = class_logits(run.task)

        def loss(model: nn.Module, batch: Batch, _: float) -> Tensor:
            logits = observe(model, batch)
            if logits.shape[1] != classes + 1:
                raise ModelError(
                    f"{run.label} {does}, and the model still returns {logits.shape[1]} logits: "
                    f"{min(names)!r} does not give them; {INSTEAD}"
                )
            shadow = torch.full((len(batch),), classes, device=logits.device)
            return run.mean(functional.cross_entropy(logits, shadow, reduction="none"), batch)

        with one_row_more(model, names, run) as wider:
            fit(
                model,
                lambda epoch: data.batches(Part.FORGET, self.batch_size, epoch=epoch),
                loss,
                recipe=self.recipe(run),
                run=wider,
                norm=self.norm,
            )
        return model
