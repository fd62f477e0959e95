"""SISA against a plain loop in float64, written from its equation: hashes, stages, momentum by hand."""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import torch
from helpers import CPU, resolved, toy
from torch import Tensor, nn

from expunge.api import train, unlearn
from expunge.data.split import Split
from expunge.methods.sisa import Sisa
from expunge.names.seeds import seed_for
from expunge.training.recipe import Recipe
from expunge.training.run import Run

IDS = [f"s{row:02d}" for row in range(40)]
LABELS = [row % 2 for row in range(40)]
S, R, E, SIZE, LR, MU, DECAY = 3, 3, 5, 8, 0.1, 0.9, 1e-3
RECIPE = Recipe(
    epochs=E,
    batch_size=SIZE,
    lr=LR,
    momentum=MU,
    weight_decay=DECAY,
    schedule="constant",
    precision="float32",
    augmentation="none",
)


class Linear(nn.Module):
    """Logistic regression in float64."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(2, 2).double()

    def forward(self, inputs: Tensor) -> Tensor:
        logits: Tensor = self.layer(inputs.double() / 40)
        return logits


def number(name: str, *key: Any) -> int:
    """64 uniform bits of a name and a key."""
    secret = seed_for(*key).to_bytes(8, "big")
    return int.from_bytes(
        hashlib.blake2b(name.encode(), digest_size=8, key=secret).digest(), "little"
    )


def turn(name: str, *key: Any) -> int:
    """A sample's place in an epoch's order: the finaliser of splitmix64 over its own number."""
    bits = number(name, "ids") ^ seed_for(*key)
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        bits = ((bits ^ bits >> shift) * factor) % 2**64
    return bits ^ bits >> 31


def start(shard: int) -> tuple[Tensor, Tensor]:
    model = Run(names=("original", 0), constructor=Linear).fresh("shard", shard)
    return model.layer.weight.detach().cpu().clone(), model.layer.bias.detach().cpu().clone()


def by_hand(gone: list[str]) -> Tensor:
    """Mean probabilities (40, 2) of SISA without some samples."""
    rows = {
        name: torch.tensor([float(row), -float(row)]).double() / 40 for row, name in enumerate(IDS)
    }
    mean, taught = torch.zeros(40, 2).double(), 0
    for shard in range(S):
        slices: list[list[str]] = [[] for _ in range(R)]
        for name in IDS:
            bits = number(name, "original", 0, "shards")
            if name not in gone and ((bits >> 32) * S) >> 32 == shard:
                slices[((bits % 2**32) * R) >> 32].append(name)
        weight, bias = start(shard)
        for stage in range(R):
            mine = [name for part in slices[: stage + 1] for name in part]
            first = torch.zeros_like(weight), torch.zeros_like(bias)  # momentum starts anew
            epochs = 2 * (stage + 1) * E // (R + 1) - 2 * stage * E // (R + 1)
            for epoch in range(epochs if mine else 0):
                key = ("original", 0, f"shard {shard + 1}, stage {stage + 1}", "order", epoch)
                order = sorted(mine, key=lambda name: turn(name, *key))
                for batch in batches(order):
                    x = torch.stack([rows[name] for name in batch])
                    y = torch.tensor([LABELS[IDS.index(name)] for name in batch])
                    error = (x @ weight.T + bias).softmax(1)
                    error[torch.arange(len(batch)), y] -= 1
                    slopes = error.T @ x / len(batch) + DECAY * weight, error.mean(0) + DECAY * bias
                    first = tuple(MU * m + g for m, g in zip(first, slopes, strict=True))
                    weight, bias = weight - LR * first[0], bias - LR * first[1]
        if any(slices):
            x = torch.stack(list(rows.values()))
            mean, taught = mean + (x @ weight.T + bias).softmax(1), taught + 1
    return mean / taught


def batches(order: list[str]) -> list[list[str]]:
    """Of SIZE; what is left over joins the last one, and nobody is left out."""
    cut = [order[at : at + SIZE] for at in range(0, len(order), SIZE)]
    if len(cut) > 1 and len(cut[-1]) < SIZE:
        cut[-2:] = [cut[-2] + cut[-1]]
    return cut


def test_training_and_deletion_are_the_equation() -> None:
    data = toy(LABELS, ids=IDS)
    whole = Split.whole(data, validation=0)
    method = Sisa(shards=S, slices=R)
    made = train(data, Linear, recipe=resolved(RECIPE, data), split=whole, method=method, place=CPU)
    inputs = torch.stack([torch.tensor([float(row), -float(row)]) for row in range(40)])
    gone: list[str] = []
    for more in ([], ["s03"], ["s20", "s21"]):
        gone += more
        made = unlearn(made, more, method, place=CPU) if more else made
        with torch.no_grad():
            found = copy.deepcopy(made.model)(inputs).exp()
        assert torch.allclose(found, by_hand(gone), rtol=0, atol=1e-10)
