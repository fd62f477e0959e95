"""Masks of a ResNet-18 at 95 % by torch's own pruning: one cut by magnitude, and SynFlow's hundred."""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.nn.utils import prune

from expunge import Data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.data.view import DataView
from expunge.models.table import build_model
from expunge.pruning.omp import OneShot
from expunge.pruning.synflow import SynFlow
from expunge.training.run import Run
from reference.case import Case, Work

SPARSITY = 0.95
STEPS = 100
Weights = list[tuple[nn.Module, str]]


def convolutions(network: nn.Module) -> Weights:
    """The weights that are cut."""
    return [(one, "weight") for one in network.modules() if isinstance(one, nn.Conv2d)]


def masks(network: nn.Module) -> dict[str, torch.Tensor]:
    """The masks that torch keeps among a network's buffers."""
    return {
        name: one.clone() for name, one in network.state_dict().items() if name.endswith("_mask")
    }


def by_magnitude(network: nn.Module) -> dict[str, torch.Tensor]:
    """One global cut."""
    prune.global_unstructured(
        convolutions(network), pruning_method=prune.L1Unstructured, amount=SPARSITY
    )
    return masks(network)


def by_flow(network: nn.Module) -> dict[str, torch.Tensor]:
    """SynFlow: before each cut the absolute values of all weights carry an input of ones."""
    network.eval()
    for _ in range(STEPS):
        with torch.no_grad():
            signs = {name: one.sign() for name, one in network.state_dict().items()}
            for one in network.state_dict().values():
                one.abs_()
        network.zero_grad()
        network(torch.ones(1, 3, 32, 32)).sum().backward()
        weights = convolutions(network)
        leaves = [getattr(one, "weight_orig", one.weight) for one, _ in weights]
        scores = {
            key: (leaf.grad * key[0].weight.detach()).abs()
            for key, leaf in zip(weights, leaves, strict=True)
        }
        with torch.no_grad():
            for name, one in network.state_dict().items():
                one.mul_(signs[name])
        prune.global_unstructured(
            weights,
            pruning_method=prune.L1Unstructured,
            amount=1 - (1 - SPARSITY) ** (1 / STEPS),
            importance_scores=scores,
        )
    return masks(network)


def network_and_view(data: Data) -> tuple[nn.Module, DataView]:
    """An untrained network, and the data that no pruner here reads."""
    torch.manual_seed(0)
    network = build_model("resnet18", (3, 32, 32), 10, allow_code=True)
    split = Split.whole(data)
    return network, DataView(data, split, Part(0))


def omp(data: Data) -> tuple[Work, Work]:
    """One cut of trained weights, without the training."""
    network, view = network_and_view(data)
    return (
        lambda: by_magnitude(copy.deepcopy(network)),
        lambda: OneShot().mask(
            copy.deepcopy(network), view, Run(("benchmark", 0)), sparsity=SPARSITY
        ),
    )


def synflow(data: Data) -> tuple[Work, Work]:
    """A hundred cuts; ours are taken in float64, the reference's in float32."""
    network, view = network_and_view(data)
    return (
        lambda: by_flow(copy.deepcopy(network)),
        lambda: SynFlow(steps=STEPS).mask(
            copy.deepcopy(network), view, Run(("benchmark", 0)), sparsity=SPARSITY
        ),
    )


CASES = (Case("OMP mask, resnet18", 4.0, omp), Case("SynFlow mask, resnet18", 2.0, synflow))
