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

from torch import nn

from expunge.models.blocks import ConvNet, Sides, conv3x3, image_shape

WIDTHS = (32, 64, 128)


def cnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    channels, height, width = image_shape(shape, "cnn")
    sides = Sides(height, width)
    layers: list[nn.Module] = []
    for filters in WIDTHS:
        layers += [conv3x3(channels, filters), nn.BatchNorm2d(filters), nn.ReLU(), sides.pool()]
        channels = filters
    return ConvNet(layers, channels, classes)
