"""Influence: mean gradients over all of both sets, then one sample's gradient at a time.

The structure of the WoodFisher recursion that public programs use: two vectors as long as the
weights are updated after each sample's gradient. What it computes is not (F + damping)^-1 v, which
ours solves exactly; the work is what is compared.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import expunge
from expunge import Data, Part
from expunge.methods.influence import Influence
from reference.case import BATCH, Case, Images, Work, problem

SAMPLES = 1000


def gradient(network: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
    """Of the mean loss, as one vector."""
    loss = nn.functional.cross_entropy(network(inputs), labels)
    found = torch.autograd.grad(loss, list(network.parameters()))
    return torch.cat([one.flatten() for one in found])


def summed(network: nn.Module, samples: Images) -> Tensor:
    """The sum of all samples' gradients."""
    batches = DataLoader(samples, batch_size=BATCH)
    parts = (gradient(network, inputs, labels) * len(labels) for inputs, labels in batches)
    total: Tensor = sum(parts, torch.zeros(()))
    return total


def solved(network: nn.Module, samples: Images, vector: Tensor) -> Tensor:
    """The recursion over SAMPLES samples."""
    product, other = vector.clone(), torch.zeros(())
    for number, (inputs, labels) in enumerate(DataLoader(samples, batch_size=1)):
        if number == SAMPLES:
            break
        one = gradient(network, inputs, labels)
        if number == 0:
            other = one.clone()
            continue
        with torch.no_grad():
            along = torch.dot(other, one)
            product -= torch.dot(product, one) / (SAMPLES + along) * other
            other -= along / (SAMPLES + along) * other
    return product


def step(network: nn.Module, forget: Images, retain: Images) -> nn.Module:
    """The network after its step."""
    network.eval()
    struck, kept = len(forget), len(retain)
    vector = summed(network, forget) / (struck + kept)
    vector -= summed(network, retain) * (struck / ((struck + kept) * kept))
    moved = nn.utils.parameters_to_vector(network.parameters()) + solved(network, retain, vector)
    nn.utils.vector_to_parameters(moved.detach(), network.parameters())
    return network


def whole_call(data: Data) -> tuple[Work, Work]:
    """The step, and `expunge.unlearn` as a user calls it."""
    given = problem(data, samples=2000, forget=200)
    forget, retain = given.images(Part.FORGET), given.images(Part.RETAIN)
    method = Influence(samples=SAMPLES)
    return (
        lambda: step(copy.deepcopy(given.network), forget, retain),
        lambda: expunge.unlearn(given.trained, given.split, method),
    )


CASES = (Case("influence, 1,000 samples, whole call", 1.3, whole_call),)
