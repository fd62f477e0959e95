"""The ResNets: for small images, as published for large ones, and the one for CIFAR.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from expunge.models.blocks import ResNet, image_shape, projection


def resnet18(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ResNet-18 with the stem that small images need: a 3x3 convolution of stride 1, no max-pooling.

    Four stages of two basic blocks, 64, 128, 256 and 512 channels, projection shortcuts (option B).
    The weights bear torchvision's names, so a checkpoint of torchvision's `resnet18` with `conv1`
    exchanged and `maxpool` removed loads as it is.

    Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.
    Deviations: the stem, as usual for CIFAR; a stage does not halve an image that would go under
    2 pixels a side.

    A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet18")
    return ResNet(image, classes, widths=(64, 128, 256, 512), depth=2, shortcut=projection)


def resnet18_imagenet(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ResNet-18 as published for large images: a 7x7 convolution and max-pooling, both of stride 2.

    Four stages of two basic blocks, 64, 128, 256 and 512 channels, projection shortcuts (option B). The
    weights bear torchvision's names, so a checkpoint of torchvision's `resnet18` loads as it is. On
    32x32 images, as Tarun et al. (TNNLS 2023) use it, the last stage sees a single pixel, which makes it
    about ten times faster than `resnet18`, and less accurate.

    Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016, table 1.

    A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet18_imagenet")
    return ResNet(
        image, classes, widths=(64, 128, 256, 512), depth=2, shortcut=projection, imagenet=True
    )


class PadShortcut(nn.Module):
    """Option A: every `stride`-th pixel, and zeros for the channels that the input lacks."""

    def __init__(self, channels: int, width: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.before = (width - channels) // 2
        self.behind = width - channels - self.before

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, h, w) -> (batch, width, h / stride, w / stride), rounded up."""
        kept = inputs[:, :, :: self.stride, :: self.stride]
        return functional.pad(kept, (0, 0, 0, 0, self.before, self.behind))


def resnet20(shape: tuple[int, ...], classes: int) -> nn.Module:
    """ResNet-20 for CIFAR: three stages of three basic blocks, 16, 32 and 64 channels.

    Shortcuts are the paper's option A, as in its CIFAR experiments: where a stage begins, the input
    is subsampled and padded with zero channels, so that a shortcut has no parameters.

    Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
    section 4.2. Deviations: the zero channels go half before and half behind, as in the public
    PyTorch versions; a stage does not halve an image that would go under 2 pixels a side.

    A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet20")
    return ResNet(image, classes, widths=(16, 32, 64), depth=3, shortcut=PadShortcut)
