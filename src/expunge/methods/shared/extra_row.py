"""A last layer with a row more for a while: a class that is only there to be drawn to."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from expunge.names.seeds import torch_generator
from expunge.training.run import Run


def is_ordinary_layer(layer: nn.Module) -> bool:
    """Whether a layer computes with its own weight and bias, and nothing else goes by their rows."""
    own = {name for name, _ in layer.named_parameters(recurse=False)}
    uses = {name for name in ("weight", "bias") if getattr(layer, name, None) is not None}
    return own == uses and not [*layer.buffers()] and not [*layer.children()]


@contextmanager
def one_row_more(model: nn.Module, names: set[str], run: Run) -> Iterator[Run]:
    """The parameters of a layer with a row more, and the run with a mask to fit; cut off on the way out.

    The parameters are the model's own again afterwards, with the values that their rows came to.
    """
    generator = torch_generator(*run.names, "extra row")
    layer = model.get_submodule(min(names).rpartition(".")[0])
    own = {name.rpartition(".")[2]: model.get_parameter(name) for name in sorted(names)}
    # as torch draws linear and convolutional layers: uniformly, by the inputs of a row
    reach = max(parameter[0].numel() for parameter in own.values()) ** -0.5
    mask = dict(run.mask or {})
    for name, parameter in own.items():
        row = torch.rand((1, *parameter.shape[1:]), generator=generator).to(parameter)
        wider = torch.cat([parameter.detach(), reach * (2 * row - 1)])
        setattr(layer, name, nn.Parameter(wider))
    for name in names & mask.keys():
        mask[name] = torch.cat([mask[name], torch.ones_like(mask[name][:1])])
    try:
        yield replace(run, mask=mask or None)
    finally:
        with torch.no_grad():
            for name, parameter in own.items():
                parameter.copy_(layer.get_parameter(name)[:-1])
                setattr(layer, name, parameter)
