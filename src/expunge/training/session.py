"""A measured run: what training, pruning and unlearning need around them, made and counted."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import nn
from torch.nn.parameter import is_lazy
from torch.utils._pytree import tree_leaves

from expunge.data.batch import Batch
from expunge.data.cuts import Cut
from expunge.data.load import Data
from expunge.data.parts import Part
from expunge.data.samples import resident
from expunge.data.split import Split
from expunge.data.tokens import TokenStore
from expunge.data.transform import Augmentation, Transform
from expunge.data.view import DataView
from expunge.errors import ConfigError, DataError, DivergenceError
from expunge.models.copying import copied
from expunge.models.hub import HubModel, lasting_hub
from expunge.models.layout import lay_out
from expunge.models.mask import Mask, apply_mask
from expunge.models.state import check_state
from expunge.models.table import build_model
from expunge.names.libraries import HUB, library_of, names_code
from expunge.place import Place
from expunge.training.cost import Account, Cost, Meter
from expunge.training.hub import hub_model
from expunge.training.kept import Kept
from expunge.training.precision import arithmetic, resolve_precision
from expunge.training.recipe import Recipe
from expunge.training.rehearsal import going_on
from expunge.training.run import Run, accelerator_on, cards
from expunge.training.trial import tried_out

Fresh = Callable[[], nn.Module]


@dataclass
class Session:
    """A run with the data that it may read. cost: what `measured` found, once it is over."""

    run: Run
    view: DataView
    cost: Cost = field(default_factory=Cost)

    def untrained(self) -> nn.Module:
        """A new model to train. Raises ModelError for one that could not be saved afterwards."""
        model = self.run.fresh()
        check_state(model)
        return model

    @contextmanager
    def measured(
        self, model: nn.Module, *, step: int | None = None, trains: bool = True
    ) -> Iterator[None]:
        """Measure what happens inside; before it, one step on a copy of the model warms up.

        step: samples a step of what follows; None: as the recipe says. trains: whether an optimiser
        of torch follows.
        """
        warmed = warm_up(model, self.view, self.run, step=step)
        if trains:
            load_optimizers()
        with Meter(self.run.device) as meter:
            self.run.account.meter = meter
            yield
        self.run.account.meter = None
        self.cost = _cost(meter, self.view, self.run, warmed)


def open_session(
    names: tuple[str | int, ...],
    label: str,
    data: Data,
    split: Split,
    reads: Part,
    *,
    recipe: Recipe | None,
    fresh: Fresh | None,
    mask: Mask | None,
    place: Place,
    cut: Cut = "filled",
    kept: Kept | None = None,
) -> Session:
    """A run under these seed names, and the data as it may read them, augmented as the recipe says.

    What ledgers of deletion requests have struck is never retained or validated on, whatever the split.

    reads: what may be read. fresh: makes an untrained model. mask: of a sparse model, held throughout.
    cut: how the order of the retain set is cut into batches. kept: by the method that trained the model.
    """
    split = split.withholding(data.struck.ids)
    account, rehearsal = Account(), going_on()
    if fresh is not None:
        fresh = tried_out(fresh, data, split)
    run = Run(
        names=names,
        label=label,
        task=data.task,
        recipe=recipe,
        constructor=fresh,
        mask=mask,
        progress=place.progress,
        accelerator=accelerator_on(place.device),
        account=account,
        rehearsal=rehearsal,
        kept=Kept(place.room) if kept is None else kept.copied(place.room),
        shown=place.tell,
    )
    if rehearsal is not None:
        rehearsal.device = run.device
    augmentation: Augmentation | Literal["auto"] = "none"
    if recipe is not None:
        augmentation = recipe.augmentation
    if augmentation == "auto":
        raise ConfigError("augmentation 'auto' must be resolved before a run starts")
    view = DataView(
        data=data,
        split=split,
        declared=reads,
        names=names,
        transform=Transform(data.normalisation, augmentation),
        device=run.device,
        rank=run.rank,
        world=run.world,
        reads=account.reads,
        cut=cut,
        rehearsal=None if rehearsal is None else rehearsal.a_pass,
    )
    return Session(run, view)


def constructor(model: str | Fresh, data: Data, split: Split, *, allow_code: bool) -> Fresh:
    """A function that makes an untrained model for these data.

    allow_code: whether a model that is `module:function` may be imported; False for a name from a file.
    """
    if not isinstance(model, str):
        _check_callable(model)
        return model
    name = model
    if library_of(name) == "hf":
        return hub_model(name, data)

    def build() -> nn.Module:
        if not names_code(name):
            _check_numbers(name, data)
        # only here, for a streamed store reads a sample to learn the shape
        return build_model(name, _shape(data, split), len(data.classes), allow_code=allow_code)

    return build


def _shape(data: Data, split: Split) -> tuple[int, ...]:
    """Shape of one input; read off a retain sample where the data are streamed."""
    return data.train.shape(data.train.position[split.retain[0]])


def _check_numbers(name: str, data: Data) -> None:
    """Raise DataError for integers that are no pictures, of which our own models can make nothing."""
    inputs = resident(data.train)
    if inputs is not None and not inputs.is_floating_point() and inputs.dtype != torch.uint8:
        kind = str(inputs.dtype).removeprefix("torch.")
        raise DataError(
            f"the inputs are {kind}, which {name} cannot take; save numbers as float32, or give a "
            "model of your own (module:function) for token ids"
        )


def _check_callable(function: Fresh) -> None:
    """Raise ConfigError for what cannot be called as it is."""
    if not callable(function):
        raise ConfigError(
            f"a model is made by a name or a function, not by a {type(function).__name__}; to take a "
            "trained module as it is, use `adopt`"
        )
    try:
        inspect.signature(function).bind()
    except ValueError:  # a builtin without a signature
        return
    except TypeError as error:
        raise ConfigError(
            f"the function that makes models is called without arguments, and {error}; wrap it: "
            "lambda: make(...)"
        ) from error


def architecture_of(model: str | Fresh | None) -> str | None:
    """How a folder names what makes a model; None for a function that nobody could import."""
    if model is None:
        return None
    if isinstance(model, str):
        return lasting_hub(model)
    if isinstance(model, HubModel):
        return f"{HUB}{model.base or model.config['model_type']}"
    module, name = getattr(model, "__module__", None), getattr(model, "__qualname__", "")
    if not module or module == "__main__" or not name.isidentifier():
        return None
    known = getattr(sys.modules.get(module), name, None)
    if known is not model or not (inspect.isfunction(model) or inspect.isclass(model)):
        return None
    # a folder's function is given these where it names them; here it was called without
    given = {"shape", "classes"} & set(inspect.signature(model).parameters)
    return None if given else f"{module}:{name}"


def resolve_recipe(recipe: Recipe, data: Data, split: Split) -> Recipe:
    """The recipe with augmentation "auto" decided for these data, as it is then recorded."""
    if recipe.augmentation != "auto":
        return recipe
    shape = _shape(data, split) if data.normalisation is not None else ()
    colour = len(shape) == 3 and shape[0] == 3 and min(shape[1:]) >= 16
    return recipe.but(augmentation="crop_flip" if colour else "none")


_warm: set[Hashable] = set()
"""What this process has warmed up for: kernels are prepared, and modules loaded, once."""


def warm_up(model: nn.Module, view: DataView, run: Run, *, step: int | None = None) -> bool:
    """One forward and backward pass on a copy with blank inputs, so that timing starts warm.

    step: samples a step of what follows, by default the recipe's; the batch has as many, or what there
    is of the parts that may be read, for kernels are prepared per shape, and so it costs no more than
    a step. Nothing is done where this process warmed up for the same before. Reads no data; skipped
    (False) for inputs whose shape is known only by reading one.
    """
    size = step or (run.recipe.batch_size if run.recipe is not None else 256)
    read = max((view.size(p) for p in (Part.RETAIN, Part.FORGET) if p & view.declared), default=0)
    batch = blank_batch(view, max(2, min(size, read) // run.world))
    if batch is None:
        return False
    asked = run.recipe.precision if run.recipe is not None else "auto"
    precision = resolve_precision(asked, model, run.device)
    known = _what_is_warmed(model, batch, precision, run)
    if known in _warm:
        return True
    twin = copied(model).train()
    with run.progress.work("warming up"), torch.random.fork_rng(devices=cards(run.device)):
        with arithmetic(precision, run.device):
            loss = run.loss(twin, batch)
        if loss.requires_grad:  # a model may come frozen, for retraining or by mistake
            loss.backward()  # type: ignore[no-untyped-call]
    _warm.add(known)
    return True


def _what_is_warmed(model: nn.Module, batch: Batch, precision: str, run: Run) -> Hashable:
    """All that decides which kernels a step takes: layers with their settings, shapes, loss,
    arithmetic, device, threads.
    """
    # a class goes by its own identity, for another of its name may work otherwise
    layers = repr(model), frozenset(type(module) for module in model.modules())
    weights = tuple(
        (None if is_lazy(p) else p.shape, p.dtype, p.requires_grad) for p in model.parameters()
    )
    inputs = tuple((leaf.shape, leaf.dtype) for leaf in tree_leaves(batch.inputs))
    loss = f"{type(run.task).__module__}.{type(run.task).__qualname__}"
    return layers, weights, inputs, loss, precision, str(run.device), torch.get_num_threads()


def load_optimizers() -> None:
    """The first optimiser of a process loads more of torch, which takes seconds: make one."""
    torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.0).zero_grad()


def blank_batch(view: DataView, size: int, *, noise: bool = False) -> Batch | None:
    """Blank inputs of the data's shape, which reads none of them; or noise, always the same.

    Whole numbers that are no pictures stay blank, for each may mean something. None for inputs whose
    shape is known only by reading one.
    """
    labels = torch.zeros(size, dtype=torch.int64, device=view.device)
    store = view.samples.store
    if isinstance(store, TokenStore):
        return Batch(view.samples.ids[:0], store.blank(size, view.device), labels, None)
    tensor = resident(view.samples)
    if tensor is None:
        return None
    blank = torch.zeros((size, *tensor.shape[1:]), dtype=tensor.dtype)
    generator = torch.Generator().manual_seed(0)
    if noise and blank.is_floating_point():
        blank = torch.randn(blank.shape, generator=generator).to(blank.dtype)
    elif noise and blank.dtype == torch.uint8:
        blank = torch.randint(0, 256, blank.shape, generator=generator, dtype=torch.uint8)
    blank = blank.to(view.device)
    return Batch(view.samples.ids[:0], view.transform(blank), labels, None)


def _cost(meter: Meter, view: DataView, run: Run, warmed: bool) -> Cost:
    """What a run has cost, reads summed over processes."""
    both = [[counts[part] for part in Part] for counts in (view.reads, run.account.reported)]
    read, reported = run.sum(torch.tensor(both, device=run.device)).tolist()
    totals = dict(zip(Part, read, strict=True))
    names = [part.names()[0] for part in Part]
    return Cost(
        seconds=meter.seconds,
        reads=dict(zip(names, read, strict=True)),
        epoch_equivalents=sum(
            count for part, count in totals.items() if part is not Part.FORGET_LABELS
        )
        / max(1, view.size(Part.RETAIN)),
        peak_memory_bytes=meter.peak_memory_bytes,
        memory=meter.memory,
        device=str(run.device),
        processes=run.world,
        threads=torch.get_num_threads(),
        warmed_up=warmed,
        reported_seconds=meter.paused_seconds,
        reported_reads={name: count for name, count in zip(names, reported, strict=True) if count},
    )


WEIGHTS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
"""Types of which torch can say whether they are finite."""
STATISTICS = ("running_mean", "running_var")


def finished(model: nn.Module, device: torch.device, mask: Mask | None) -> nn.Module:
    """The model as it is handed out: on its old device, in evaluation mode, mask held once more.

    Raises DivergenceError for weights that are not finite: such a model is good for nothing.
    """
    # of buffers the statistics alone: others may well hold inf, such as a mask of attention
    buffers = (one for one in model.named_buffers() if one[0].endswith(STATISTICS))
    broken = [
        name
        for name, one in (*model.named_parameters(), *buffers)
        if one.dtype in WEIGHTS and one.layout == torch.strided and not is_lazy(one)
        if not bool(one.isfinite().all())
    ]
    if broken:
        raise DivergenceError(
            f"the weights hold nan or inf at the end (first in {broken[0]!r}); lower what drives them"
        )
    model = model.to(device).eval()
    lay_out(model, torch.contiguous_format)
    apply_mask(model, mask)
    return model
