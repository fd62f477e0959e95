"""State dicts as people save them: under which key, with which prefixes, in which parametrisation.

A state dict may lie anywhere in what was saved (`state_dict`, `net`, ...); its names may begin with
those of wrappers (`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, ...);
and a weight may be stored as what it is computed from: `weight_orig` and `weight_mask` of
torch.nn.utils.prune, `weight_g` and `weight_v` of weight normalisation.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.parameter import is_lazy

from expunge.disk.reading import UnreadableError

DEEPEST = 4
"""Levels of mappings that are looked into for state dicts."""
WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
)
"""What torch puts in the midst of names, too."""
COUNTS = "num_batches_tracked"
"""Of BatchNorm: versions of torch before 0.4.1 knew none, and averaging weights drops it."""
AVERAGED = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` keeps beside its module."""

QUANTISED = "is quantised; save the weights from before quantisation"


@dataclass(frozen=True)
class StateDict:
    """A state dict somewhere in a checkpoint.

    key: where, keys joined by dots; empty: the checkpoint itself. state: name -> tensor. mask: name ->
    bool tensor, True = kept, of weights that torch.nn.utils.prune has cut. problem: why a weight cannot
    be computed from its parts.
    """

    key: str
    state: dict[str, Tensor]
    mask: dict[str, Tensor]
    problem: str = ""

    def renamed(self, new: Mapping[str, str]) -> StateDict:
        """The same, under other names; what has none is left out."""
        state, mask = (
            {new[name]: value for name, value in one.items() if name in new}
            for one in (self.state, self.mask)
        )
        return replace(self, state=state, mask=mask)


def state_dicts(content: Any, key: str = "", depth: int = 0) -> Iterator[StateDict]:
    """Every mapping in a checkpoint that has tensors under names, the outermost first."""
    if not isinstance(content, Mapping) or depth > DEEPEST:
        return
    named = {name: one for name, one in content.items() if isinstance(name, str)}
    tensors = {name: one for name, one in named.items() if isinstance(one, Tensor)}
    if tensors:
        yield StateDict(key, tensors, {})
    for name, one in named.items():
        yield from state_dicts(one, f"{key}.{name}" if key else name, depth + 1)


def as_model_names(found: StateDict, expected: Mapping[str, Tensor]) -> tuple[StateDict, bool]:
    """A state dict under the model's names and in its parametrisation, and whether all names fit.

    expected: the model's own state dict. Where nothing fits, what comes nearest.
    """
    near, most = found, -1
    whole = folded(found, expected)
    for one in (found, whole):
        for new in _renamings(list(one.state), list(expected)):
            known = [name for name in new.values() if name in expected]
            if len(known) == len(new) and not _missing(set(known), expected):
                return one.renamed(new), True
            if len(known) > most:
                near, most = one.renamed(new), len(known)
    return replace(near, problem=whole.problem), False


def _missing(known: set[str], expected: Mapping[str, Tensor]) -> bool:
    """Whether something lacks that cannot be filled in: see `filled`."""
    there = {_place(expected[name]) for name in known}
    return any(
        name not in known and not name.endswith(COUNTS) and _place(value) not in there
        for name, value in expected.items()
    )


def filled(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With tied weights that were saved once given to all that share them, and counts of batches that
    were not saved left as they are.
    """
    saved: dict[Any, str] = {}
    for name, value in expected.items():
        if name in state:
            saved.setdefault(_place(value), name)
    full = dict(state)
    for name, value in expected.items():
        if name in state:
            continue
        if _place(value) in saved:
            full[name] = state[saved[_place(value)]]
        elif name.endswith(COUNTS):
            full[name] = value
    return full


def _place(value: Tensor) -> object:
    """The same for entries that share their memory; an empty or lazy one shares with nothing."""
    return value.data_ptr() if not is_lazy(value) and value.numel() else object()


def _renamings(names: list[str], expected: list[str]) -> Iterator[dict[str, str]]:
    """Old name -> new name, for each way in which a wrapper may have named a model's tensors."""
    bare = {name: name for name in names if name != AVERAGED or AVERAGED in expected}
    plain = {name: _without_wrappers(new) for name, new in bare.items()}
    inner = [_without_wrappers(name) for name in expected]
    back = dict(zip(inner, expected, strict=True)) if len(set(inner)) == len(inner) else {}
    for start in (bare, plain) if plain != bare else (bare,):
        for new in _stripped(start):
            if len(set(new.values())) < len(new):
                continue
            yield new
            if back and inner != expected:
                yield {name: back.get(one, one) for name, one in new.items()}
            for prefix in _shared(expected):
                yield {name: f"{prefix}.{one}" for name, one in new.items()}


def _without_wrappers(name: str) -> str:
    return ".".join(part for part in name.split(".") if part not in WRAPPERS)


def _stripped(new: dict[str, str]) -> Iterator[dict[str, str]]:
    """New names as they are, and without one, two, ... first parts that all of them share."""
    yield new
    for prefix in _shared(list(new.values())):
        yield {name: one.removeprefix(f"{prefix}.") for name, one in new.items()}


def _shared(names: list[str]) -> Iterator[str]:
    """`a`, `a.b`, ...: first parts that all names share, with something left behind them."""
    parts = [name.split(".") for name in names]
    for depth in range(1, min(map(len, parts), default=0)):
        if len({one[depth - 1] for one in parts}) > 1:
            return
        yield ".".join(parts[0][:depth])


def folded(found: StateDict, expected: Mapping[str, Tensor]) -> StateDict:
    """With each weight that is stored as its parts computed from them; `problem` says where that
    cannot be done.
    """
    if any(
        name.endswith(("_orig", "_g")) or ".parametrizations." in f".{name}" for name in expected
    ):
        return found  # the model itself is in parts
    state, mask = dict(found.state), dict(found.mask)
    try:
        for name in list(found.state):
            for end, fold in FOLDS.items():
                if name in state and name.endswith(end):
                    fold(name.removesuffix(end), state, mask)
        left = [name for name in state if ".parametrizations." in f".{name}"]
        if left:
            raise UnreadableError(
                f"it holds {left[0]}, a part that its weight is computed from; before saving, call "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    except UnreadableError as error:
        return replace(found, problem=str(error))
    return replace(found, state=state, mask=mask)


def _whole(value: Tensor) -> bool:
    """Whether all its numbers are stored, so that what is computed of them takes no more room."""
    there: int = value.untyped_storage().nbytes() if value.layout == torch.strided else 0
    return there >= value.numel() * value.element_size()


def _fold_pruned(name: str, state: dict[str, Tensor], mask: dict[str, Tensor]) -> None:
    """`weight_orig` and `weight_mask` of torch.nn.utils.prune; spectral norm has `weight_orig` too."""
    if f"{name}_mask" not in state:
        if f"{name}_u" in state:
            raise UnreadableError(
                f"{name} is stored as spectral normalisation has it; before saving, call "
                "torch.nn.utils.remove_spectral_norm"
            )
        return
    original, kept = state[f"{name}_orig"], state[f"{name}_mask"]
    fits = original.shape == kept.shape and _whole(original) and _whole(kept)
    if not fits or not bool(((kept == 0) | (kept == 1)).all()):
        raise UnreadableError(f"{name}_mask is no mask of 0 and 1 for {name}_orig")
    del state[f"{name}_orig"], state[f"{name}_mask"]
    mask[name] = kept != 0
    state[name] = original.masked_fill(kept == 0, 0)


def _fold_norm(name: str, state: dict[str, Tensor], length: str, direction: str) -> None:
    """A weight that is a length times a direction (Salimans and Kingma, 2016)."""
    size, way = state.get(length), state.get(direction)
    if size is None or way is None or not _whole(size) or not _whole(way):
        return
    along = [axis for axis in range(way.dim()) if size.dim() == way.dim() and size.shape[axis] != 1]
    if size.numel() > 1 and (len(along) != 1 or size.numel() != way.shape[along[0]]):
        return
    norm = (
        way.norm()
        if size.numel() == 1
        else way.norm(dim=[axis for axis in range(way.dim()) if axis != along[0]], keepdim=True)
    )
    del state[length], state[direction]
    state[name] = way * (size / norm)


def _fold_old_norm(name: str, state: dict[str, Tensor], mask: dict[str, Tensor]) -> None:
    """`weight_g` and `weight_v` of torch.nn.utils.weight_norm."""
    _fold_norm(name, state, f"{name}_g", f"{name}_v")


def _fold_new_norm(name: str, state: dict[str, Tensor], mask: dict[str, Tensor]) -> None:
    """`parametrizations.weight.original0` and `original1` of the newer weight normalisation."""
    before, _, weight = f".{name}".rpartition(".parametrizations.")
    if f"{name}.0._u" in state or "." in weight:
        return
    whole = f"{before}.{weight}".removeprefix(".")
    _fold_norm(whole, state, f"{name}.original0", f"{name}.original1")


FOLDS: Mapping[str, Callable[[str, dict[str, Tensor], dict[str, Tensor]], None]] = {
    "_orig": _fold_pruned,
    "_g": _fold_old_norm,
    ".original0": _fold_new_norm,
}
"""How the name of a weight's first part ends -> what makes the weight."""


def as_taken(name: str, value: Tensor, wanted: Tensor) -> Tensor:
    """A tensor as a model can take it: a sparse one made dense.

    wanted: the model's own, of the same shape. Raises UnreadableError for one of another kind.
    """
    if value.is_quantized:
        raise UnreadableError(f"{name} {QUANTISED}")
    if value.is_nested or value.is_meta:
        raise UnreadableError(f"{name} is a tensor without plain values; save it as a plain tensor")
    if value.is_complex() and not wanted.is_complex():
        raise UnreadableError(f"{name} is complex, and the model's is {_kind(wanted)}")
    if wanted.is_floating_point() and not value.is_floating_point():
        raise UnreadableError(
            f"{name} holds {_kind(value)} where the model has {_kind(wanted)}: integers are quantised "
            "weights, of which nobody knows the scale; save the weights from before that"
        )
    return value if value.layout == torch.strided else value.to_dense()


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
