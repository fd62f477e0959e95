"""A split that is given as a request to a model."""

from __future__ import annotations

from itertools import chain

from expunge.data.split import Split
from expunge.errors import SplitError


def within(split: Split, base: Split) -> Split:
    """A split as a request to a model, of which nothing that was struck before is read again.

    base: the model's own, settled.
    """
    if split.made_of(base) and set(base.excluded) <= set(split.excluded):
        return split
    struck, learned = set(base.excluded), set(base.retain)
    asked = chain(split.retain, split.forget)
    strange = [key for key in asked if key not in learned and key not in struck]
    if strange:
        raise SplitError(
            f"the split keeps or forgets {strange[0]!r}, which this model never learned from "
            f"({len(strange)} such samples); make it with base=model.split"
        )
    forget = tuple(key for key in split.forget if key not in struck)
    if split.forget and not forget:
        raise SplitError("all of these samples were struck before; name some that were not")
    return Split(
        retain=tuple(key for key in split.retain if key not in struck),
        forget=forget,
        validation=tuple(key for key in split.validation if key not in struck),
        excluded=tuple(sorted({*split.excluded, *struck})),
    )
