"""What the columns of a table are: as it is typed, and as it is kept with a model."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from expunge.errors import DataError, listed, nearest

KEYS = ("label", "id", "group", "drop", "category", "missing")
TABLES = (".csv", ".tsv", ".parquet")
"""Files that hold tables."""
TARGETS = ("label", "labels", "target", "class")
"""Usual names of a column of labels."""
DELIMITERS = ",;\t|"
HEAD_BYTES = 2**16
"""Of a text file: what is looked at to see what stands between its columns."""
WRITTEN = re.compile(rf"(?:{'|'.join(KEYS)})=.*", re.DOTALL)
"""How the columns in a data specification begin."""
MOST_COLUMNS, MOST_CATEGORIES = 10_000, 50_000
"""Of a table; of one of its columns."""


def is_parquet(file: Path) -> bool:
    """Whether a table is parquet by its name, else it is text."""
    return file.suffix.lower() == ".parquet"


def delimiter_of(head: bytes) -> str:
    """What stands most often in the first line of a text file. head: its first `HEAD_BYTES`."""
    line = head.split(b"\n")[0]
    return max(DELIMITERS, key=lambda sign: line.count(sign.encode()))


@dataclass(frozen=True)
class Columns:
    """Which columns of a table are what; the others are inputs.

    label, id: None means the usual names. groups: for requests, and no inputs. dropped: not read.
    categories: of numbers that stand for kinds. missing: what missing numbers count as; None refuses
    them.
    """

    label: str | None = None
    id: str | None = None
    groups: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()
    missing: float | None = None

    @classmethod
    def parse(cls, text: str) -> Columns:
        """Read `label=income,id=name,group=person,drop=notes,category=zip,missing=0`; group, drop and
        category may come several times. Raises DataError for other keys, and a key or column twice.
        """
        found: dict[str, list[str]] = {key: [] for key in KEYS}
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if key.strip() not in found or not equals:
                raise DataError(
                    f"{part!r} in a data specification{nearest(key.strip(), KEYS)}: columns are told "
                    f"by {', '.join(f'{one}=…' for one in KEYS)}, with commas between them"
                )
            found[key.strip()].append(value.strip())
        for key in ("label", "id", "missing"):
            if len(found[key]) > 1:
                raise DataError(f"{key}= is given {len(found[key])} times; name one")
        roles = [name for key in ("label", "id", "group", "drop") for name in found[key]]
        twice = next((name for name in roles if roles.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"column {twice!r} is named twice in {text!r}; a column is one thing")
        return cls(
            next(iter(found["label"]), None),
            next(iter(found["id"]), None),
            tuple(found["group"]),
            tuple(found["drop"]),
            tuple(found["category"]),
            _number(found["missing"]),
        )

    def __str__(self) -> str:
        """As it would be typed."""
        told: dict[str, Iterable[object]] = {}
        told |= {"label": [self.label], "id": [self.id], "group": self.groups, "drop": self.dropped}
        told |= {"category": self.categories, "missing": [self.missing]}
        return ",".join(
            f"{key}={one}" for key, ones in told.items() for one in ones if one is not None
        )

    @property
    def named(self) -> tuple[str, ...]:
        """All columns that are named."""
        ends = [name for name in (self.label, self.id) if name is not None]
        return (*ends, *self.groups, *self.dropped, *self.categories)


def _number(texts: list[str]) -> float | None:
    if not texts:
        return None
    try:
        value = float(texts[0])
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise DataError(
            f"missing={texts[0]}: say which number missing ones count as, as in missing=0"
        )
    return value


class Feature(BaseModel):
    """A column that is an input: a number, or one of some categories."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: Annotated[str, Field(max_length=4096)]
    categories: Annotated[tuple[str, ...], Field(max_length=MOST_CATEGORIES)] | None = None

    @property
    def width(self) -> int:
        """How many inputs it makes."""
        return 1 if self.categories is None else len(self.categories)


class TableEncoding(BaseModel):
    """How the rows of a table become inputs: columns in their order, categories in theirs.

    It is made of the data that a model learned from, and stays with it: rows that are deleted later
    change no place of an input.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    features: Annotated[tuple[Feature, ...], Field(min_length=1, max_length=MOST_COLUMNS)]

    @property
    def width(self) -> int:
        """Inputs of a row."""
        return sum(feature.width for feature in self.features)

    @property
    def indicators(self) -> tuple[bool, ...]:
        """Of each input, whether it says that a row is of one category, as 0 or 1."""
        return tuple(f.categories is not None for f in self.features for _ in range(f.width))

    def told(self) -> str:
        """What the inputs are, in a sentence."""
        numbers = [one.name for one in self.features if one.categories is None]
        kinds = [
            f"{one.name} ({len(one.categories)})"
            for one in self.features
            if one.categories is not None
        ]
        parts = [*_counted(numbers, "numbers"), *_counted(kinds, "columns of categories")]
        return f"{self.width} inputs: {' and '.join(parts)}"


def _counted(names: list[str], what: str) -> Iterable[str]:
    return [f"{len(names)} {what}: {listed(names)}"] if names else []
