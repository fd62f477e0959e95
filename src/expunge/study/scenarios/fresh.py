"""Whole classes, others for each seed: `class` is class s mod C, `classes:K` that and those after."""

from __future__ import annotations

from expunge.errors import ConfigError
from expunge.study.scenarios.base import AsTyped


class FreshClasses(AsTyped):
    """`class` or `classes:K`."""

    def check(self, text: str) -> None:
        """Raise ConfigError unless K is a whole number; `class:cat` is a request as typed."""
        _number(text)

    def request(self, text: str, seed: int, classes: int) -> str:
        """By index, from the seed on, round and round."""
        number = _number(text)
        if number is None:
            return text
        if number >= classes:
            raise ConfigError(f"{text}: there are {classes} classes, and some must stay")
        return "class:" + ",".join(f"#{(seed + row) % classes}" for row in range(number))

    def whole_classes(self, text: str) -> bool:
        """Always."""
        return True

    def told(self, text: str) -> str:
        """How many."""
        number = _number(text)
        if number is None:
            return text
        return "one class" if number == 1 else f"{number} classes"


def _number(text: str) -> int | None:
    """How many classes; None of a text that names them."""
    kind, colon, number = text.partition(":")
    if kind == "class":
        return None if colon else 1
    if not number.isdigit() or not int(number):
        raise ConfigError(f"scenario {text!r}: write how many, as in classes:2")
    return int(number)
