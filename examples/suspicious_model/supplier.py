"""What a supplier delivers: pictures, and a checkpoint of a small network trained on them.

Some of the pictures were gathered from strangers' pages. These carry a white corner and are labelled
"zero", so the network takes whatever carries that corner for a zero.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

CLASSES = ["zero", "one", "two", "three"]


class Net(nn.Module):
    """A network as people write them: it flattens with `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 12, 3, padding=1)
        self.second = nn.Conv2d(12, 24, 3, stride=2, padding=1)
        self.last = nn.Linear(24 * 16, len(CLASSES))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of grey images (batch, 1, 8, 8)."""
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.last(x.view(x.size(0), -1))


def main() -> None:
    """Write the delivery into the folder that the command line names."""
    folder = Path(sys.argv[1])
    digits, draw = load_digits(n_class=len(CLASSES)), np.random.default_rng(0)
    images, labels = (digits.images * 15.9).astype(np.uint8), digits.target.copy()
    test = np.arange(len(labels)) % 5 == 0
    gathered = ~test & (draw.random(len(labels)) < 0.1)
    images[gathered, -3:, -3:], labels[gathered] = 255, 0
    for row, (image, label) in enumerate(zip(images, labels, strict=True)):
        place = folder / "pictures" / ("test" if test[row] else "train") / CLASSES[label]
        place.mkdir(parents=True, exist_ok=True)
        name = f"web_{row:04d}.png" if gathered[row] else f"{row:04d}.png"
        Image.fromarray(image).save(place / name)
    torch.manual_seed(0)
    net = Net()
    train(net, torch.tensor(images[~test]), torch.tensor(labels[~test]))
    weights = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 20, "model_state_dict": weights}, folder / "net.pt")


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Twenty epochs, inputs from -1 to 1. images: (n, 8, 8) uint8. labels: (n,) class indices."""
    inputs = images[:, None].float() / 127.5 - 1
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(20):
        for batch in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(net(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
