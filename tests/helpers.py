"""Small data, models and runs that the tests share."""

from __future__ import annotations

import copy
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from expunge.api import adopt, audit, train, unlearn
from expunge.audits import Audit
from expunge.audits.accuracy import Accuracy
from expunge.audits.backdoor import Backdoor
from expunge.audits.mia import Membership
from expunge.audits.near_empty import check_same_samples
from expunge.audits.outputs import Outputs
from expunge.audits.scores import PARTS, Scores, read_against
from expunge.audits.strength import Strength
from expunge.data.batch import Batch
from expunge.data.load import Data, load_data
from expunge.data.parts import Part
from expunge.data.samples import ResidentStore, Samples, digest_arrays, row_ids
from expunge.data.split import Split
from expunge.data.task import Task
from expunge.data.transform import Transform
from expunge.data.view import DataView
from expunge.methods import Method
from expunge.models.mask import Mask
from expunge.models.table import build_model
from expunge.place import Place
from expunge.scores.margins import STATED
from expunge.scores.score import Score
from expunge.study import source
from expunge.study.cells import key_of
from expunge.trained.trained import Trained
from expunge.training.recipe import Recipe
from expunge.training.run import Run, accelerator_on
from expunge.training.session import resolve_recipe

CPU = Place(device="cpu")
EVERYTHING = Part.RETAIN | Part.FORGET | Part.FORGET_LABELS | Part.VALIDATION


@functools.cache
def digits(count: int = 300) -> Data:
    return load_data(f"digits:{count}")


@functools.cache
def _original(architecture: str, count: int) -> nn.Module:
    data = digits(count)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = build_model(architecture, data.train.shape(), len(data.classes), allow_code=True)
        # a few plain steps, so that weights and running statistics are those of no fresh model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
        split = Split.whole(data)
        view = view_of(data, split)
        for batch in view.batches(Part.RETAIN, 64):
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(batch.inputs), batch.labels).backward()
            optimizer.step()
    return model.eval().requires_grad_(True).to(memory_format=torch.contiguous_format)


def original(architecture: str, count: int = 300) -> nn.Module:
    """A model trained a little on digits; the caller may change it."""
    model = copy.deepcopy(_original(architecture, count))
    model.zero_grad(set_to_none=True)
    return model


@functools.cache
def forgotten_eight() -> tuple[Trained, tuple[Trained, ...]]:
    """A model that learned digits well, and six that were retrained without the eights."""
    first = train(digits(800), "mlp", recipe=Recipe(epochs=12, lr=0.1, batch_size=64), place=CPU)
    seeds = range(6)
    return first, tuple(unlearn(first, "class:8", "retrain", seed=n, place=CPU) for n in seeds)


def run_on_cpu(**fields: Any) -> Run:
    return Run(**{"accelerator": accelerator_on("cpu"), **fields})


def view_of(
    data: Data,
    split: Split,
    declared: Part = EVERYTHING,
    names: tuple[str | int, ...] = ("view",),
    **fields: Any,
) -> DataView:
    return DataView(
        data=data,
        split=split,
        declared=declared,
        names=names,
        transform=fields.pop("transform", Transform(data.normalisation)),
        **fields,
    )


def toy(
    labels: Sequence[int],
    *,
    inputs: Tensor | None = None,
    ids: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    columns: dict[str, Any] | None = None,
    test: int = 4,
) -> Data:
    """Data of the given labels; input i is the vector (i, -i) unless inputs are given."""
    array = np.asarray(labels, dtype=np.int64)
    numbers = torch.arange(len(array), dtype=torch.float32)
    if inputs is None:
        inputs = torch.stack([numbers, -numbers], dim=1)
    names = row_ids(len(array)) if ids is None else np.array(ids, dtype=np.str_)
    train = Samples(
        names,
        array,
        ResidentStore(inputs),
        digest_arrays(names, array),
        ids is None,
        columns=columns or {},
    )
    tested = Samples(
        np.array([f"t{i}" for i in range(test)]),
        np.zeros(test, np.int64),
        ResidentStore(inputs[:1].repeat(test, *[1] * (inputs.ndim - 1))),
        "test",
        True,
    )
    known = classes or [str(c) for c in range(int(array.max(initial=0)) + 1)]
    return Data(train, tested, tuple(known), normalise=False)


def same_state(one: nn.Module, other: nn.Module) -> bool:
    """Bit-identical weights and buffers under the same names."""
    first, second = one.state_dict(), other.state_dict()
    return list(first) == list(second) and all(
        first[key].dtype == second[key].dtype and torch.equal(first[key], second[key])
        for key in first
    )


def changed(before: nn.Module, after: nn.Module) -> set[str]:
    """Names of weights and buffers that differ in a bit."""
    first, second = before.state_dict(), after.state_dict()
    return {key for key in first if not torch.equal(first[key], second[key])}


def random_mask(model: nn.Module, kept: float = 0.1, seed: int = 0) -> dict[str, Tensor]:
    """A mask on the weights of convolutions, or of linear layers where there are none."""
    kinds = nn.Conv2d if any(isinstance(m, nn.Conv2d) for m in model.modules()) else nn.Linear
    generator = torch.Generator().manual_seed(seed)
    return {
        f"{name}.weight": torch.rand(module.weight.shape, generator=generator) < kept
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    }


def resolved(recipe: Recipe, data: Data) -> Recipe:
    return resolve_recipe(recipe, data, Split.whole(data, validation=0))


def seen(batches: Any) -> list[str]:
    """Ids of all batches, in order."""
    return [str(name) for batch in batches for name in batch.ids]


def batch_of(inputs: Tensor, labels: Sequence[int] | Tensor, weight: float = 1.0) -> Batch:
    return Batch(row_ids(len(inputs)), inputs, torch.as_tensor(labels), None, weight)


class Named:
    """A dataset as people write them: items are (input, label), ids are strings, nothing wrapped.

    forbidden: ids whose inputs must not be read. read: ids that were, in order.
    """

    def __init__(
        self,
        inputs: Tensor,
        labels: Sequence[int],
        ids: Sequence[str],
        forbidden: Sequence[str] = (),
        classes: Sequence[str] | None = None,
    ) -> None:
        self.inputs = inputs
        self.targets = [int(label) for label in labels]
        self.ids = list(ids)
        self.forbidden = set(forbidden)
        self.classes = list(classes) if classes else None
        self.read: list[str] = []

    def __len__(self) -> int:
        return len(self.targets)

    def __getitem__(self, row: int) -> tuple[Tensor, int]:
        name = self.ids[row]
        if name in self.forbidden:
            raise RuntimeError(f"{name} was read")
        self.read.append(name)
        return self.inputs[row], self.targets[row]


def named_digits(count: int = 120, forbidden: Sequence[str] = ()) -> tuple[Named, Data]:
    """Digits as a streamed dataset of float images with string ids, and its `Data`."""
    data = digits(300)
    inputs = data.train.store.tensor[:count].float() / 255  # type: ignore[attr-defined]
    labels = data.train.labels[:count].tolist()
    ids = [f"scan-{row:03d}.png" for row in range(count)]
    names = [str(c) for c in range(10)]
    train = Named(inputs, labels, ids, forbidden, names)
    test = Named(
        data.test.store.tensor[:60].float() / 255,  # type: ignore[attr-defined]
        data.test.labels[:60].tolist(),
        [f"test-{row}" for row in range(60)],
    )
    return train, load_data((train, test))


def unlearned(
    model: nn.Module,
    data: Data,
    split: Split,
    method: str | Method,
    *,
    recipe: Recipe | None = None,
    fresh: Any = None,
    mask: Mask | None = None,
    task: Task | None = None,
    device: str | None = "cpu",
    **options: Any,
) -> Trained:
    """`unlearn` for a bare module, which learned from all that the split names."""
    data = data if task is None else load_data(data, task=task)
    original = adopt(model, data, recipe=recipe, fresh=fresh, split=split.whole_again(), mask=mask)
    return unlearn(original, split, method, place=Place(device=device), **options)


def scores_of(
    model: nn.Module,
    data: Data,
    split: Split,
    *,
    original: nn.Module | None = None,
    retrained: nn.Module | None = None,
    mask: Mask | None = None,
    features: str | Sequence[str] = ("confidence",),
    also: Sequence[str | Audit] = (),
    seed: int = 0,
    device: str | None = "cpu",
) -> Scores:
    """`audit` for bare modules."""

    def adopted(one: nn.Module | None, learned: Split) -> Trained | None:
        return None if one is None else adopt(one, data, split=learned, mask=mask)

    subject = adopted(model, split)
    assert subject is not None
    attack = Membership(features=features)
    return audit(
        subject,
        original=adopted(original, split.whole_again()),
        retrained=adopted(retrained, split),
        also=[attack, *also],
        strength=Strength(seed=seed),
        place=Place(device=device),
    )


def panel_of(
    outputs: Outputs,
    *,
    original: Outputs | None = None,
    retrained: Outputs | None = None,
    seed: int = 0,
) -> Any:
    """A panel for outputs that no model gave; it stands for its models by their outputs."""

    def panel(seen: Outputs | None) -> Any:
        return seen and SimpleNamespace(outputs=seen, seed=seed)

    one = panel(outputs)
    one.original, one.retrained, one.others = original, retrained, ()
    one.margins = STATED
    one.beside = panel
    one.once = lambda audit, what, make: make()
    return one


def score_outputs(
    outputs: Outputs,
    reference: Outputs | None = None,
    *,
    seed: int = 0,
    features: str | Sequence[str] = ("confidence",),
) -> list[Score]:
    """What the audits of outputs alone say, for outputs that no model gave."""

    for part in PARTS if reference is not None else ():
        check_same_samples(part, getattr(outputs, part), getattr(reference, part))
    one = panel_of(outputs, retrained=reference, seed=seed)
    audits = (Accuracy(), Membership(features=features), Backdoor())
    return [score for audit in audits for score in read_against(audit, one)]


# --- what is drawn by a seed: small models with statistics of their own, and vectors to learn


M = TypeVar("M", bound=nn.Module)


def seeded(build: Callable[[], M], seed: int = 0) -> M:
    """A model as torch draws it after `seed`; torch's own stream stays where it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return build()


def with_statistics(build: Callable[[], M], draw: Callable[[], Tensor]) -> M:
    """A model whose BatchNorm has seen three batches, and is that of no fresh model."""
    model = build()
    for _ in range(3):
        model(draw())
    return model


def vectors() -> Data:
    """40 vectors of 5 numbers; label i % 3."""
    generator = torch.Generator().manual_seed(4)
    return toy([i % 3 for i in range(40)], inputs=torch.randn(40, 5, generator=generator))


def other_vectors() -> Tensor:
    """20 more, shifted and wider, of torch's own stream."""
    return 2 * torch.randn(20, 5) + 1


def view_of_vectors(
    forgotten: Iterable[int], declared: Part, names: tuple[str | int, ...]
) -> DataView:
    """`vectors`, of which some rows are forgotten and all others retained."""
    data = vectors()
    split = Split.indices(data, forgotten, base=Split.whole(data, validation=0))
    return view_of(data, split, declared, names=names)


@pytest.fixture(autouse=True)
def global_randomness_stays() -> Iterator[None]:
    """torch's own stream is where it was: for modules that import this, around every test."""
    before = torch.get_rng_state()
    yield
    assert torch.equal(torch.get_rng_state(), before)


# --- what several tests of studies need


def changed_source(method: str) -> Callable[[str], str]:
    """In place of `source_digest`: as if a method's file had changed since its cells were made."""
    real = source.source_digest
    return lambda module: "v2:new" if module == f"expunge.methods.{method}" else real(module)


@pytest.fixture(autouse=True, scope="module")
def same_figure_once() -> Iterator[None]:
    """A study's figure is drawn once for what it shows: for modules that import this."""
    figures = importlib.import_module("expunge.report.figures")
    draw: Callable[..., tuple[Path, Path]] = figures.gap_figure
    drawn: dict[str, list[bytes]] = {}

    def figure(frame: pd.DataFrame, stem: Path) -> tuple[Path, Path]:
        shown, paths = frame.to_csv(), (Path(f"{stem}.png"), Path(f"{stem}.svg"))
        if shown not in drawn:
            assert draw(frame, stem) == paths
            drawn[shown] = [path.read_bytes() for path in paths]
        for path, content in zip(paths, drawn[shown], strict=True):
            path.write_bytes(content)
        return paths

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(figures, "gap_figure", figure)
        yield


# --- what the tests in tests/device share: runs on a device, and how near two of them must be


SAME_FLOAT32 = 3e-4
"""Largest difference of outputs in exact float32 on two devices, relative to the largest output."""
SAME_FLOAT64 = 1e-9
"""The same in float64, of two ways to one result."""


def run_on(device: str, **fields: Any) -> Run:
    return Run(**{"accelerator": accelerator_on(device), **fields})


def apart(one: Mapping[str, Tensor], other: Mapping[str, Tensor]) -> float:
    """Largest difference of named tensors, relative to the largest number of the second."""
    assert set(one) == set(other)
    largest = max(float(value.abs().max()) for value in other.values())
    assert largest > 0
    return max(float((one[k].cpu() - v.cpu()).abs().max()) for k, v in other.items()) / largest


def finite(model: nn.Module) -> bool:
    return all(bool(torch.isfinite(value).all()) for value in model.state_dict().values())


def devices_of(model: nn.Module) -> set[str]:
    return {value.device.type for value in model.state_dict().values()}


def streams(device: str) -> list[Tensor]:
    """torch's own random streams: the processor's, and the device's."""
    return [
        torch.get_rng_state(),
        *([torch.cuda.get_rng_state(device)] if device.startswith("cuda") else []),
    ]


@contextmanager
def streams_stay(device: str) -> Iterator[None]:
    """What is drawn inside comes from seeds of its own."""
    before = streams(device)
    yield
    assert all(torch.equal(a, b) for a, b in zip(before, streams(device), strict=True))


def inputs_of(data: Any, count: int, device: str) -> tuple[Tensor, Tensor]:
    """The first samples as model inputs (count, ...) and their labels, on the device."""
    raw = data.train.store.tensor[:count]
    labels = torch.from_numpy(data.train.labels[:count])
    return Transform(data.normalisation)(raw).to(device), labels.to(device)


def cell_of_study(name: str, **fields: Any) -> tuple[str, dict[str, Any]]:
    """The key of a finished cell, by any name, and what it says: as little as a cell may."""
    kind, config = "unlearn", {"name": name}
    content = {
        "kind": kind,
        "config": config,
        "needs": [],
        "seed": 0,
        "scores": [],
        "cost": {"seconds": 1.0, "device": "cpu"},
        "warnings": [],
        "log": {},
        "date": "2026-01-01T00:00:00+00:00",
        "version": "1",
        "torch": "2",
    }
    return key_of(kind, config, ()), content | fields
