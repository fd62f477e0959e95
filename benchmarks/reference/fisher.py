"""Fisher: for each batch and each label the mean loss's gradient, squared, then noise.

Public programs square the gradients of batches of 32, which ours takes of each sample: the
reference does a thirty-second of the squares, and ours is the diagonal.
"""

from __future__ import annotations

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader

import expunge
from expunge import Data, Part
from expunge.methods.fisher import Fisher
from reference.case import Case, Images, Work, problem

BATCH = 32
ALPHA = 3e-8


def squared(network: nn.Module, samples: Images) -> list[torch.Tensor]:
    """Mean over batches of squared gradients, weighted by the mean prediction of each label."""
    network.eval()
    parameters = list(network.parameters())
    total = [torch.zeros_like(one) for one in parameters]
    batches = DataLoader(samples, batch_size=BATCH)
    for inputs, labels in batches:
        outputs = network(inputs)
        shares = outputs.detach().softmax(1).mean(0)
        for label, share in enumerate(shares):
            loss = nn.functional.cross_entropy(outputs, torch.full_like(labels, label))
            network.zero_grad()
            loss.backward(retain_graph=True)
            for one, parameter in zip(total, parameters, strict=True):
                one += share * parameter.grad.square()
    return [one / len(batches) for one in total]


def noised(network: nn.Module, samples: Images) -> nn.Module:
    """The network with noise on its weights."""
    diagonal = squared(network, samples)
    with torch.no_grad():
        for parameter, fisher in zip(network.parameters(), diagonal, strict=True):
            last = len(parameter) == 10
            variance = ALPHA * (1 / (fisher + 1e-8)).clamp(max=1e2 if last else 1e3)
            if parameter.ndim > 1:
                variance = variance.mean(1, keepdim=True).expand_as(parameter)
            scale = 10 if last or parameter.ndim == 1 else 1
            parameter += (scale * variance).sqrt() * torch.randn_like(parameter)
    return network


def whole_call(data: Data) -> tuple[Work, Work]:
    """The method, and `expunge.unlearn` as a user calls it."""
    given = problem(data, samples=600, forget=100)
    retain = given.images(Part.RETAIN)
    method = Fisher(alpha=ALPHA)
    return (
        lambda: noised(copy.deepcopy(given.network), retain),
        lambda: expunge.unlearn(given.trained, given.split, method),
    )


CASES = (Case("Fisher, all labels, 500 samples, whole call", 1.5, whole_call),)
