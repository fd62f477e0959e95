"""Channels of the last convolution that clean samples leave asleep, and how many may be cut."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.view import PartSource
from expunge.errors import ModelError
from expunge.methods.shared.channels import AFFINE, Channels, switch_off
from expunge.methods.shared.unseen import share_right
from expunge.models.mask import CONVOLUTIONS
from expunge.training.loop import evaluating
from expunge.training.run import Run


def prune_asleep(
    model: nn.Module, clean: PartSource, run: Run, *, lost: float, tries: int, size: int
) -> dict[str, Tensor]:
    """Cut channels of the last convolution in place, least active first, while accuracy allows.

    lost: share of the samples in [0, 1] that may turn wrong. tries: equal steps. size: samples a batch.
    Returns parameter name -> (count,) bool: what was cut. The log has how many.
    """
    layer, norm = last_convolution(model, clean, run, size)
    places = [_channels(model, one, run) for one in (layer, norm) if one is not None]
    activity = activity_of(model, norm or layer, clean, run, size)
    order, count = activity.argsort(), len(activity)
    state = {name: value.clone() for name, value in model.state_dict().items()}
    least = share_right(model, clean, run, size) - lost
    cut = 0
    for step in range(1, tries + 1):
        further = min(step * count // tries, count - 1)  # never all
        if further == cut:
            continue
        switch_off(model, _rows(places, order[:further]))
        if share_right(model, clean, run, size) < least:
            break
        cut = further
    model.load_state_dict(state)
    off = _rows(places, order[:cut])
    switch_off(model, off)
    run.log["channels"] = {"cut": cut, "of": count}
    if not cut:
        run.log.setdefault("warnings", []).append(
            f"{run.label} cut no channel: to cut the first costs more than {lost:.0%} of accuracy, so "
            "only fine-tuning is left; raise lost"
        )
    return off


def _rows(places: list[Channels], chosen: Tensor) -> dict[str, Tensor]:
    off = torch.zeros(places[0].count, dtype=torch.bool, device=chosen.device)
    off[chosen] = True
    return {name: off for one in places for name in (one.weight, one.bias) if name is not None}


def _channels(model: nn.Module, layer: nn.Module, run: Run) -> Channels:
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    own = {key: one for key, one in layer.named_parameters(recurse=False)}
    if "weight" not in own or not all(one.requires_grad for one in own.values()):
        raise ModelError(
            f"{run.label} cuts channels of the last convolution, which is frozen; thaw it"
        )
    bias = own.get("bias")
    name = None if bias is None else names[id(bias)]
    return Channels(names[id(own["weight"])], name, len(own["weight"]))


def last_convolution(
    model: nn.Module, clean: PartSource, run: Run, size: int
) -> tuple[nn.Module, nn.Module | None]:
    """The convolution that is called last, and the normalisation that reads what it gives, if any; the
    last linear layer but one in a model without convolutions. One batch is looked at.

    Raises ModelError where there is none.
    """
    convolutional = any(isinstance(one, CONVOLUTIONS) for one in model.modules())
    kinds = CONVOLUTIONS if convolutional else (nn.Linear,)
    called: list[tuple[nn.Module, Any, Any]] = []

    def note(layer: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        called.append((layer, inputs[0], output))

    wanted = [one for one in model.modules() if isinstance(one, (*kinds, *AFFINE))]
    hooks = [one.register_forward_hook(note) for one in wanted]
    try:
        with evaluating(model), torch.no_grad():
            batch = next(iter(clean.batches(size, shuffle=False, augment=False)))
            run.task.observe(model, batch)
    finally:
        for hook in hooks:
            hook.remove()
    layers = [one for one in called if isinstance(one[0], kinds)]
    if not convolutional:
        layers = layers[:-1]
    if not layers:
        raise ModelError(
            f"{run.label} cuts channels of the last convolution, or of the last linear layer before the "
            "head, and this model has neither; choose another method, such as ibau"
        )
    layer, _, gave = layers[-1]
    follows = (one for one, took, _ in called if isinstance(one, AFFINE) and took is gave)
    norm = next(follows, None)
    return layer, norm if norm is not None and any(True for _ in norm.parameters()) else None


def activity_of(
    model: nn.Module, layer: nn.Module, clean: PartSource, run: Run, size: int
) -> Tensor:
    """Mean over samples and positions of what is positive in each channel of a layer: (channels,)."""
    total: list[Tensor] = []

    def note(_: nn.Module, __: tuple[Any, ...], output: Tensor) -> None:
        awake = output.detach().clamp(min=0)
        channel = 1 if awake.ndim > 2 else -1
        total.append(
            awake.movedim(channel, -1).flatten(1, -2).double().mean(1)
            if awake.ndim > 2
            else awake.double()
        )

    sums, count = torch.zeros((), dtype=torch.float64, device=run.device), 0
    hook = layer.register_forward_hook(note)
    try:
        with evaluating(model), torch.no_grad():
            for batch in clean.batches(size, shuffle=False, augment=False):
                run.task.observe(model, batch)
                seen = total.pop()
                if batch.weight:
                    sums, count = sums + seen.sum(0), count + len(seen)
    finally:
        hook.remove()
    found: Tensor = run.sum(sums) / run.sum(torch.tensor(float(count), device=run.device))
    return found
