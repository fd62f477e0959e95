"""Checkpoints that were trained elsewhere: weights alone, never unpickled."""

from __future__ import annotations

import re
import warnings
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
OTHER = "give the model that these weights were saved of"
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


@dataclass(frozen=True)
class Taken:
    """What a model took of a checkpoint.

    mask: of a model that torch.nn.utils.prune has cut; None of a dense one. key: where the weights lay;
    empty: nowhere below. beside: names of tensors beside them that no model took.
    """

    mask: Mask | None
    key: str
    beside: Sequence[str]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint that was read. file: where it lies. found: the state dicts in it."""

    file: Path
    found: Sequence[StateDict]

    def into(self, model: nn.Module) -> Taken:
        """Load it into a model, as `load_weights` does."""
        from torch import Tensor

        from expunge.models.dialects import as_taken, filled
        from expunge.models.state import own_memory

        own_memory(model)
        own = model.state_dict()
        expected = {name: value for name, value in own.items() if isinstance(value, Tensor)}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        with reading(self.file, REMEDY, ModelError):
            try:
                one = _chosen(self.file, self.found, expected)
                _check_fit(self.file, one, expected)
                state = {
                    name: as_taken(name, value, expected[name], parameter=name in parameters)
                    for name, value in one.state.items()
                }
                _check_tied(state, expected)
            except UnreadableError as error:  # which says what to do itself
                raise ModelError(f"cannot take the weights of {self.file}: {error}") from error
            model.load_state_dict({**own, **filled(state, expected)})
        return Taken(one.mask or None, one.key, one.beside)


def read_checkpoint(path: str | Path, *, key: str | None = None) -> Checkpoint:
    """Read a checkpoint: safetensors, or a state dict saved by torch, which is never unpickled.

    key: where the state dict lies (`ema`, `a.b`), or what the names of its tensors begin with, where
    several would fit a model.
    Raises ModelError for what is no checkpoint.
    """
    from expunge.models.dialects import at_key, state_dicts

    file = Path(path)
    check_weights_file(file)
    with reading(file, REMEDY, ModelError):
        content = _content(file)
        if key is not None and (named := list(at_key(content, key))):
            return Checkpoint(file, named)
        found = list(state_dicts(content))
        if key is None and found:
            return Checkpoint(file, found)
        what = _nothing_in(content, found, key)
    raise ModelError(f"cannot take the weights of {file}: {what}")


def load_weights(model: nn.Module, path: str | Path, *, key: str | None = None) -> Mask | None:
    """Load a checkpoint trained elsewhere: safetensors, or a state dict saved by torch.

    The state dict may lie under any key, its names may begin with those of wrappers, and pruned
    weights may come with their masks: see `models.dialects`. Files that would have to be unpickled are
    refused.

    Args:
        model: takes the weights.
        path: a .safetensors file, or one that torch.save wrote.
        key: where the state dict lies, as `read_checkpoint` takes it.

    Returns:
        The mask of a model that torch.nn.utils.prune has cut; None of a dense one.

    Raises:
        ModelError: for what is no checkpoint, does not fit the model, or is ambiguous.
    """
    return read_checkpoint(path, key=key).into(model).mask


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


def _nothing_in(content: Any, found: Sequence[StateDict], key: str | None) -> str:
    """Why a checkpoint gives no state dict, and what to do."""
    from expunge.models.dialects import DEEPEST

    if not isinstance(content, Mapping):
        kind = type(content).__name__
        return f"it holds a {kind}, no state dict: names, and a tensor for each; {REMEDY}"
    if found:
        named = listed([clean_name(one.key)[:80] for one in found if one.key])
        return f"it holds no tensors under the key {clean_name(key or '')[:80]!r}; " + (
            f"there are: {named}; name one of them"
            if named
            else "they lie at the top, so leave --key out"
        )
    there = listed([clean_name(str(name))[:40] for name in content])
    return (
        f"it holds no state dict (names, and a tensor for each) within {DEEPEST} levels, but "
        f"{there or 'nothing'}; {REMEDY}"
    )


def _chosen(file: Path, found: Sequence[StateDict], expected: Mapping[str, Tensor]) -> StateDict:
    """The state dict that fits the model, under the model's names; if none does, the nearest.

    Raises ModelError where several fit that are not the same, UnreadableError for quantised ones.
    """
    from expunge.models.dialects import QUANTISED, as_model_names, beneath

    named = [as_model_names(one, expected) for one in found]
    right = _fitting(named, expected)
    if not any(not _wrong(one, expected) for one in right):  # then perhaps a part of one
        parts = [part for one in found for part in beneath(one, expected)]
        right = _fitting([as_model_names(part, expected) for part in parts], expected) or right
    unlike: list[StateDict] = []
    for one in right:
        if not any(_same(one, other) for other in unlike):
            unlike.append(one)
    if len(unlike) > 1:
        keys = listed([clean_name(one.key) or "the file itself" for one in unlike])
        if all(_MEMBER.search(one.key) for one in unlike):
            raise ModelError(
                f"{file} holds an ensemble of {len(unlike)} models ({keys}), which cannot be imported "
                "whole: keep the model folder that it came from, or name one with --key, which alone is "
                "another model"
            )
        raise ModelError(f"{file} holds several weights that fit: {keys}; name one with --key")
    if right:
        return right[0]
    for one in found:
        for name, value in one.state.items():
            if value.is_quantized:
                raise UnreadableError(f"{clean_name(name)[:200]} {QUANTISED}")
    return max((one for one, _ in named), key=lambda one: len(one.state.keys() & expected.keys()))


_MEMBER = re.compile(r"(^|\.)members\.[0-9]+\.?$")
"""A key of a member of an ensemble."""


def _fitting(
    named: Sequence[tuple[StateDict, bool]], expected: Mapping[str, Tensor]
) -> list[StateDict]:
    """Those whose names fit, and if there are any, whose shapes do, too."""
    fitting = [one for one, fits in named if fits]
    return [one for one in fitting if not _wrong(one, expected)] or fitting


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
    raise ModelError(f"{file}{where} does not fit the model: it {'; '.join(problems)}; {OTHER}")


def _check_tied(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> None:
    """Raise UnreadableError for weights that the model shares, and that were saved as different ones."""
    import torch

    from expunge.models.state import place_of

    first: dict[object, str] = {}
    for name, value in expected.items():
        if name not in state:
            continue
        other = first.setdefault(place_of(value), name)
        if other != name and not torch.equal(state[other], state[name]):
            raise UnreadableError(
                f"{other} and {name} are one tensor in the model, and differ here; give a model that "
                "keeps them apart, as the one that was saved did"
            )
