"""Checkpoints that were trained elsewhere: weights alone, never unpickled."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.errors import ModelError

if TYPE_CHECKING:
    from torch import nn


def check_weights_file(path: str | Path) -> None:
    """Raise ModelError for a checkpoint that is not there."""
    if not Path(path).is_file():
        raise ModelError(f"no weights file {path}; name a .safetensors or a .pt file")


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    A state dict may lie under a key `state_dict` or `model`, and its names may start with
    "module.", as DataParallel leaves them. Files that would have to be unpickled are refused.
    """
    import torch
    from safetensors.torch import load_file
    from torch import Tensor

    file = Path(path)
    check_weights_file(file)
    try:
        if file.suffix == ".safetensors":
            state: Any = load_file(file)
        else:
            state = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises half a dozen types for a file that it will not read
        raise ModelError(
            f"cannot read {file} without unpickling it: it is damaged, or holds more than tensors; "
            "save the weights alone, with safetensors or torch.save(model.state_dict(), ...)"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(state, Mapping) and isinstance(state.get(key), Mapping):
            state = state[key]
    if not isinstance(state, Mapping) or not all(isinstance(v, Tensor) for v in state.values()):
        raise ModelError(f"{file} holds no state dict; save model.state_dict()")
    expected = model.state_dict()
    if not set(state) & set(expected):  # as DataParallel leaves them
        state = {name.removeprefix("module."): value for name, value in state.items()}
    for name, value in expected.items():  # tied weights are saved once
        twins = [other for other, one in expected.items() if one.data_ptr() == value.data_ptr()]
        saved = [other for other in twins if other in state]
        if name not in state and saved and value.numel():
            state[name] = state[saved[0]]
    missing = sorted(set(expected) - set(state))
    surplus = sorted(set(state) - set(expected))
    wrong = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    if missing or surplus or wrong:
        problems = [f"lacks {missing[0]} ({len(missing)} in all)"] if missing else []
        problems += [f"has {surplus[0]} too many ({len(surplus)} in all)"] if surplus else []
        problems += [
            f"{n} is {tuple(state[n].shape)}, not {tuple(expected[n].shape)}" for n in wrong[:1]
        ]
        raise ModelError(f"{file} does not fit the model: it {'; '.join(problems)}")
    model.load_state_dict(state)
