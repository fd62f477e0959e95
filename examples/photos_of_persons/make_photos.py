"""A flat folder of photos with a table of who is on them, as somebody may have it.

The photos are scanned handwriting; which person wrote which is made up.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

PERSONS, CLASSES = 12, ["zero", "one", "two", "three"]


def main() -> None:
    """Write the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    digits, draw = load_digits(n_class=len(CLASSES)), np.random.default_rng(0)
    persons = draw.integers(1, PERSONS + 1, len(digits.target))
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label", "person"])
        for row, (image, label) in enumerate(zip(digits.images, digits.target, strict=True)):
            name = f"p{persons[row]:03d}_{row:04d}.png"
            Image.fromarray((image * 15.9).astype(np.uint8)).save(folder / name)
            table.writerow([name, CLASSES[label], f"p{persons[row]:03d}"])


if __name__ == "__main__":
    main()
