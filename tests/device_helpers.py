"""What the tests in tests/device share: runs on a device, and how near two of them must be."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from expunge.data.transform import Transform
from expunge.training.run import Run, accelerator_on

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
