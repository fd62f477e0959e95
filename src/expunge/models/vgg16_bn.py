"""VGG-16 with BatchNorm, in the form usual for CIFAR: thirteen convolutions, one linear layer.

Paper: Simonyan and Zisserman, "Very Deep Convolutional Networks for Large-Scale Image
Recognition", ICLR 2015, table 1, column D. Deviations, those of the public CIFAR versions:
BatchNorm after every convolution, and one linear layer behind a global mean instead of three.
The first four poolings are skipped where a side would go under 2 pixels, the fifth where it would
go under 1, since only the mean follows it; `features` has the same indices at every size.
"""

from __future__ import annotations

from torch import nn

from expunge.models.blocks import ConvNet, Sides, conv3x3, image_shape

# Channels of the convolutions before each pooling.
STAGES = ((64, 64), (128, 128), (256, 256, 256), (512, 512, 512), (512, 512, 512))


def vgg16_bn(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    channels, height, width = image_shape(shape, "vgg16_bn")
    sides = Sides(height, width)
    layers: list[nn.Module] = []
    for stage, widths in enumerate(STAGES, start=1):
        for filters in widths:
            convolution = conv3x3(channels, filters, bias=True)
            layers += [convolution, nn.BatchNorm2d(filters), nn.ReLU()]
            channels = filters
        layers.append(sides.pool(least=1 if stage == len(STAGES) else 2))
    return ConvNet(layers, channels, classes)
