"""A multilayer perceptron with two hidden layers of 256 and 128 rectified units.

Paper: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proc. IEEE 86(11), 1998, section III (fully connected networks on MNIST).
Deviations: 256 and 128 units instead of 300 and 100, ReLU instead of a scaled tanh.
"""

from __future__ import annotations

import math

from torch import Tensor, nn


class MLP(nn.Module):
    """inputs of any shape, flattened -> 256 -> 128 -> classes."""

    def __init__(self, inputs: int, classes: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(inputs, 256)
        self.fc2 = nn.Linear(256, 128)
        self.fc3 = nn.Linear(128, classes)
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, *shape) -> logits (batch, classes)."""
        hidden = self.relu(self.fc1(inputs.flatten(1)))
        return self.fc3(self.relu(self.fc2(hidden)))  # type: ignore[no-any-return]


def mlp(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model for inputs of any `shape`, (784,) and (1, 28, 28) alike."""
    return MLP(math.prod(shape), classes)
