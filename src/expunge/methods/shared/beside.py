"""One pass over the forget set with retain samples beside it, as two methods want it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from expunge.data.parts import Part

if TYPE_CHECKING:
    from expunge.data.view import DataView, Pairs


def retain_beside_forget(data: DataView, size: int, *, epoch: int) -> Pairs:
    """(forget, retain) batches of an epoch: every forget sample once, retain samples drawn anew.

    A forget set of less than a batch meets a whole batch of the retain set, so far as there is one.
    """
    struck = data.source(Part.FORGET)
    drawn = data.named(f"drawn {epoch}").take(Part.RETAIN, max(len(struck), size))
    return data.pairs(struck, drawn, size, epoch=epoch)
