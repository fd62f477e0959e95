"""Three small machines: what may become of a request, of a batch and of a model that serves."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from expunge.errors import RequestError

REQUEST: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "received": ("verified", "refused", "withdrawn", "duplicate"),
        "verified": ("approved", "refused", "withdrawn", "duplicate"),
        "approved": ("struck",),
        "struck": ("in_batch",),
        "in_batch": ("released", "struck"),
        "released": ("certified", "struck"),
        "certified": ("closed", "struck"),
        "closed": ("struck",),
        "refused": (),
        "withdrawn": (),
        "duplicate": ("received", "withdrawn"),
    }
)
"""State -> the next ones. A request is struck at its approval and never unstruck: what follows only says
how far the models are. A batch that is abandoned gives its requests back, and so does going back to a
model that learned what was struck since. A duplicate is received anew where the other ends otherwise."""
BATCH: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "open": ("frozen", "abandoned"),
        "frozen": ("unlearning", "retraining", "abandoned"),
        "unlearning": ("gating", "abandoned"),
        "gating": ("passed", "failed", "invalid", "undecided", "abandoned"),
        "failed": ("retraining", "abandoned"),
        "invalid": ("retraining", "abandoned"),
        "undecided": ("retraining", "abandoned"),
        "retraining": ("gating", "abandoned"),
        "passed": ("released", "abandoned"),
        "released": (),
        "abandoned": (),
    }
)
UNDECIDED = ("received", "verified")
"""States of a request for which nothing is struck yet."""
ENDED = ("refused", "withdrawn")
"""Of one that came to nothing."""
TO_BE_DONE = ("approved", "struck", "in_batch", "released")
"""Of one that will be certified."""
ANSWERED = ("certified", "closed")
"""Of one that was."""
STRUCK = (*TO_BE_DONE[1:], *ANSWERED)
"""Of one whose samples are struck."""
FORGOTTEN = ("released", *ANSWERED)
"""Of one whose samples are forgotten in the model that served since."""
RELEASE: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "candidate": ("live", "retired"),
        "live": ("retired", "rolled_back"),
        "retired": ("live",),
        "rolled_back": ("live",),
    }
)
"""A candidate passed its gate and waits; what was retired, or rolled back from, may serve again by a
person's decision alone."""
MACHINES: Mapping[str, Mapping[str, tuple[str, ...]]] = MappingProxyType(
    {"request": REQUEST, "batch": BATCH, "release": RELEASE}
)


def check_move(machine: str, name: str, state: str, to: str) -> None:
    """Raise RequestError for a step that a machine has not.

    machine: "request", "batch" or "release". name: of the one in question, as a person knows it.
    """
    allowed = MACHINES[machine][state]
    if to not in allowed:
        then = f"from there it may become {', '.join(allowed)}" if allowed else "that is its end"
        raise RequestError(f"{name} is {state} and cannot become {to}: {then}")
