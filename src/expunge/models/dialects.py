"""State dicts as people save them: under which key, with which prefixes, in which parametrisation.

A state dict may lie anywhere in what was saved (`state_dict`, `net`, ...); its names may begin with
those of wrappers (`module.` of DataParallel, `_orig_mod.` of torch.compile, `model.` of Lightning, ...);
and a weight may be stored as what it is computed from: `weight_orig` and `weight_mask` of
torch.nn.utils.prune, `weight_g` and `weight_v` of weight normalisation.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from expunge.disk.reading import UnreadableError
from expunge.models.state import place_of, with_tied

DEEPEST, MOST = 16, 10_000
"""Levels of mappings, and how many of them, that are looked into for state dicts."""
WRAPPERS = (
    "_orig_mod",
    "_fsdp_wrapped_module",
    "_checkpoint_wrapped_module",
    "_forward_module",
)
"""What torch puts in the midst of names, too."""
PARALLEL = "module"
"""What DataParallel puts there: a name that a model may well have itself, so it is taken off last."""
COUNTS = "num_batches_tracked"
"""Of BatchNorm: versions of torch before 0.4.1 knew none, and averaging weights drops it."""
COUNTED = "n_averaged"
"""What `torch.optim.swa_utils.AveragedModel` keeps beside its module."""

QUANTISED = "is quantised; save the weights from before quantisation"


@dataclass(frozen=True)
class StateDict:
    """A state dict somewhere in a checkpoint.

    key: where, keys and prefixes joined by dots; empty: the checkpoint itself. state: name -> tensor.
    mask: name -> bool tensor, True = kept, of weights that torch.nn.utils.prune has cut. beside: names
    of tensors that lie beside these, under other prefixes. problem: why a weight cannot be computed
    from its parts.
    """

    key: str
    state: dict[str, Tensor]
    mask: dict[str, Tensor]
    beside: tuple[str, ...] = ()
    problem: str = ""

    def renamed(self, new: Mapping[str, str]) -> StateDict:
        """The same, under other names; what has none is left out."""
        state, mask = (
            {new[name]: value for name, value in one.items() if name in new}
            for one in (self.state, self.mask)
        )
        return replace(self, state=state, mask=mask)


def state_dicts(content: Any) -> Iterator[StateDict]:
    """Every mapping in a checkpoint that has tensors under names, each once, the outermost first.

    Raises UnreadableError for more mappings than anybody saves.
    """
    left: deque[tuple[Any, str, int]] = deque([(content, "", 0)])
    seen: set[int] = set()
    while left:
        one, key, depth = left.popleft()
        if not isinstance(one, Mapping) or depth > DEEPEST or id(one) in seen:
            continue
        seen.add(id(one))  # several keys may lead to one mapping, and one may lie in itself
        if len(seen) > MOST:
            raise UnreadableError(f"it holds more than {MOST:,} dictionaries")
        named = {name: value for name, value in one.items() if isinstance(name, str)}
        tensors = {name: value for name, value in named.items() if isinstance(value, Tensor)}
        if tensors:
            yield StateDict(key, tensors, {})
        left.extend((named[name], _joined(key, name), depth + 1) for name in named)


def at_key(content: Any, key: str) -> Iterator[StateDict]:
    """The state dicts that a key means: keys joined by dots, and at the end a prefix of names."""
    if not isinstance(content, Mapping):
        return
    for name, one in content.items():
        if name == key and isinstance(one, Mapping):
            for found in state_dicts(one):
                yield replace(found, key=_joined(key, found.key))
        elif isinstance(name, str) and key.startswith(f"{name}."):
            for found in at_key(one, key.removeprefix(f"{name}.")):
                yield replace(found, key=f"{name}.{found.key}")
    tensors = {
        n: one for n, one in content.items() if isinstance(n, str) and isinstance(one, Tensor)
    }
    if any(name.startswith(f"{key}.") for name in tensors):
        yield _under(StateDict("", tensors, {}), key)


def _joined(key: str, name: str) -> str:
    return f"{key}.{name}" if key and name else key or name


def _under(found: StateDict, prefix: str) -> StateDict:
    """What of a state dict has names that begin with a prefix, without it."""
    inside = {name: one for name, one in found.state.items() if name.startswith(f"{prefix}.")}
    return replace(
        found,
        key=_joined(found.key, prefix),
        state={name.removeprefix(f"{prefix}."): one for name, one in inside.items()},
        beside=tuple(name for name in found.state if name not in inside),
    )


def beneath(found: StateDict, expected: Mapping[str, Tensor]) -> Iterator[StateDict]:
    """Parts of a state dict under one prefix each that have tensors enough for a model: the network
    beside a loss's own weights, or beside its average. None where the model's own names are all there.
    """
    needed = {place_of(one) for name, one in expected.items() if not name.endswith(COUNTS)}
    if expected.keys() <= found.state.keys():
        return
    counts = Counter(
        name[:at] for name in found.state for at, sign in enumerate(name) if sign == "."
    )
    for prefix, count in counts.items():
        if max(1, len(needed)) <= count < len(found.state):
            yield _under(found, prefix)


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
    there = {place_of(expected[name]) for name in known}
    return any(
        name not in known and not name.endswith(COUNTS) and place_of(value) not in there
        for name, value in expected.items()
    )


def filled(state: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """With tied weights that were saved once given to all that share them, and counts of batches that
    were not saved left as they are.
    """
    counts = {name: value for name, value in expected.items() if name.endswith(COUNTS)}
    return counts | with_tied(state, expected)


def _renamings(names: list[str], expected: list[str]) -> Iterator[dict[str, str]]:
    """Old name -> new name, for each way in which a wrapper may have named a model's tensors."""
    bare = {name: name for name in names if name != COUNTED or COUNTED in expected}
    tried: list[tuple[dict[str, str], list[str]]] = []
    for wrappers in ((), WRAPPERS, (*WRAPPERS, PARALLEL)):
        start = {name: _without(new, wrappers) for name, new in bare.items()}
        inner = [_without(name, wrappers or WRAPPERS) for name in expected]
        if (start, inner) in tried:
            continue
        tried.append((start, inner))
        back = dict(zip(inner, expected, strict=True)) if len(set(inner)) == len(inner) else {}
        for new in _stripped(start):
            if len(set(new.values())) < len(new):
                continue
            yield new
            if back and inner != expected:
                yield {name: back.get(one, one) for name, one in new.items()}
            for prefix in _shared(expected):
                yield {name: f"{prefix}.{one}" for name, one in new.items()}


def _without(name: str, wrappers: tuple[str, ...]) -> str:
    return ".".join(part for part in name.split(".") if part not in wrappers)


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
    own = [_without(name, WRAPPERS) for name in expected if _is_part(name)]

    def of_the_model(name: str) -> bool:
        """Whether the model itself has this weight in parts, so that it takes them as they are."""
        bare = f".{_without(name, WRAPPERS)}"
        return any(bare.endswith(f".{one}") or f".{one}".endswith(bare) for one in own)

    state, mask = dict(found.state), dict(found.mask)
    try:
        for name in list(found.state):
            for end, fold in FOLDS.items():
                if name in state and name.endswith(end) and not of_the_model(name):
                    fold(name.removesuffix(end), state, mask)
        left = [n for n in state if ".parametrizations." in f".{n}" and not of_the_model(n)]
        if left:
            raise UnreadableError(
                f"it holds {left[0]}, a part that its weight is computed from; before saving, call "
                "torch.nn.utils.parametrize.remove_parametrizations"
            )
    except UnreadableError as error:
        return replace(found, problem=str(error))
    return replace(found, state=state, mask=mask)


def _is_part(name: str) -> bool:
    """Whether a weight is computed from what goes by such a name."""
    return name.endswith(("_orig", "_g")) or ".parametrizations." in f".{name}"


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
        raise UnreadableError(
            f"{name}_mask is no mask of 0 and 1 for {name}_orig; save what torch.nn.utils.prune made"
        )
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
    others = [axis for axis in range(way.dim()) if size.numel() == 1 or axis != along[0]]
    norm = torch.linalg.vector_norm(way, dim=others, keepdim=True)
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


def as_taken(name: str, value: Tensor, wanted: Tensor, *, parameter: bool) -> Tensor:
    """A tensor as a model can take it: a sparse one made dense, in the model's type of number.

    wanted: the model's own, of the same shape. parameter: whether it is one, and no buffer. Raises
    UnreadableError for numbers of another kind, or that the model's type cannot hold.
    """
    if value.is_quantized:
        raise UnreadableError(f"{name} {QUANTISED}")
    if value.is_nested or value.is_meta:
        raise UnreadableError(f"{name} is a tensor without plain values; save it as a plain tensor")
    own, given = _kind(wanted), _kind(value)
    if value.is_complex() and not wanted.is_complex():
        raise UnreadableError(
            f"{name} is complex, and the model's is {own}; give the model whose weights these are"
        )
    real = wanted.is_floating_point() or wanted.is_complex()
    if parameter and real and not (value.is_floating_point() or value.is_complex()):
        raise UnreadableError(
            f"{name} holds {given} where the model has {own}: integers are quantised "
            "weights, of which nobody knows the scale; save the weights from before that"
        )
    dense = value if value.layout == torch.strided else value.to_dense()
    taken = dense.to(wanted.dtype)
    if not real and not _equal(taken, dense):
        raise UnreadableError(
            f"{name} holds {given} that are no whole numbers {own} can hold, as the model has there; "
            "give the model whose weights these are"
        )
    if parameter and not taken.isfinite().all():
        if dense.to(torch.float64 if not dense.is_complex() else dense.dtype).isfinite().all():
            raise UnreadableError(
                f"{name} holds numbers beyond those of {own}, the model's type; make the model {given}"
            )
        raise UnreadableError(
            f"{name} holds nan or inf, so the training had diverged: save an earlier checkpoint"
        )
    return taken


def _equal(taken: Tensor, given: Tensor) -> bool:
    """Whether integers are the same numbers as those that they were made of."""
    if (
        given.is_floating_point()
    ):  # of 64 bits, for the cast back must not hide what the first one lost
        return torch.equal(taken.double(), given.double())
    return torch.equal(taken.to(given.dtype), given)


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")
