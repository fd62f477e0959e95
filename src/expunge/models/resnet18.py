"""ResNet-18 with the stem that small images need: a 3x3 convolution of stride 1, no max-pooling.

Four stages of two basic blocks, 64, 128, 256 and 512 channels, projection shortcuts (option B).
The weights bear torchvision's names, so a checkpoint of torchvision's `resnet18` with `conv1`
exchanged and `maxpool` removed loads as it is.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
Deviations: the stem, as usual for CIFAR; a stage does not halve an image that would go under
2 pixels a side.
"""

from __future__ import annotations

from torch import nn

from expunge.models.blocks import ResNet, image_shape, projection


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet18")
    return ResNet(image, classes, widths=(64, 128, 256, 512), depth=2, shortcut=projection)
