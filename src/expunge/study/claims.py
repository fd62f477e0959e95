"""Statements about a study's results, as they are written; `verdicts` decides them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from expunge.errors import ConfigError, nearest
from expunge.scores.rows import SETTING

KEYS = (*SETTING, "sparsity")
SIDE = re.compile(
    r"^\s*(?:(?P<score>\S.*?)\s+of\s+(?P<method>\S.*?))?\s*(?:\bat\s+(?P<at>.+?))?\s*$"
)
NUMBER = re.compile(r"\d*\.?\d+ ?%?")
HINT = "write one like `average gap of finetune at density 95 % omp < at density dense`"


@dataclass(frozen=True)
class Side:
    """One side of a claim: a score of a method, under some of the study's settings."""

    score: str
    method: str
    at: Mapping[str, str]

    @property
    def sparsity(self) -> float | None:
        """The sparsity that is asked for, in [0, 1]; None where none is."""
        text = self.at.get("sparsity")
        if text is None:
            return None
        return float(text.rstrip("% ")) / (100 if text.endswith("%") else 1)


@dataclass(frozen=True)
class Claim:
    """`less` is smaller than `more`. text: as written."""

    text: str
    less: Side
    more: Side


def parse_claim(text: str) -> Claim:
    """Read `SCORE of METHOD [at KEY VALUE, ...] < [SCORE of METHOD] [at KEY VALUE, ...]`.

    KEY is data, model, recipe, density, scenario or sparsity; on the right, what is left out is as
    on the left, and a value alone is of the left side's only key. Raises ConfigError.
    """
    sides = text.split("<")
    if len(sides) != 2:
        raise ConfigError(f"claim {text!r} compares nothing: {HINT}")
    left, right = (SIDE.match(side) for side in sides)
    if left is None or right is None or not left["score"]:
        raise ConfigError(f"claim {text!r} names no score of a method: {HINT}")
    at = _settings(text, left["at"], {})
    less = Side(left["score"], left["method"], at)
    changed = {**at, **_settings(text, right["at"], at)}
    more = Side(right["score"] or less.score, right["method"] or less.method, changed)
    if less == more:
        raise ConfigError(f"claim {text!r} compares something with itself: {HINT}")
    return Claim(text, less, more)


def _settings(text: str, at: str | None, left: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for part in (at or "").split(","):
        if not part.strip():
            continue
        key, _, value = part.strip().partition(" ")
        if key not in KEYS:
            if len(left) == 1:  # a value alone
                key, value = next(iter(left)), part.strip()
            else:
                raise ConfigError(
                    f"claim {text!r}: no setting {key!r}{nearest(key, KEYS)}; there are: "
                    f"{', '.join(KEYS)}"
                )
        if not value.strip():
            raise ConfigError(f"claim {text!r}: {key} has no value: {HINT}")
        if key == "sparsity" and not NUMBER.fullmatch(value.strip()):
            raise ConfigError(f"claim {text!r}: sparsity {value.strip()!r} is no number: {HINT}")
        found[key] = value.strip()
    return found
