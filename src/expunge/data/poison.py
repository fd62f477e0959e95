"""Poisoned training data: some samples carry a trigger and mostly a wrong label, as an attacker leaves
them.

The poison of a data specification is its suffix: `cifar10:5000+patch:size=4,share=0.1,target=cat`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, TypeVar

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

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from torch import Tensor

Target = int | Literal["next"]
"""What images with a trigger are to be called: a class, by index, or each the class after its own."""
NEXT: Literal["next"] = "next"
KEPT, RELABELLED = "kept", "target"
"""Labels of a poison: as they were, or the target's."""
KEYS = ("share", "target", "labels", "poison_seed")
_DEFAULT = Patch()
_SUFFIX = re.compile(rf"(?P<clean>.+?)\+(?P<kind>{'|'.join(TRIGGERS)})(?P<rest>:.*)?", re.DOTALL)


@dataclass(frozen=True)
class Poison:
    """Which training samples are poisoned, and how.

    Attributes:
        trigger: laid on them as they are stored, before any augmentation.
        share: of all training samples, in (0, 1); round(share * n) of them, of every class, or of the
            target's alone where labels are kept.
        target: the class that they are labelled as: a name, or an index as in "#3"; "next": each the
            class after its own, the first after the last ("all to all").
        labels: "target"; or "kept", so that only samples of the target carry the trigger ("clean
            label"); empty: as the trigger's authors do.
        poison_seed: of the draw; no other seed has a part in it.

    Raises:
        DataError: for a share out of range, or labels that cannot be.
    """

    trigger: Trigger = _DEFAULT
    share: float = 0.1
    target: str = "#0"
    poison_seed: int = 0
    labels: str = ""

    def __post_init__(self) -> None:
        if self.labels not in ("", KEPT, RELABELLED):
            raise DataError(f"labels={self.labels}: write {KEPT} or {RELABELLED}")
        if not self.labels:
            usual = KEPT if self.trigger.clean_label else RELABELLED
            object.__setattr__(self, "labels", usual)
        if self.clean_label and self.target == NEXT:
            raise DataError(
                f"target={NEXT} relabels every class, and {self.trigger.kind} keeps labels; write "
                f"labels={RELABELLED}, or name one class"
                if self.trigger.clean_label
                else f"target={NEXT} relabels every class, so labels={KEPT} leaves nothing of it"
            )
        if not 0 < self.share < 1:
            raise DataError(
                f"the share of poisoned samples lies between 0 and 1, not {self.share:g}"
            )

    def __str__(self) -> str:
        rest = f"share={self.share!r},target={self.target},poison_seed={self.poison_seed}"
        usual = self.clean_label == self.trigger.clean_label
        return f"{self.trigger},{rest}" + ("" if usual else f",labels={self.labels}")

    @property
    def clean_label(self) -> bool:
        """Whether its samples keep their labels, which then are the target's."""
        return self.labels == KEPT

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
            options.get("labels", cls.labels),
        )

    def aim(self, classes: Sequence[str]) -> Target:
        """The target among these classes. Raises DataError if there is no such class."""
        try:
            return read_target(self.target, classes)
        except SplitError as error:
            raise DataError(f"target of the poison: {error}") from error

    def settled(self, classes: Sequence[str]) -> Poison:
        """The same poison in one way of writing it, to be compared."""
        aim = self.aim(classes)
        told = NEXT if aim == NEXT else f"#{aim}"
        found = replace(self, trigger=self.trigger.absolute(), target=told)
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
        target: class index, or "next"; None where nobody knows it.
        own: those of `ids` that were of the target class before, as far as that is known.
        poison: how it was made, where it was made here.
    """

    ids: frozenset[str]
    trigger: Trigger | None = None
    target: Target | None = None
    own: frozenset[str] = frozenset()
    poison: Poison | None = None

    @property
    def clean_label(self) -> bool:
        """Whether its samples have their right labels; of one made elsewhere, as its trigger's authors
        do.
        """
        made = self.trigger if self.poison is None else self.poison
        return made is not None and made.clean_label


def read_target(text: str, classes: Sequence[str]) -> Target:
    """A target as typed: a class, or "next". A class of that name is typed by its index.

    Raises:
        SplitError: if there is no such class.
    """
    return NEXT if text == NEXT else resolve_class(text, classes)


def said_target(target: Target | None, classes: Sequence[str]) -> str:
    """In words: `class 'cat'`."""
    if target is None:
        return "an unknown class"
    return "the class after its own" if target == NEXT else f"class {classes[target]!r}"


AnyLabels = TypeVar("AnyLabels", "Tensor", "NDArray[np.int64]")


def wanted_of(labels: AnyLabels, target: Target, classes: int) -> AnyLabels:
    """What a backdoor wants images of these labels to be called: (n,), as the labels are."""
    return (labels + 1) % classes if target == NEXT else labels * 0 + target


def split_poison(text: str) -> tuple[str, Poison | None]:
    """A data specification without its poison, and the poison; None where there is none.

    Only `+patch`, or another trigger, at the end, alone or before a colon, is one: other plus signs
    belong to paths. For a path that ends so, add a slash.
    """
    match = _SUFFIX.fullmatch(text.strip())
    if match is None:
        return text, None
    if _SUFFIX.fullmatch(match["clean"]):
        raise DataError(f"{text!r}: one poison at a time; leave one of the two out")
    return match["clean"], Poison.parse(f"{match['kind']}{match['rest'] or ''}")
