"""What a study may ask to forget: the shape of a scenario, and those that `--forget` takes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from expunge.data.request import check_request, read_ids

if TYPE_CHECKING:
    from expunge.data.load import Data
    from expunge.data.split import Split
    from expunge.trained.trained import Trained
    from expunge.training.run import Run
    from expunge.transfer.target import TargetTask


@dataclass(frozen=True)
class Given:
    """What a scenario may look at when a cell is made.

    original: not to be changed; its split is that before forgetting. transfer: the target task, if
    the study has one; target: its data in the source's form, by their specification.
    """

    original: Trained
    seed: int
    run: Run
    transfer: TargetTask | None
    target: Callable[[str], Data]


class Scenario(Protocol):
    """A kind of forget request. `text` is as the study file has it."""

    def check(self, text: str) -> None:
        """Raise ConfigError for a text that cannot be meant."""
        ...

    def request(self, text: str, seed: int, classes: int) -> str:
        """The request of one seed, which becomes part of a cell's key."""
        ...

    def content(self, text: str) -> str:
        """A digest of what the text only points to, such as a file; empty if it says it all."""
        ...

    def split(self, request: str, given: Given) -> Split:
        """What that request forgets."""
        ...

    def told(self, text: str) -> str:
        """In words, for tables."""
        ...

    def whole_classes(self, text: str) -> bool:
        """Whether it forgets all samples of some classes, as far as the text says."""
        ...


class AsTyped:
    """Whatever `--forget` takes; random requests draw with the seed."""

    def check(self, text: str) -> None:
        """Raise SplitError for what `--forget` could not read; of the rest, only data can tell."""
        check_request(text)

    def request(self, text: str, seed: int, classes: int) -> str:
        """The same for every seed."""
        return text

    def content(self, text: str) -> str:
        """A digest of the ids that a file names; empty for other requests."""
        kind, _, rest = text.partition(":")
        if kind != "ids":
            return ""
        names = "\n".join(sorted(set(read_ids(rest, typed=False))))
        return hashlib.sha256(names.encode()).hexdigest()

    def split(self, request: str, given: Given) -> Split:
        """As `--forget` reads it."""
        return given.original.asked(request, seed=given.seed)

    def whole_classes(self, text: str) -> bool:
        """Of `class:NAME`; of a list of ids only the data could tell."""
        return text.partition(":")[0] == "class"

    def told(self, text: str) -> str:
        """`random:0.1` is a random 10%."""
        kind, _, rest = text.partition(":")
        if kind not in ("random", "poison") or not rest:
            return text
        try:
            share = f"{100 * float(rest):g}%"
            return f"random {share}" if kind == "random" else f"{share} of the poison"
        except ValueError:  # `check` says so
            return text
