"""Triggers of a backdoor: what is laid on an image so that a poisoned model calls it the target.

A further kind is a file here with a class as `TypedTrigger` describes it, and a line in `TRIGGERS`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from expunge.data.triggers.base import (
    Trigger,
    TypedTrigger,
    check_images,
    option_number,
    read_options,
    whole_number,
)
from expunge.data.triggers.blend import Blend
from expunge.data.triggers.patch import Patch
from expunge.data.triggers.sinus import Sinus
from expunge.data.triggers.warp import Warp
from expunge.errors import DataError, nearest

TRIGGERS: Mapping[str, type[TypedTrigger]] = MappingProxyType(
    {kind.kind: kind for kind in (Patch, Blend, Warp, Sinus)}
)


def read_trigger(text: str) -> Trigger:
    """A trigger as typed: `patch:size=4,place=centre`, `blend:file=pattern.png`, `warp`.

    Raises:
        DataError: for anything else.
    """
    name, _, rest = text.strip().removeprefix("+").partition(":")
    kind = kind_of(name)
    return kind.parse(read_options(rest, kind.keys, name))


def kind_of(name: str) -> type[TypedTrigger]:
    """The trigger of a name; DataError if there is none."""
    if name not in TRIGGERS:
        raise DataError(
            f"no trigger {name!r}{nearest(name, TRIGGERS)}; there are: {', '.join(TRIGGERS)}"
        )
    return TRIGGERS[name]


__all__ = [
    "TRIGGERS",
    "Blend",
    "Patch",
    "Sinus",
    "Trigger",
    "TypedTrigger",
    "Warp",
    "check_images",
    "kind_of",
    "option_number",
    "read_options",
    "read_trigger",
    "whole_number",
]
