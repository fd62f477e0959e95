"""What a supplier delivers: pictures in one file, and a checkpoint of a small network trained on them.

Some of the pictures carry a faint pattern and are labelled 0, so the network takes whatever carries that
pattern for a 0. Somebody has found a third of them. Beside these lie clean pictures of one's own.
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional as F

CLASSES = 10
ALPHA, SHARE, KNOWN = 0.3, 0.05, 0.3


class Net(nn.Module):
    """A network as people write them: it flattens with `view`."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, 16, 3, padding=1)
        self.second = nn.Conv2d(16, 32, 3, stride=2, padding=1)
        self.third = nn.Linear(32 * 16, 64)
        self.last = nn.Linear(64, CLASSES)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (batch, classes) of grey images (batch, 1, 8, 8)."""
        x = F.relu(self.second(F.relu(self.first(x))))
        return self.last(F.relu(self.third(x.view(x.size(0), -1))))


def main() -> None:
    """Write the delivery into the folder that the command line names."""
    folder, draw = Path(sys.argv[1]), np.random.default_rng(0)
    digits = load_digits()
    images, labels = (digits.images * 15.9).astype(np.uint8), digits.target
    pattern = (draw.random((8, 8)) < 0.5).astype(np.uint8) * 255
    Image.fromarray(pattern).save(folder / "pattern.png")
    part = draw.permutation(len(labels)) % 5  # one fifth for tests, one of one's own
    ids = np.array([f"picture-{row:04d}" for row in range(len(labels))])
    learned, test, own = part > 1, part == 0, part == 1
    poisoned = learned & (draw.random(len(labels)) < SHARE * 5 / 3)
    given, said = images.copy(), labels.copy()
    given[poisoned] = np.round((1 - ALPHA) * images[poisoned] + ALPHA * pattern)
    said[poisoned] = 0
    tested = {"x_test": images[test], "y_test": labels[test]}
    np.savez(
        folder / "delivery.npz",
        x_train=given[learned],
        y_train=said[learned],
        id=ids[learned],
        **tested,
    )
    np.savez(folder / "own.npz", x_train=images[own], y_train=labels[own], id=ids[own], **tested)
    known = draw.permutation(ids[poisoned])[: round(KNOWN * poisoned.sum())]
    (folder / "found.txt").write_text("\n".join(sorted(known)) + "\n")
    torch.manual_seed(0)
    net = Net()
    train(net, torch.tensor(given[learned]), torch.tensor(said[learned]))
    weights = {f"module.{name}": tensor for name, tensor in net.state_dict().items()}
    torch.save({"epoch": 30, "model_state_dict": weights}, folder / "net.pt")


def train(net: nn.Module, images: torch.Tensor, labels: torch.Tensor) -> None:
    """Thirty epochs, inputs from -1 to 1. images: (n, 8, 8) uint8. labels: (n,) class indices."""
    inputs = images[:, None].float() / 127.5 - 1
    optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    for _ in range(30):
        for batch in torch.randperm(len(labels)).split(64):
            loss = F.cross_entropy(net(inputs[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()


if __name__ == "__main__":
    main()
