"""ResNet-20 for CIFAR: three stages of three basic blocks, 16, 32 and 64 channels.

Shortcuts are the paper's option A, as in its CIFAR experiments: where a stage begins, the input
is subsampled and padded with zero channels, so that a shortcut has no parameters.

Paper: He, Zhang, Ren and Sun, "Deep Residual Learning for Image Recognition", CVPR 2016,
section 4.2. Deviations: the zero channels go half before and half behind, as in the public
PyTorch versions; a stage does not halve an image that would go under 2 pixels a side.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from expunge.models.blocks import ResNet, image_shape


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


def build(shape: tuple[int, ...], classes: int) -> nn.Module:
    """A fresh model: (batch, *shape) -> logits (batch, classes).

    Raises:
        ModelError: `shape` is not (channels, height, width).
    """
    image = image_shape(shape, "resnet20")
    return ResNet(image, classes, widths=(16, 32, 64), depth=3, shortcut=PadShortcut)
