"""ResNet-18 as published for large images: a 7x7 convolution and max-pooling, both of stride 2.

Four stages of two basic blocks, 64, 128, 256 and 512 channels, projection shortcuts (option B). The
weights bear torchvision's names, so a checkpoint of torchvision's `resnet18` loads as it is. On
32x32 images, as Tarun et al. (TNNLS 2023) use it, the last stage sees a single pixel, which makes it
about ten times faster than `resnet18`, and less accurate.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
"""

from __future__ import annotations

from torch import nn

from expunge.models.blocks import ResNet, image_shape, projection


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet18_imagenet")
    return ResNet(
        image, classes, widths=(64, 128, 256, 512), depth=2, shortcut=projection, imagenet=True
    )
