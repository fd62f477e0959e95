"""Two samples through copies of a model, before anything costly: what is wrong with it shows there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves, tree_map

from expunge.data.batch import Batch, first_tensor
from expunge.data.load import Data
from expunge.data.samples import resident
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.transform import Transform
from expunge.errors import ConfigError, DataError, ModelError, UserError
from expunge.models.blocks import ConvNet, ResNet
from expunge.models.copying import copied
from expunge.models.layout import keep_ordinary, lay_out, stays_ordinary
from expunge.models.mlp import MLP
from expunge.models.state import own_memory
from expunge.training.loop import evaluating
from expunge.training.run import cards

T = TypeVar("T")
OURS = (ConvNet, MLP, ResNet)
"""Models of this package: of these it is known that they learn, and say the same in either layout."""
ROUNDING = 1e-3
"""By how much of the largest output two layouts may differ, for they add in another order."""


def tried_out(fresh: Callable[[], nn.Module], data: Data, split: Split) -> Callable[[], nn.Module]:
    """A function that makes untrained models, each of which is tried out."""

    def build() -> nn.Module:
        model = fresh()
        if not isinstance(model, nn.Module):
            raise ModelError(
                f"the function that makes models returned a {type(model).__name__}; it must return a "
                "torch.nn.Module"
            )
        try_out(model, data, split)
        return model

    return build


def check_like(module: nn.Module, build: Callable[[], nn.Module]) -> None:
    """Raise ConfigError for a function that makes models of another kind."""
    with torch.random.fork_rng(devices=[]):
        made = build().state_dict()
    own = module.state_dict()
    odd = sorted(set(made) ^ set(own)) or [n for n in own if _shape(made[n]) != _shape(own[n])]
    # nobody knows yet what a lazy layer will be
    odd = [
        n for n in odd if n not in made or not (isinstance(made[n], Tensor) and is_lazy(made[n]))
    ]
    if odd:
        raise ConfigError(
            f"fresh makes another kind of model than the one that is adopted: they differ in {odd[0]!r}"
        )


def _shape(value: object) -> tuple[int, ...] | None:
    """Of an entry of a state dict that has one."""
    return tuple(value.shape) if isinstance(value, Tensor) and not is_lazy(value) else None


def try_out(model: nn.Module, data: Data, split: Split) -> None:
    """Show copies of a model two samples: in evaluation mode, and one of them alone; in training mode,
    with their gradients. One of this package's own is only looked at in evaluation mode.

    Of the model itself only what later work relies on is settled: lazy layers get their sizes, and one
    that fails with channels innermost, as one does that reads activations by `view`, or that says
    something else there, keeps to the ordinary layout (see `models.layout`).

    Raises ModelError for a scripted model, one that cannot be copied, fails in either layout, makes
    weights while it runs, or has sparse gradients; DataError for outputs that are no logits, or fewer
    than the labels need. What a task of one's own raises is left to it.
    """
    _check_kind(model)
    own_memory(model)
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    batch = _two_samples(data, split, device)
    if batch is None:
        return
    trial = _Trial(model, data, batch, device)
    own_task = not isinstance(data.task, Classification)
    try:
        trial.either(trial.settle_sizes)
        seen = trial.either(trial.look)
        if not own_task:
            _check_outputs(seen["logits"], data)
        if type(model) not in OURS:
            trial.either(trial.train)
            trial.compare(seen)
            if not own_task:
                trial.look_at_one()
    except _FailedError as failed:
        if not own_task:
            raise ModelError(
                f"the model fails {failed}: {_last_word(failed.cause)}; {_remedy(model, batch)}"
            ) from failed.cause
    lay_out(model, torch.contiguous_format)
    if trial.form == torch.contiguous_format and not stays_ordinary(model):
        keep_ordinary(model)


class _FailedError(Exception):
    """Somebody's own forward or backward pass failed. cause: with what."""

    def __init__(self, where: str, cause: Exception) -> None:
        super().__init__(where)
        self.cause = cause


@dataclass
class _Trial:
    """What is tried, each time with a new copy. form: the layout that has worked so far."""

    model: nn.Module
    data: Data
    batch: Batch
    device: torch.device
    form: torch.memory_format = torch.channels_last

    def either(self, step: Callable[[], T]) -> T:
        """What a step gives, in the ordinary layout if it fails in the fast one."""
        try:
            return step()
        except _FailedError:
            if self.form == torch.contiguous_format:
                raise
        self.form = torch.contiguous_format
        try:
            return step()
        except _FailedError:
            self.form = torch.channels_last  # it was not the layout
            raise

    def settle_sizes(self) -> None:
        """Give lazy layers their sizes: those of a copy's inputs, in the order of its forward pass."""
        lazy = {name: one for name, one in self.model.named_modules() if _is_lazy_layer(one)}
        given: list[tuple[str, Any, Any]] = []
        if not lazy:
            return
        with self._apart() as twin:
            for name, module in twin.named_modules():
                if name in lazy:
                    module.register_forward_pre_hook(
                        lambda _, args, kwargs, name=name: given.append((name, args, kwargs)),
                        prepend=True,
                        with_kwargs=True,
                    )
            self._observed(twin, self.batch)
        with torch.random.fork_rng(devices=cards(self.device)):  # drawn as the copy has drawn them
            for name, args, kwargs in given:
                if (layer := lazy.pop(name, None)) is not None:
                    layer._infer_parameters(layer, args, kwargs)

    def look(self) -> dict[str, Tensor]:
        """What the task sees of the samples in evaluation mode."""
        with self._apart() as twin:
            seen = self._observed(twin, self.batch)
        _check_same_state(self.model, twin)
        return seen

    def train(self) -> None:
        """One forward and backward pass in training mode."""
        with self._apart("in training ") as twin:
            twin.train()
            loss = self.data.task.losses(twin, self.batch).mean()
            if loss.requires_grad:  # a model may come frozen
                loss.backward()  # type: ignore[no-untyped-call]
        _check_same_state(self.model, twin)
        sparse = [n for n, p in twin.named_parameters() if p.grad is not None and p.grad.is_sparse]
        if sparse:
            raise ModelError(
                f"the gradient of {sparse[0]!r} is sparse, which no method here can work with; make the "
                "layer with sparse=False"
            )

    def compare(self, seen: Mapping[str, Tensor]) -> None:
        """Keep to the ordinary layout where a model says something else in it."""
        leaves = (*self.model.parameters(), *tree_leaves(self.batch.inputs))
        laid = any(isinstance(one, Tensor) and not is_lazy(one) and one.ndim == 4 for one in leaves)
        if not laid or self.form == torch.contiguous_format or stays_ordinary(self.model):
            return
        ordinary = replace(self, form=torch.contiguous_format).look()
        if not all(_alike(one, ordinary[name]) for name, one in seen.items() if name in ordinary):
            self.form = torch.contiguous_format

    def look_at_one(self) -> None:
        """Raise ModelError for a model that fails on one sample alone, as the last batch may be."""
        one = tree_map(
            lambda leaf: leaf[:1] if isinstance(leaf, Tensor) else leaf, self.batch.inputs
        )
        labels = None if self.batch.labels is None else self.batch.labels[:1]
        try:
            with self._apart() as twin:
                self._observed(twin, Batch(self.batch.ids[:1], one, labels, None))
        except (
            _FailedError
        ):  # normalisation by the batch needs two, and no batch of one is made for it
            return
        except DataError as error:
            raise ModelError(
                f"the model fails on one sample alone, as the last batch may be: {_last_word(error)}; "
                "keep the axis of samples, as flatten(1) does and squeeze() does not"
            ) from error

    def _observed(self, twin: nn.Module, batch: Batch) -> dict[str, Tensor]:
        with evaluating(twin), torch.no_grad():
            return self.data.task.observe(twin, batch)

    @contextmanager
    def _apart(self, where: str = "") -> Iterator[nn.Module]:
        """A copy in the layout, for whatever it keeps of a pass; random draws do not count."""
        twin = copied(self.model)
        if self.form == torch.contiguous_format and not stays_ordinary(twin):
            keep_ordinary(twin)
        lay_out(twin, self.form)
        with torch.random.fork_rng(devices=cards(self.device)):
            try:
                yield twin
            except UserError:
                raise
            except Exception as error:  # whatever a pass of somebody's own raises
                raise _FailedError(f"{where}on the first two samples", error) from error


def _is_lazy_layer(module: nn.Module) -> bool:
    return isinstance(module, LazyModuleMixin) and module.has_uninitialized_params()


def _check_same_state(model: nn.Module, ran: nn.Module) -> None:
    """Raise ModelError where a model has other weights once it ran."""
    odd = sorted(model.state_dict().keys() ^ ran.state_dict().keys())
    if odd:
        raise ModelError(
            f"the model makes or drops {odd[0]!r} while it runs, and so it cannot be trained from the "
            "start, or read from its folder; make it in __init__, with a lazy layer where its size is "
            "not known"
        )


def _alike(one: Tensor, other: Tensor) -> bool:
    """Whether outputs differ by rounding alone."""
    one, other = one.detach(), other.detach()
    if one.shape != other.shape or not one.is_floating_point():
        return torch.equal(one, other)
    most = other.nan_to_num().abs().max() if other.numel() else 0.0
    return torch.allclose(one, other, rtol=0.0, atol=ROUNDING * float(most), equal_nan=True)


def _check_kind(model: nn.Module) -> None:
    """Raise ModelError for a scripted or traced model."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError(
            "the model is scripted or traced (torch.jit): it can be run, and neither copied nor trained "
            "as layers; give the nn.Module that it was made of, with load_state_dict(it.state_dict())"
        )


def _two_samples(data: Data, split: Split, device: torch.device) -> Batch | None:
    """Two retain samples, as a model in evaluation sees them; of streamed data two of the test set, for
    there every look at a training sample counts. None where there are none, or none can be read.
    """
    samples, rows = data.test, np.arange(len(data.test))[:2]
    if resident(data.train) is not None:
        samples = data.train
        known = (samples.position[one] for one in split.retain if one in samples.position)
        rows = np.array([*itertools.islice(known, 2)], dtype=np.int64)
    if not len(rows):
        return None
    rows = np.resize(rows, 2)  # of a single sample twice the same
    try:
        inputs = Transform(data.normalisation)(samples.store.fetch(rows, device))
    except UserError:
        raise
    except Exception:  # whatever a dataset of somebody's own raises
        return None
    labels = torch.from_numpy(samples.labels[rows]).to(device)
    return Batch(samples.ids[rows], inputs, labels, None)


def _check_outputs(logits: Tensor, data: Data) -> None:
    """Raise DataError for fewer outputs than the labels need."""
    outputs = logits.shape[1]
    label = max(int(part.labels.max(initial=0)) for part in (data.train, data.test))
    if label >= outputs:
        raise DataError(
            f"the data have label {label} (class {data.classes[label]!r}), and the model has "
            f"{outputs} {'output' if outputs == 1 else 'outputs'}, for labels 0 to {outputs - 1}; give "
            f"a model with {len(data.classes)} outputs, one for each class, or mend the labels"
        )


def _last_word(error: BaseException) -> str:
    """The kind of an error and its telling line: the first, or the last of a scripted model's trace."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()] or [""]
    return f"{type(error).__name__}: {lines[-1 if 'TorchScript' in str(error) else 0]}"


def _remedy(model: nn.Module, batch: Batch) -> str:
    """What to do, by what the model is given."""
    given = first_tensor(batch.inputs)
    kind = str(given.dtype).removeprefix("torch.")
    if not given.is_floating_point():
        return (
            f"the inputs are {kind}: save numbers as float32 (and pictures as uint8), or make them "
            "float in the model's forward"
        )
    weights = next(
        (one.dtype for one in model.parameters() if one.is_floating_point()), given.dtype
    )
    if weights != given.dtype:
        own = str(weights).removeprefix("torch.")
        return f"its weights are {own} and the inputs {kind}: make it float32, by model.float()"
    return f"it was given {kind} of shape {tuple(given.shape)}: give a model and data that fit"
