"""A small convolutional network that trains quickly on a CPU: three blocks of 32, 64, 128 channels.

A block is a 3x3 convolution, BatchNorm, ReLU and 2x2 max-pooling; then global mean and one
linear layer. Where pooling would leave less than 2 pixels a side it is skipped.

Paper: LeCun, Bottou, Bengio and Haffner, "Gradient-Based Learning Applied to Document
Recognition", Proc. IEEE 86(11), 1998, for alternating convolutions and pooling; Ioffe and
Szegedy, "Batch Normalization", ICML 2015, for the normalisation.
Deviations: it is nobody's published network; unlike LeNet-5 it has BatchNorm, ReLU, max-pooling
and a global mean in place of the hidden linear layers.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import nn

from expunge.models.blocks import ConvNet, Sides, conv3x3, image_shape

WIDTHS = (32, 64, 128)


def cnn_groupnorm(shape: tuple[int, ...], classes: int) -> nn.Module:
    """The same with GroupNorm in 8 groups (Wu and He, ECCV 2018), which keeps nothing of the data.

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    return _blocks(shape, classes, "cnn_groupnorm", lambda filters: nn.GroupNorm(8, filters))


def cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    return _blocks(shape, classes, "cnn", nn.BatchNorm2d)


def _blocks(
    shape: tuple[int, ...], classes: int, name: str, norm: Callable[[int], nn.Module]
) -> nn.Module:
    channels, height, width = image_shape(shape, name)
    sides = Sides(height, width)
    layers: list[nn.Module] = []
    for filters in WIDTHS:
        layers += [conv3x3(channels, filters), norm(filters), nn.ReLU(), sides.pool()]
        channels = filters
    return ConvNet(layers, channels, classes)
