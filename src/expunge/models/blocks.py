"""What the convolutional architectures share: shape checks, down-sampling in bounds, layers.

No layer works in place, so hooks, `torch.func` and `vmap` see every activation as it was.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor, nn

from expunge.errors import ModelError


def image_shape(shape: tuple[int, ...], name: str) -> tuple[int, int, int]:
    """`shape` as (channels, height, width).

    Raises:
        ModelError: `shape` is not that of an image.
    """
    if len(shape) != 3:
        raise ModelError(
            f"{name} is convolutional and needs inputs of shape (channels, height, width), "
            f"not {shape}; for flat vectors use mlp"
        )
    return shape[0], shape[1], shape[2]


class Sides:
    """Height and width of the current feature map; decides whether it may shrink once more."""

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width

    def stride(self) -> int:
        """2 where a padded 3x3 convolution of stride 2 leaves at least 2 pixels a side, else 1."""
        height, width = (self.height + 1) // 2, (self.width + 1) // 2
        if min(height, width) < 2:
            return 1
        self.height, self.width = height, width
        return 2

    def pool(self, least: int = 2) -> nn.Module:
        """2x2 max-pooling where it leaves at least `least` pixels a side, else the identity."""
        height, width = self.height // 2, self.width // 2
        if min(height, width) < least:
            return nn.Identity()
        self.height, self.width = height, width
        return nn.MaxPool2d(2)


def conv3x3(channels: int, width: int, stride: int = 1, *, bias: bool = False) -> nn.Conv2d:
    """A padded 3x3 convolution; no bias by default, since BatchNorm follows and has its own."""
    return nn.Conv2d(channels, width, 3, stride=stride, padding=1, bias=bias)


def projection(channels: int, width: int, stride: int) -> nn.Module:
    """Option B of a ResNet's shortcuts: a 1x1 convolution and BatchNorm."""
    convolution = nn.Conv2d(channels, width, 1, stride=stride, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(width))


def global_mean(features: Tensor) -> Tensor:
    """(batch, channels, height, width) -> (batch, channels)."""
    return features.mean(dim=(2, 3))


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside a shortcut: relu(bn(conv(relu(bn(conv(x))))) + shortcut(x))."""

    def __init__(self, channels: int, width: int, stride: int, shortcut: nn.Module) -> None:
        super().__init__()
        self.conv1 = conv3x3(channels, width, stride)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = conv3x3(width, width)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = shortcut
        self.relu = nn.ReLU()

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, h, w) -> (batch, width, h / stride, w / stride), rounded up."""
        features = self.relu(self.bn1(self.conv1(inputs)))
        features = self.bn2(self.conv2(features))
        return self.relu(features + self.downsample(inputs))  # type: ignore[no-any-return]


class ResNet(nn.Module):
    """A stem, stages of basic blocks, global mean, one linear layer.

    Every stage after the first halves the image in its first block. The stem is a 3x3 convolution of
    stride 1, and a stage does not halve an image that would go under 2 pixels a side.

    Args:
        shape: (channels, height, width) of one input.
        classes: outputs of the linear layer `fc`.
        widths: channels of each stage; the first is also the stem's.
        depth: blocks per stage.
        shortcut: (channels, width, stride) -> the module that brings a block's input to the
            shape of its output, where the two differ.
        imagenet: the original's stem instead, a 7x7 convolution and max-pooling, both of stride 2,
            and every stage halves, down to 1 pixel.
    """

    def __init__(
        self,
        shape: tuple[int, int, int],
        classes: int,
        *,
        widths: tuple[int, ...],
        depth: int,
        shortcut: Callable[[int, int, int], nn.Module],
        imagenet: bool = False,
    ) -> None:
        super().__init__()
        sides = Sides(*shape[1:])
        channels = widths[0]
        self.conv1 = (
            nn.Conv2d(shape[0], channels, 7, stride=2, padding=3, bias=False)
            if imagenet
            else conv3x3(shape[0], channels)
        )
        self.bn1 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1) if imagenet else nn.Identity()
        self.stages = [f"layer{number}" for number in range(1, len(widths) + 1)]
        for stage, width in zip(self.stages, widths, strict=True):
            blocks = []
            for block in range(depth):
                halving = block == 0 and stage != "layer1"
                stride = (2 if imagenet else sides.stride()) if halving else 1
                same = stride == 1 and channels == width
                bridge = nn.Identity() if same else shortcut(channels, width, stride)
                blocks.append(BasicBlock(channels, width, stride, bridge))
                channels = width
            self.add_module(stage, nn.Sequential(*blocks))
        self.fc = nn.Linear(channels, classes)
        initialise(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) -> logits (batch, classes)."""
        features = self.maxpool(self.relu(self.bn1(self.conv1(inputs))))
        for stage in self.stages:
            features = self.get_submodule(stage)(features)
        return self.fc(global_mean(features))  # type: ignore[no-any-return]


class ConvNet(nn.Module):
    """`features`, global mean, one linear layer `classifier`.

    Args:
        layers: modules that map (batch, channels, height, width) to (batch, width, ..., ...).
        width: channels that the last of them gives.
        classes: outputs of the linear layer.
    """

    def __init__(self, layers: list[nn.Module], width: int, classes: int) -> None:
        super().__init__()
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(width, classes)
        initialise(self)

    def forward(self, inputs: Tensor) -> Tensor:
        """(batch, channels, height, width) -> logits (batch, classes)."""
        return self.classifier(global_mean(self.features(inputs)))  # type: ignore[no-any-return]


def initialise(model: nn.Module) -> None:
    """Kaiming-normal convolutions (fan-out, ReLU) with zero biases; the rest as PyTorch has it."""
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
