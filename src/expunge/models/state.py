"""The state of a model as a file of tensors can hold it."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from expunge.errors import ModelError


def check_state(model: nn.Module) -> None:
    """Raise ModelError for state that is no plain tensor, which a model folder cannot hold."""
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise ModelError(
                f"the model's state {name!r} is a {type(value).__name__} and no tensor, which a model "
                "folder cannot hold; keep it as a buffer (register_buffer), or as a plain attribute"
            )
        if value.layout != torch.strided or value.is_quantized:
            kind = "quantised" if value.is_quantized else str(value.layout).removeprefix("torch.")
            raise ModelError(
                f"the model's state {name!r} is {kind}, which cannot be trained and saved here; give "
                "the model with ordinary dense weights"
            )


def own_memory(model: nn.Module) -> None:
    """Give buffers that `expand` made memory of their own, so that a state can be loaded into them."""
    for module in model.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None and not is_lazy(buffer) and _repeats(buffer):
                module._buffers[name] = buffer.contiguous()


def _repeats(value: Tensor) -> bool:
    """Whether several entries lie in one place."""
    if value.layout != torch.strided:
        return False
    return any(
        step == 0 and size > 1 for size, step in zip(value.shape, value.stride(), strict=True)
    )


def packed_state(model: nn.Module) -> dict[str, Tensor]:
    """Name -> tensor on the processor, each with memory of its own; of tied ones the first alone."""
    packed: dict[str, Tensor] = {}
    places, storages = set(), set()
    for name, value in sorted(model.state_dict().items()):
        if place_of(value) in places:
            continue
        storage = value.untyped_storage()
        alone = storage.nbytes() == value.nbytes and storage.data_ptr() not in storages
        places.add(place_of(value))
        storages.add(storage.data_ptr())
        value = value.detach().cpu().contiguous()
        packed[name] = value if alone else value.clone()
    return packed


def load_packed(model: nn.Module, packed: Mapping[str, Tensor]) -> None:
    """Load what `packed_state` gave. Raises RuntimeError for the state of another model."""
    own_memory(model)
    model.load_state_dict(with_tied(packed, model.state_dict()))


def with_tied(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A state with tied weights that were saved once given to all that share them.

    expected: the model's own state dict.
    """
    own = [(name, value) for name, value in expected.items() if name in state]
    saved = {place_of(value): name for name, value in reversed(own)}
    return dict(state) | {
        name: state[saved[place_of(value)]]
        for name, value in expected.items()
        if name not in state and place_of(value) in saved
    }


def numbers_in(model: nn.Module) -> int:
    """Numbers in the parameters of a model, tied ones counted once; lazy ones have none yet."""
    own = {place_of(one): one.numel() for one in model.parameters() if not is_lazy(one)}
    return sum(own.values())


def place_of(value: Tensor) -> object:
    """Where a tensor lies, the same for tied ones alone."""
    if is_lazy(value) or not value.numel():
        return id(value)
    return value.device, value.data_ptr(), value.shape, value.stride()
