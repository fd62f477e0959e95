"""Poisoned training data: some samples carry a trigger and a wrong label, as an attacker leaves them.

The poison of a data specification is its suffix: `cifar10:5000+patch:size=4,share=0.1,target=cat`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace

from expunge.data.classes import MOST_DIGITS, resolve_class
from expunge.data.triggers import (
    TRIGGERS,
    Patch,
    Trigger,
    kind_of,
    option_number,
    read_options,
)
from expunge.errors import DataError, SplitError

KEYS = ("share", "target", "poison_seed")
_DEFAULT = Patch()
_SUFFIX = re.compile(rf"(?P<clean>.+?)\+(?P<kind>{'|'.join(TRIGGERS)})(?P<rest>:.*)?", re.DOTALL)


@dataclass(frozen=True)
class Poison:
    """Which training samples are poisoned, and how.

    Attributes:
        trigger: laid on them as they are stored, before any augmentation.
        share: of all training samples, of every class, in (0, 1); round(share * n) of them.
        target: the class that they are labelled as: a name, or an index as in "#3".
        poison_seed: of the draw; no other seed has a part in it.

    Raises:
        DataError: for a share out of range.
    """

    trigger: Trigger = _DEFAULT
    share: float = 0.1
    target: str = "#0"
    poison_seed: int = 0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise DataError(
                f"the share of poisoned samples lies between 0 and 1, not {self.share:g}"
            )

    def __str__(self) -> str:
        rest = f"share={self.share!r},target={self.target},poison_seed={self.poison_seed}"
        return f"{self.trigger},{rest}"

    @classmethod
    def parse(cls, text: str) -> Poison:
        """Read `patch`, `patch:size=4x6,place=centre,share=0.05,target=cat`, `blend:file=hello.png`.

        A leading + is allowed. Raises DataError for unknown keys and values out of range.
        """
        kind, _, rest = text.strip().removeprefix("+").partition(":")
        trigger = kind_of(kind)
        options = read_options(rest, (*trigger.keys, *KEYS), kind)
        seed = options.get("poison_seed", "0")
        if not seed.isdecimal() or len(seed) > MOST_DIGITS:
            raise DataError(f"poison_seed={seed}: write a whole number from 0")
        return cls(
            trigger.parse({key: value for key, value in options.items() if key in trigger.keys}),
            option_number("share", options.get("share", str(cls.share))),
            options.get("target", cls.target),
            int(seed),
        )

    def index(self, classes: Sequence[str]) -> int:
        """The target's class index. Raises DataError if there is no such class."""
        try:
            return resolve_class(self.target, classes)
        except SplitError as error:
            raise DataError(f"target of the poison: {error}") from error

    def settled(self, classes: Sequence[str]) -> Poison:
        """The same poison in one way of writing it, to be compared."""
        found = replace(self, trigger=self.trigger.absolute(), target=f"#{self.index(classes)}")
        if "," in getattr(found.trigger, "file", ""):
            raise DataError(
                f"the pattern's path {getattr(found.trigger, 'file', '')} holds a comma, which cannot "
                "be written into a data specification; move the file"
            )
        return found


@dataclass(frozen=True)
class Poisoning:
    """What is known of the poison in some training data.

    Attributes:
        ids: of poisoned training samples.
        trigger: None where nobody knows it, as in a file that was poisoned elsewhere.
        target: class index; None where nobody knows it.
        own: those of `ids` that were of the target class before, as far as that is known.
        poison: how it was made, where it was made here.
    """

    ids: frozenset[str]
    trigger: Trigger | None = None
    target: int | None = None
    own: frozenset[str] = frozenset()
    poison: Poison | None = None


def split_poison(text: str) -> tuple[str, Poison | None]:
    """A data specification without its poison, and the poison; None where there is none.

    Only `+patch` or `+blend` at the end, alone or before a colon, is one: other plus signs belong to
    paths. For a path that ends so, add a slash.
    """
    match = _SUFFIX.fullmatch(text.strip())
    if match is None:
        return text, None
    if _SUFFIX.fullmatch(match["clean"]):
        raise DataError(f"{text!r}: one poison at a time; leave one of the two out")
    return match["clean"], Poison.parse(f"{match['kind']}{match['rest'] or ''}")
