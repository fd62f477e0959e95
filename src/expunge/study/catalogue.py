"""The studies that come with the package, by name. A new one is a file in `shipped/`."""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from expunge.disk.reading import read_yaml
from expunge.errors import ConfigError, nearest
from expunge.study.cells import Facts, originals, plan_cells
from expunge.study.entries import unfit
from expunge.study.file import SCALES, read_study
from expunge.study.schema import Study

FOLDER = Path(__file__).with_name("shipped")


@dataclass(frozen=True)
class Shipped:
    """A study as a list shows it.

    asks: the first paragraph of its file's comment. data, cells: of its default scale; how many
    cells that makes. scales: their names, the default one first.
    """

    name: str
    asks: str
    data: tuple[str, ...]
    cells: int
    scales: tuple[str, ...]


def shipped_files() -> Mapping[str, Path]:
    """Name -> file, in the order of the names."""
    return {file.stem: file for file in sorted(FOLDER.glob("*.yaml"))}


def study_file(wanted: str | Path) -> Path:
    """The file that a person means: a path, or, where no such file is, the name of a shipped study.

    Raises:
        ConfigError: for a bare name that is neither; it says what there is, and the nearest.
    """
    path = Path(wanted)
    if path.is_file() or path.suffix or path.name != str(wanted):
        return path  # a path; whoever reads it says if it is not there
    known = shipped_files()
    if path.name not in known:
        raise ConfigError(
            f"no study {path.name!r}{nearest(path.name, known)}; there are: {', '.join(known)}; or "
            "give a study file"
        )
    return known[path.name]


def shipped_studies() -> list[Shipped]:
    """What ships with the package."""
    return [_shipped(name, file) for name, file in shipped_files().items()]


def _shipped(name: str, file: Path) -> Shipped:
    study = read_study(file)
    scales = tuple(read_yaml(file)[0].get(SCALES, {}))
    asks = first_paragraph(file.read_text(encoding="utf-8"))
    return Shipped(name, asks, study.data, cells_of(study), scales)


def first_paragraph(text: str) -> str:
    """Of the comment that a file begins with, as one line."""
    words: list[str] = []
    for line in text.splitlines():
        if not line.startswith("#") or not line.strip("# "):
            break
        words += line.strip("# ").split()
    return " ".join(words)


def cells_of(study: Study) -> int:
    """How many cells a study makes, tuning included, without a look at its data."""
    facts = Facts(("", ""), tuple(map(str, range(1000))))  # more classes than a study forgets
    cells = len(plan_cells(study, lambda _: facts)[0])
    tuning = study.tuning
    if tuning is not None:
        settings = len(list(originals(study, lambda _: facts, tuning.seeds)))
        cells += settings * (1 + len(study.scenarios) * (tuning.criterion == "oracle"))
        for _, setting, _, _ in originals(study, lambda _: facts, tuning.seeds):
            for scenario, label in itertools.product(study.scenarios, tuning.methods):
                made = not unfit(study.methods[label], scenario, dense=setting[3] == "dense")
                cells += tuning.trials * made
    return cells
