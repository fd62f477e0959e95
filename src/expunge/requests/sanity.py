"""Whether a retrained model came out as one should, before it serves."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from expunge.trained.trained import Trained

MOST_LOST_POINTS = 5.0
"""Accuracy on the test set, or without one on what is retained, that a retrained model may lose."""


def still_learned(made: Trained, hmacs: Collection[str], hmac: Callable[[str], str]) -> list[str]:
    """Ids that a model learned from or was validated on, of those that some HMACs stand for."""
    return [one for one in (*made.split.retain, *made.split.validation) if hmac(one) in hmacs]


def sanity_of(
    original: Trained, made: Trained, hmacs: Collection[str], hmac: Callable[[str], str]
) -> dict[str, Any]:
    """What was looked at, and whether all of it is as it must be.

    That nothing of the batch is left among what it learned from or was validated on; that its
    accuracy on the test set (without one, on what is retained) is no more than `MOST_LOST_POINTS`
    below the model that it follows.
    """
    from expunge.api import audit

    left = still_learned(made, hmacs, hmac)
    scores = audit(made, original=original, allow_code=False)  # the usual ones alone
    name = "TA" if any(score.name == "TA" for score in scores) else "RA"
    after = scores[name]
    before = float(after.detail.get("original", math.nan))
    lost = before - after.value
    wrong = []
    if left:
        wrong.append(f"{len(left)} struck samples are still learned from")
    if not lost <= MOST_LOST_POINTS:
        wrong.append(
            f"{name} is {after.value:.1f} and was {before:.1f}; "
            f"more than {MOST_LOST_POINTS:g} points lost"
        )
    return {
        "passed": not wrong,
        "why": "; ".join(wrong),
        "left": len(left),
        "left_before": len(still_learned(original, hmacs, hmac)),
        "score": name,
        "before": None if math.isnan(before) else before,
        "after": None if math.isnan(after.value) else after.value,
        "limit": MOST_LOST_POINTS,
        "scores": {one.name: one.value for one in scores if math.isfinite(one.value)},
    }
