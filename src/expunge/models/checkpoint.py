"""Checkpoints that were trained elsewhere: weights alone, never unpickled."""

from __future__ import annotations

import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.disk.reading import UnreadableError, check_regular, reading
from expunge.errors import ModelError
from expunge.names.text import clean_name

if TYPE_CHECKING:
    from torch import Tensor, nn

REMEDY = "save the weights alone, with safetensors or torch.save(model.state_dict(), ...)"


def check_weights_file(path: str | Path) -> None:
    """Raise ModelError for a checkpoint that is not there, or is no file."""
    with reading(path, "name a .safetensors or a .pt file", ModelError):
        if not Path(path).exists():
            raise ModelError(f"no weights file {path}; name a .safetensors or a .pt file")
        check_regular(Path(path))


def load_weights(model: nn.Module, path: str | Path) -> None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    A state dict may lie under a key `state_dict` or `model`, and its names may start with
    "module.", as DataParallel leaves them. Files that would have to be unpickled are refused.
    """
    file = Path(path)
    check_weights_file(file)
    with reading(file, REMEDY, ModelError):
        state = _state(_content(file))
        _check_fit(file, state, model.state_dict())
        model.load_state_dict(state)


def _check_fit(file: Path, state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Name tensors as the model does, in place. Raises ModelError for any too few, too many or of
    another shape.
    """
    if not state.keys() & expected.keys():  # as DataParallel leaves them
        named = {name.removeprefix("module."): value for name, value in state.items()}
        state.clear()
        state.update(named)
    _fill_tied(state, expected)
    missing = sorted(expected.keys() - state.keys())
    surplus = [clean_name(name)[:200] for name in sorted(state.keys() - expected.keys())[:1]]
    wrong = [n for n in expected if n in state and state[n].shape != expected[n].shape]
    if missing or surplus or wrong:
        problems = [f"lacks {missing[0]} ({len(missing)} in all)"] if missing else []
        many = len(state.keys() - expected.keys())
        problems += [f"has {surplus[0]} too many ({many} in all)"] if surplus else []
        problems += [
            f"{n} is {tuple(state[n].shape)}, not {tuple(expected[n].shape)}" for n in wrong[:1]
        ]
        raise ModelError(f"{file} does not fit the model: it {'; '.join(problems)}")


def _content(file: Path) -> Any:
    """What a checkpoint holds; nothing of it is unpacked to more than its size."""
    import torch
    from safetensors.torch import load_file

    if file.suffix == ".safetensors":
        return load_file(file)
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            if any(one.compress_type or one.flag_bits & 1 for one in archive.infolist()):
                raise UnreadableError("it is compressed or encrypted, which torch does not write")
            if sum(one.file_size for one in archive.infolist()) > file.stat().st_size:
                raise UnreadableError("its parts are larger than the whole")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what torch says of a file beside its errors
            return torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # half a dozen types, with advice to unpickle it
        raise UnreadableError(
            "it is damaged, or holds more than tensors, which would have to be unpickled"
        ) from error


def _state(content: Any) -> dict[str, Tensor]:
    """Name -> tensor. Raises UnreadableError for what is no state dict."""
    from torch import Tensor

    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in content.items()
    ):
        raise UnreadableError("it holds no state dict: names, and a tensor for each")
    return dict(content)


def _fill_tied(state: dict[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Give tied weights that were saved once to all that share them."""
    saved: dict[int, str] = {}
    for name, value in expected.items():
        if name in state:
            saved.setdefault(value.data_ptr(), name)
    for name, value in expected.items():
        if name not in state and value.numel() and value.data_ptr() in saved:
            state[name] = state[saved[value.data_ptr()]]
