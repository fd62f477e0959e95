"""Two samples through a model, before anything costly is done with it: what is wrong shows here."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from expunge.data.batch import Batch, first_tensor
from expunge.data.load import Data
from expunge.data.samples import resident
from expunge.data.split import Split
from expunge.data.task import Classification
from expunge.data.transform import Transform
from expunge.errors import ConfigError, DataError, ModelError, UserError
from expunge.models.layout import keep_ordinary, lay_out, take_any
from expunge.models.state import own_memory
from expunge.training.loop import evaluating
from expunge.training.run import cards


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
    """Show a model two samples, in evaluation mode and without gradients.

    It settles in place what later work relies on: lazy layers get their sizes, and a model that fails
    with channels innermost, as one does that reads activations by `view`, keeps to the ordinary layout
    (see `models.layout`).

    Raises ModelError for a scripted model, or one that fails in either layout, DataError for outputs
    that are no logits, or fewer than the labels need. What a task of one's own raises is left to it.
    """
    _check_kind(model)
    own_memory(model)
    device = next((one.device for one in model.parameters()), torch.device("cpu"))
    batch = _two_samples(data, split, device)
    if batch is None:
        return
    with torch.random.fork_rng(devices=cards(device)), evaluating(model), torch.no_grad():
        observed = _observed(model, data, batch)
    if observed is not None and isinstance(data.task, Classification):
        _check_outputs(observed["logits"], data)


def _check_kind(model: nn.Module) -> None:
    """Raise ModelError for a scripted or traced model."""
    if any(isinstance(module, torch.jit.ScriptModule) for module in model.modules()):
        raise ModelError(
            "the model is scripted or traced (torch.jit): it can be run, and neither copied nor trained "
            "as layers; give the nn.Module that it was made of, with load_state_dict(it.state_dict())"
        )


def _observed(model: nn.Module, data: Data, batch: Batch) -> dict[str, Tensor] | None:
    """What the task sees, in the layout that the model then keeps; None where a task of one's own
    cannot do with this batch.
    """
    try:
        lay_out(model, torch.channels_last)
        return data.task.observe(model, batch)
    except UserError:
        raise
    except Exception:  # whatever a forward pass of somebody's own raises
        keep_ordinary(model)
    finally:
        lay_out(model, torch.contiguous_format)
    try:
        return data.task.observe(model, batch)
    except UserError:
        raise
    except Exception as error:
        take_any(model)  # it was not the layout
        if not isinstance(data.task, Classification):
            return None
        raise ModelError(
            f"the model fails on the first two samples: {_last_word(error)}; {_remedy(model, batch)}"
        ) from error


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


def _last_word(error: Exception) -> str:
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
