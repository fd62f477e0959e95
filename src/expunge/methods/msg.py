"""MSG: draw anew what neither set's gradient asks for, then fine-tune what is kept slowly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

from pydantic import Field

from expunge.data.parts import Part
from expunge.methods.base import BatchSize, Epochs, Rate, Scope, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.data.batch import Batch
    from expunge.data.view import DataView, Source, Stream
    from expunge.training.run import Run


class Redrawing(Settings):
    """What `Msg` has beside SGD's settings."""

    share: float = Field(
        default=0.3, ge=0, le=1, description="of each convolution's weights, drawn anew"
    )
    kept_factor: float = Field(
        default=0.1, ge=0, le=1, description="of the gradient of its weights that are kept"
    )


class Msg(SgdMethod, Redrawing):
    """Draw anew the weights of each convolution whose gradients are smallest, then fine-tune.

    Equation: g = sum over R' of grad loss - sum over the forget set of grad loss, R' a random part of
    the retain set as large as the forget set. In each convolution the round(share n) of its n weights
    with the smallest |g| are drawn anew from N(0, 2 / fan_out), Kaiming's initialiser; then SGD on the
    retain loss, in which the gradients of the convolutions' other weights are multiplied by
    kept_factor. The learning rate rises by equal parts over the first (epochs + 1) // 2 epochs to lr,
    then falls. The defaults are the released ones.

    Gradients are sums over samples in evaluation mode without augmentation; the released program adds
    means over batches, so that a short last batch weighs more, in whatever mode the model is. Biases
    are kept, which that program draws anew without a word. Of equal |g| the first in the tensor goes
    first. Pruned weights are not among the n. A model without convolutions has its linear layers
    treated so. There is no setting for Adam, under which a gradient times 0.1 makes the same step.

    Cost: 5 passes over the retain set; before them two of the size of the forget set.

    Use it when some samples of classes that stay are to be forgotten from a convolutional network: with
    tuned settings it was among the best of eighteen methods (Cadet et al., 2024), at a small part of
    retraining's cost.

    Avoid it when a whole class goes, or nothing of a sample may be left: the last layer and most weights
    only pass through slow fine-tuning. With few retain samples or epochs the new weights do not find
    back, and accuracy is lost; with the share small it hardly moves, and scores on random requests by
    staying put.
    """

    name: ClassVar[str] = "msg"
    paper: ClassVar[str] = (
        "NeurIPS 2023 unlearning challenge, second place (masked small gradients)"
    )
    reads: ClassVar[Part] = Part.RETAIN | Part.FORGET
    scope: ClassVar[Scope] = "random"

    epochs: Epochs = 5
    lr: Rate = Field(default=0.001, description="highest learning rate")
    batch_size: BatchSize = 64

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class."""
        import torch

        from expunge.per_sample import weighted_gradient
        from expunge.training.fit import fit

        struck, alike = data.source(Part.FORGET), data.take(Part.RETAIN, data.size(Part.FORGET))
        with run.progress.work(f"{run.label}, gradients"):
            forget, kept = (
                weighted_gradient(model, self._all(source), run) for source in (struck, alike)
            )
        drawn = redraw(model, {name: kept[name] - forget[name] for name in kept}, self.share, run)

        def slow_down(model: nn.Module, _: Batch, __: float) -> None:
            for name, parameter in model.named_parameters():
                if name in drawn and parameter.grad is not None:
                    slow = parameter.grad * self.kept_factor
                    parameter.grad.copy_(torch.where(drawn[name], parameter.grad, slow))

        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run).but(schedule="triangle"),
            run=run,
            after_backward=slow_down,
        )
        return model

    def _all(self, source: Source) -> Stream:
        return source.batches(self.batch_size, shuffle=False, augment=False)


def redraw(
    model: nn.Module, gradient: Mapping[str, Tensor], share: float, run: Run
) -> dict[str, Tensor]:
    """Draw the weights of each convolution whose gradients are smallest anew, in place.

    gradient: by parameter name, of those that may change. share: of a layer's weights, in [0, 1].
    Returns which were drawn: parameter name -> bool tensor of its shape. Linear layers stand in for
    convolutions where there are none.
    """
    import torch
    from torch import nn

    from expunge.names.seeds import torch_generator

    layers = list(model.modules())
    convolutions = (nn.Conv1d, nn.Conv2d, nn.Conv3d)
    kinds = convolutions if any(isinstance(m, convolutions) for m in layers) else (nn.Linear,)
    weights = {id(layer.weight) for layer in layers if isinstance(layer, kinds)}
    drawn = {}
    for name, weight in model.named_parameters():
        if id(weight) not in weights or name not in gradient:
            continue
        size = gradient[name].abs().flatten()
        kept = (run.mask or {}).get(name, torch.ones(weight.shape, dtype=torch.bool))
        size[~kept.flatten().to(size.device)] = torch.inf
        first = size.argsort(stable=True)[: round(share * int(kept.sum()))]
        chosen = torch.zeros(len(size), dtype=torch.bool, device=size.device)
        chosen[first] = True
        drawn[name] = chosen.view(weight.shape)
        new = torch.empty(weight.shape)
        generator = torch_generator(*run.names, "drawn", name)
        nn.init.kaiming_normal_(new, mode="fan_out", nonlinearity="relu", generator=generator)
        with torch.no_grad():
            weight.copy_(torch.where(drawn[name], new.to(weight), weight))
    return drawn
