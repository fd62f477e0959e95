"""What can be wrong with asking for advice, told before anything is loaded."""

from __future__ import annotations

from expunge.advice.preference import GUARANTEES, Guarantee
from expunge.errors import ConfigError, nearest
from expunge.scores.table import NEAR_EMPTY


def known_guarantee(word: str) -> Guarantee:
    """The guarantee of that name. Raises ConfigError where there is none."""
    for one in GUARANTEES:
        if one == word:
            return one
    raise ConfigError(
        f"no guarantee {word!r}{nearest(word, GUARANTEES)}; there are: {', '.join(GUARANTEES)}"
    )


def check_budget(budget: float | None) -> None:
    """Raise ConfigError for a time that is none."""
    if budget is not None and not budget > 0:
        raise ConfigError(f"budget = {budget:g}: give seconds, more than 0")


def check_can_judge(validation: int, name: str) -> None:
    """Raise ConfigError for a model without enough samples to judge by."""
    if validation < NEAR_EMPTY:
        has = f"only {validation} of them ({NEAR_EMPTY} are needed)" if validation else "none"
        raise ConfigError(
            f"trials are judged on validation samples, which no model learned from, and {name} has "
            f"{has}; import it with --validation ids:FILE, or train it with --validation 0.1"
        )


def check_enough(forget: int) -> None:
    """Raise ConfigError for a request too small to judge by."""
    if forget < NEAR_EMPTY:
        raise ConfigError(
            f"no trial can be judged by so few samples to forget ({forget}; {NEAR_EMPTY} are needed); "
            "take one of the methods that are named without a trial, or retrain"
        )
