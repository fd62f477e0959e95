"""How far from retraining a score may lie: numbers that are fixed in a file before anything is measured.

The digest of all of them stands wherever a verdict does, so that a reader sees which were meant.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from expunge.errors import ConfigError, nearest
from expunge.scores.info import ScoreInfo
from expunge.scores.table import SCORES

LEAST = 1.0
"""Points of percent: no run of a few seeds could speak of less."""


@dataclass(frozen=True)
class Margins:
    """Score -> the difference from retraining that does not matter, in the score's unit.

    A score that is not among them is judged by nothing.
    """

    by_score: Mapping[str, float]

    def of(self, score: str) -> float | None:
        """None for a score without a margin."""
        return self.by_score.get(score)

    def judging(self, info: ScoreInfo) -> float | None:
        """The margin of a score; one that is not of the table has that of its own line."""
        return self.of(info.name) or info.margin

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that are the same for the same margins alone."""
        plain = {name: float(margin) for name, margin in self.by_score.items()}
        text = json.dumps(plain, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:12]


_TABLE = {name: one.margin for name, one in SCORES.items() if one.margin is not None}
STATED = Margins(MappingProxyType(_TABLE))
"""Those of the table, where no file says others."""


def read_margins(file: str | Path) -> Margins:
    """The margins of a YAML file, `UA: 3` a line; a score that it leaves out keeps that of the table.

    Raises ConfigError for a file that cannot be read, a score that has none, or a number that is no
    margin: not above 0, not finite, or of a percentage less than a point.
    """
    from expunge.disk.reading import read_yaml, reading

    file = Path(file)
    with reading(file, "give a YAML file of margins, such as `UA: 3`", ConfigError):
        content, _ = read_yaml(file)
    if not isinstance(content, dict):
        raise ConfigError(f"{file} holds no margins; write one a line, such as `UA: 3`")
    for name, margin in content.items():
        _check(str(file), name, margin)
    found = {name: float(margin) for name, margin in content.items()}
    return Margins(MappingProxyType({**STATED.by_score, **found}))


def write_margins(margins: Margins, file: str | Path) -> None:
    """Write all of them, so that the file says what is meant if the table changes."""
    from expunge.disk.whole import write_file

    units = {name: SCORES[name].unit for name in margins.by_score if name in SCORES}
    lines = [
        f"{name}: {margin:g}  # {units.get(name, '')}".rstrip(" #")
        for name, margin in margins.by_score.items()
    ]
    write_file(Path(file), "\n".join(lines) + "\n")


def _check(file: str, name: object, margin: Any) -> None:
    there = STATED.by_score
    if name not in there:
        raise ConfigError(
            f"{file}: no score {name!r} is judged by a margin{nearest(str(name), there)}; these are: "
            f"{', '.join(there)}"
        )
    unit = SCORES[str(name)].unit
    least = LEAST if unit == "percent" else 0.0
    number = isinstance(margin, int | float) and not isinstance(margin, bool)
    if not (number and math.isfinite(margin) and margin > 0 and margin >= least):
        wanted = f"{LEAST:g} or more points" if least else f"a number above 0, in {unit}"
        raise ConfigError(f"{file}: {name}: {margin!r} is no margin; give {wanted}")
