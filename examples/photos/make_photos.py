"""A folder of photos of persons, none of whom there is: faces drawn from numbers, always the same ones.

Each person has a face of its own, each photo another light, place and mood. The label is whether the
person smiles; a file's name begins with the person. One photo is there a second time, under a name that
tells of nobody.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageEnhance

PERSONS, PHOTOS = 10, 20
COPIED = (7, 3)
SIDE, FINE = 16, 6  # drawn so many times larger, then made smaller: smooth edges
DARK, PALE = np.array([92, 58, 40]), np.array([250, 214, 186])
HAIR = [(28, 24, 24), (92, 56, 30), (150, 70, 30), (205, 165, 90), (120, 120, 125)]


def draw_face(person: np.random.Generator, photo: np.random.Generator, smiles: bool) -> Image.Image:
    """A face by the numbers of a person, as it looks on one photo."""
    skin = DARK + person.uniform() * (PALE - DARK)
    hair = HAIR[person.integers(len(HAIR))]
    wide, high = person.uniform(0.5, 0.7), person.uniform(0.66, 0.84)
    apart, fringe = person.uniform(0.11, 0.17), person.uniform(0.12, 0.34)
    light = photo.uniform(0.75, 1.1)
    x, y = photo.uniform(0.46, 0.54), photo.uniform(0.48, 0.54)
    image = Image.new("RGB", (SIDE * FINE,) * 2, tuple(photo.integers(60, 220, 3).tolist()))
    draw = ImageDraw.Draw(image)

    def box(left: float, top: float, right: float, bottom: float) -> list[float]:
        return [one * SIDE * FINE for one in (left, top, right, bottom)]

    face = tuple(np.clip(skin * light, 0, 255).astype(int).tolist())
    sides = x - wide / 2, x + wide / 2
    top = y - high / 2
    draw.ellipse(box(sides[0] - 0.04, top - 0.05, sides[1] + 0.04, y + 0.2), fill=hair)
    draw.ellipse(box(sides[0], top, sides[1], y + high / 2), fill=face)
    draw.chord(box(sides[0], top, sides[1], top + 2 * fringe), 180, 360, fill=hair)
    for eye in (x - apart, x + apart):
        draw.ellipse(box(eye - 0.035, y - 0.09, eye + 0.035, y - 0.02), fill=(25, 25, 30))
    mouth = box(x - 0.19, y - 0.04, x + 0.19, y + 0.3)
    if smiles:
        draw.chord(mouth, 15, 165, fill=(150, 30, 40))
    else:
        draw.rectangle(box(x - 0.1, y + 0.2, x + 0.1, y + 0.235), fill=(120, 40, 45))
    return image.resize((SIDE, SIDE), Image.Resampling.BOX)


def main() -> None:
    """Write the folder that the command line names."""
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True)
    with open(folder / "metadata.csv", "w", newline="") as file:
        table = csv.writer(file)
        table.writerow(["file_name", "label"])
        for person in range(1, PERSONS + 1):
            for number in range(1, PHOTOS + 1):
                photo = np.random.default_rng([person, number])
                smiles = bool(photo.integers(2))
                image = draw_face(np.random.default_rng(person), photo, smiles)
                name = f"p{person:03d}_{number:02d}.png"
                image.save(folder / name)
                table.writerow([name, "smiles" if smiles else "serious"])
                if (person, number) == COPIED:  # and somebody has used it, a little brighter
                    ImageEnhance.Brightness(image).enhance(1.05).save(folder / "poster.png")
                    table.writerow(["poster.png", "smiles" if smiles else "serious"])


if __name__ == "__main__":
    main()
