"""Perturb and repair: disturb weights that the original learned, and fine-tune on what is kept."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Literal

from pydantic import Field, model_validator

from expunge.data.parts import Part
from expunge.errors import ConfigError, ModelError
from expunge.methods.base import BatchSize, Epochs, Rate, SgdMethod
from expunge.training.recipe import Settings

if TYPE_CHECKING:
    from torch import nn

    from expunge.data.view import DataView
    from expunge.training.run import Run

Weights = dict[str, "nn.Parameter"]


class Disturbance(Settings):
    """What `Perturb` has beside SGD's settings."""

    kind: Literal["transpose", "negate", "noise"] = Field(
        default="transpose", description="what is done to the weights before fine-tuning"
    )
    layers: tuple[str, ...] | None = Field(
        default=None, description="of negate: names of modules; null: the first convolution"
    )
    sigma: float = Field(default=0.6, ge=0, description="of noise: its standard deviation")
    last_sigma: float = Field(
        default=0.005, ge=0, description="of noise: its deviation ahead of the last epoch"
    )


class Perturb(SgdMethod, Disturbance):
    """Transpose, negate or blur weights of convolutions, then fine-tune on the retain set.

    Equation: theta = g(theta_o), then SGD on loss(x, y) over the retain set, the rate falling to 0 as a
    cosine. transpose (CT): g turns each kernel of a convolution, w[..., i, j], into w[..., j, i].
    negate (NoT): all parameters of the chosen layers times -1. noise (CFW): each weight of a
    convolution plus N(0, sigma^2), and plus N(0, last_sigma^2) ahead of the last epoch, where there are
    two or more.

    Convolutions are found at any depth, grouped and transposed ones too. Of a kernel of three axes the
    last two change places; kernels that are not square, and those of one axis, are skipped, and the
    record says which; that of a single pixel is its own transpose. In a model without convolutions
    negate takes the first linear layer and noise all of them, and transpose is refused. Frozen weights
    stay. Under a pruning mask noise falls on the weights that are kept; what transposing moves to a
    place that is cut is lost.

    Defaults are CT's; presets `negate` and `noise` are the other two. NoT's own repair belongs to
    federated rounds, and takes CT's here. Deviations: the rate falls by steps, not by epochs; the
    program of CFW finds convolutions by their name among the top-level children alone, and weighs its
    loss by class.

    Cost: 3 passes over the retain set; the forget set is never read.

    Use it when the forget set is no longer there to be read, and the model has convolutions.

    Avoid it when the request itself must show in the result: nothing here depends on what is to be
    forgotten, all requests get the same damage and the same repair. A short repair costs accuracy, and
    after a long one the model may be back where it was (staying put).
    """

    name: ClassVar[str] = "perturb"
    paper: ClassVar[str] = (
        "CT and CFW: NeurIPS 2023 unlearning challenge, after Cadet et al., 2024; NoT: Khalil et al., "
        "CVPR 2025"
    )
    reads: ClassVar[Part] = Part.RETAIN
    presets: ClassVar[Mapping[str, Mapping[str, object]]] = {
        "negate": {"kind": "negate"},
        "noise": {"kind": "noise", "epochs": 4, "lr": 7e-4},
    }

    epochs: Epochs = 3
    lr: Rate = 1e-3
    batch_size: BatchSize = 64

    @model_validator(mode="after")
    def _consistent(self) -> Perturb:
        if self.layers is not None and self.kind != "negate":
            raise ValueError(
                f"layers {list(self.layers)} are of kind negate, and kind is {self.kind}; leave layers "
                "out, or set kind to negate"
            )
        return self

    def unlearn(self, model: nn.Module, data: DataView, run: Run) -> nn.Module:
        """See the class. Raises ModelError where there is nothing to disturb, before any training."""
        from expunge.training.fit import fit

        chosen = {name: p for name, p in self.chosen(model, run).items() if p.requires_grad}
        if not chosen:
            raise ModelError(f"{run.label}: what kind {self.kind!r} disturbs is frozen; thaw it")
        self.disturb(chosen, self.sigma, "first", run)

        def again(_: nn.Module, epoch: int) -> None:
            if self.kind == "noise" and epoch == self.epochs - 2:
                self.disturb(chosen, self.last_sigma, "last", run)

        fit(
            model,
            lambda epoch: data.batches(Part.RETAIN, self.batch_size, epoch=epoch),
            lambda model, batch, _: run.loss(model, batch),
            recipe=self.recipe(run).but(schedule="cosine"),
            run=run,
            after_epoch=again,
        )
        return model

    def chosen(self, model: nn.Module, run: Run) -> Weights:
        """What is to be disturbed, by name."""
        from expunge.models.mask import prunable

        found = prunable(model)  # of convolutions, or of linear layers where there are none
        if self.kind == "negate":
            first = next((name for name, p in found.items() if p.requires_grad), min(found))
            return parameters_of(model, self.layers or (first.rpartition(".")[0],), run)
        return square_kernels(found, run) if self.kind == "transpose" else found

    def disturb(self, chosen: Weights, sigma: float, when: str, run: Run) -> None:
        """Disturb weights in place. sigma: of noise. when: names its draw."""
        import torch

        with torch.no_grad():
            for name, weight in chosen.items():
                if self.kind == "negate":
                    weight.neg_()
                elif self.kind == "transpose":
                    weight.copy_(weight.transpose(-1, -2).clone())
                else:
                    draw = torch.Generator().manual_seed(run.seed_for("noise", when, name))
                    noise = torch.randn(weight.shape, generator=draw, dtype=weight.dtype)
                    noise = noise.to(weight.device) * sigma
                    mask = (run.mask or {}).get(name)
                    weight.add_(noise if mask is None else noise * mask.to(noise))


def parameters_of(model: nn.Module, layers: tuple[str, ...], run: Run) -> Weights:
    """All parameters of modules of these names. Raises ConfigError for a name without any."""
    found: Weights = {}
    for layer in layers:
        prefix = f"{layer}." if layer else ""
        own = {name: p for name, p in model.named_parameters() if name.startswith(prefix)}
        if not own:
            known = ", ".join(
                dict.fromkeys(n.rpartition(".")[0] for n, _ in model.named_parameters())
            )
            raise ConfigError(
                f"{run.label}: layers has {layer!r}, where the model has no weights; it has {known}"
            )
        found |= own
    return found


def square_kernels(weights: Weights, run: Run) -> Weights:
    """Those whose last two axes are a square kernel; the others get a warning.

    Raises ModelError where none is larger than a pixel: to transpose would do nothing.
    """
    square = {n: p for n, p in weights.items() if p.ndim > 3 and p.shape[-1] == p.shape[-2]}
    if not any(p.shape[-1] > 1 for p in square.values()):
        raise ModelError(
            f"{run.label}: kind 'transpose' needs square kernels of more than a pixel, and this "
            "model has none; set kind to negate or noise"
        )
    for name in [name for name in weights if name not in square]:
        shape = tuple(weights[name].shape[2:])
        told = f"{run.label} left {name} as it was: its kernel, {shape}, is not square"
        run.log.setdefault("warnings", []).append(told)
    return square
