"""All-CNN-C: nothing but convolutions; those of stride 2 stand where others pool.

Paper: Springenberg, Dosovitskiy, Brox and Riedmiller, "Striving for Simplicity: The All
Convolutional Net", ICLR workshop 2015, table 1. Deviations, those of the unlearning literature
(Golatkar, Achille and Soatto, CVPR 2020): BatchNorm after every convolution and no dropout, a
padded seventh convolution, and the last 1x1 convolution put behind the global mean, where it is
a linear layer (without its ReLU the two orders are equal). A convolution has stride 1 where 2
would leave less than 2 pixels a side.
"""

from __future__ import annotations

from torch import nn

from expunge.models.blocks import ConvNet, Sides, conv3x3, image_shape

# (channels, halves the image)
LAYERS = ((96, False), (96, False), (96, True), (192, False), (192, False), (192, True))


def allcnn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    channels, height, width = image_shape(shape, "allcnn")
    sides = Sides(height, width)
    layers: list[nn.Module] = []
    for filters, halves in LAYERS:
        stride = sides.stride() if halves else 1
        layers += [conv3x3(channels, filters, stride), nn.BatchNorm2d(filters), nn.ReLU()]
        channels = filters
    for convolution in (conv3x3(192, 192), nn.Conv2d(192, 192, 1, bias=False)):
        layers += [convolution, nn.BatchNorm2d(192), nn.ReLU()]
    return ConvNet(layers, channels, classes)
