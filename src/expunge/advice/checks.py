"""What can be wrong with asking for advice, told before anything is loaded."""

from __future__ import annotations

from expunge.advice.preference import GUARANTEES
from expunge.errors import ConfigError, nearest
from expunge.scores.table import NEAR_EMPTY


def check_guarantee(guarantee: str) -> None:
    """Raise ConfigError for a guarantee that there is none of."""
    if guarantee not in GUARANTEES:
        raise ConfigError(
            f"no guarantee {guarantee!r}{nearest(guarantee, GUARANTEES)}; there are: "
            f"{', '.join(GUARANTEES)}"
        )


def check_budget(budget: float | None) -> None:
    """Raise ConfigError for a time that is none."""
    if budget is not None and not budget > 0:
        raise ConfigError(f"budget = {budget:g}: give seconds, more than 0")


def check_can_judge(validation: int, name: str) -> None:
    """Raise ConfigError for a model without enough samples to judge by."""
    if validation < NEAR_EMPTY:
        what = f"only {validation}" if validation else "no"
        raise ConfigError(
            f"trials are judged on validation samples, which no model learned from, and {name} has "
            f"{what} of them; import it with --validation ids:FILE, or train it with --validation 0.1"
        )
