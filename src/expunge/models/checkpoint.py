"""Checkpoints that were trained elsewhere: weights alone, never unpickled."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from expunge.disk.reading import UnreadableError, check_regular, reading
from expunge.errors import ModelError, listed
from expunge.models.no_checkpoint import SAFETENSORS, what_else
from expunge.names.text import clean_name

if TYPE_CHECKING:
    from torch import Tensor, nn

    from expunge.models.dialects import StateDict
    from expunge.models.mask import Mask

REMEDY = "save the weights alone, with safetensors or torch.save(model.state_dict(), ...)"
_GLOBAL = re.compile(r"GLOBAL ([\w.]{1,200})")


def check_weights_file(path: str | Path) -> None:
    """Raise ModelError for a checkpoint that is not there, is no file, or by its first bytes is
    something else.
    """
    file = Path(path)
    with reading(path, "name a .safetensors or a .pt file", ModelError):
        if not file.exists():
            raise ModelError(f"no weights file {path}; name a .safetensors or a .pt file")
        check_regular(file)
        told = what_else(file)
    if told is not None:
        raise ModelError(f"{path} is no checkpoint: {told[0]}; {told[1]}")


def load_weights(model: nn.Module, path: str | Path, *, key: str | None = None) -> Mask | None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    The state dict may lie under any key, its names may begin with those of wrappers, and pruned
    weights may come with their masks: see `models.dialects`. Files that would have to be unpickled are
    refused.

    Args:
        model: takes the weights.
        path: a .safetensors file, or one that torch.save wrote.
        key: where the state dict lies (`ema`, `a.b`), where several would fit.

    Returns:
        The mask of a model that torch.nn.utils.prune has cut; None of a dense one.

    Raises:
        ModelError: for what is no checkpoint, does not fit the model, or is ambiguous.
    """
    from torch import Tensor

    from expunge.models.dialects import as_taken, filled, state_dicts

    file = Path(path)
    check_weights_file(file)
    own = model.state_dict()
    expected = {name: value for name, value in own.items() if isinstance(value, Tensor)}
    with reading(file, REMEDY, ModelError):
        content = _content(file)
        found = [one for one in state_dicts(content) if key is None or one.key == key]
        if not found:
            raise UnreadableError(_nothing_in(content, key))
        try:
            one = _chosen(file, found, expected)
            _check_fit(file, one, expected)
            state = {
                name: as_taken(name, value, expected[name]) for name, value in one.state.items()
            }
            _check_numbers(state, dict(model.named_parameters()))
        except UnreadableError as error:  # which says what to do itself
            raise ModelError(f"cannot take the weights of {file}: {error}") from error
        model.load_state_dict({**own, **filled(state, expected)})
    return one.mask or None


def _content(file: Path) -> Any:
    """What a checkpoint holds; nothing of it is unpacked to more than its size."""
    import torch
    from safetensors.torch import load_file

    if file.suffix == SAFETENSORS:
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
        known = _GLOBAL.search(str(error))
        what = f"a {known[1]}" if known else "more than tensors"
        raise UnreadableError(
            f"it is damaged, or holds {what}, which would have to be unpickled, and that can run code"
        ) from error


def _nothing_in(content: Any, key: str | None) -> str:
    """Why a checkpoint gives no state dict."""
    if not isinstance(content, Mapping):
        return f"it holds a {type(content).__name__}, no state dict: names, and a tensor for each"
    there = listed([clean_name(str(name))[:40] for name in content])
    if key is not None:
        return f"it holds no tensors under the key {key!r}; there are: {there}"
    return f"it holds no state dict: names, and a tensor for each, but {there or 'nothing'}"


def _chosen(file: Path, found: Sequence[StateDict], expected: Mapping[str, Tensor]) -> StateDict:
    """The state dict that fits the model, under the model's names; if none does, the nearest.

    Raises ModelError where several fit that are not the same, UnreadableError for quantised ones.
    """
    from expunge.models.dialects import QUANTISED, as_model_names

    named = [as_model_names(one, expected) for one in found]
    fitting = [one for one, fits in named if fits]
    right = [one for one in fitting if not _wrong(one, expected)] or fitting
    if len(right) > 1 and not all(_same(right[0], one) for one in right[1:]):
        keys = listed([clean_name(one.key) or "the file itself" for one in right])
        raise ModelError(f"{file} holds several weights that fit: {keys}; name one with --key")
    if right:
        return right[0]
    for one in found:
        for name, value in one.state.items():
            if value.is_quantized:
                raise UnreadableError(f"{clean_name(name)[:200]} {QUANTISED}")
    return max((one for one, _ in named), key=lambda one: len(one.state.keys() & expected.keys()))


def _same(one: StateDict, other: StateDict) -> bool:
    """Whether two state dicts hold the same numbers."""
    import torch

    return one.state.keys() == other.state.keys() and all(
        value.layout == other.state[name].layout == torch.strided
        and torch.equal(value, other.state[name])
        for name, value in one.state.items()
    )


def _wrong(found: StateDict, expected: Mapping[str, Tensor]) -> list[str]:
    """Names whose tensors have another shape than the model's; of a lazy one nobody knows it."""
    from torch.nn.parameter import is_lazy

    state = found.state
    known = [name for name in expected if name in state and not is_lazy(expected[name])]
    return [name for name in known if state[name].shape != expected[name].shape]


def _check_fit(file: Path, found: StateDict, expected: Mapping[str, Tensor]) -> None:
    """Raise ModelError for tensors too few, too many or of another shape."""
    from expunge.models.dialects import filled

    state = found.state
    missing = sorted(expected.keys() - filled(state, expected).keys())
    surplus = sorted(state.keys() - expected.keys())
    wrong = _wrong(found, expected)
    if not (missing or surplus or wrong):
        return
    if found.problem:
        raise UnreadableError(found.problem)
    problems = [f"lacks {missing[0]} ({len(missing)} in all)"] if missing else []
    problems += (
        [f"has {clean_name(surplus[0])[:200]} too many ({len(surplus)} in all)"] if surplus else []
    )
    problems += [
        f"{n} is {tuple(state[n].shape)}, not {tuple(expected[n].shape)}" for n in wrong[:1]
    ]
    where = f" (its {clean_name(found.key)[:80]!r})" if found.key else ""
    raise ModelError(f"{file}{where} does not fit the model: it {'; '.join(problems)}")


def _check_numbers(state: Mapping[str, Tensor], parameters: Mapping[str, object]) -> None:
    """Raise UnreadableError for parameters that hold nan or inf; a buffer may hold them."""
    broken = [n for n, one in state.items() if n in parameters and not one.isfinite().all()]
    if broken:
        raise UnreadableError(
            f"{broken[0]} holds nan or inf, so the training had diverged: save an earlier checkpoint"
        )
