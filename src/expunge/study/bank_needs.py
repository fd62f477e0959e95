"""Which audits of a study look at models of a bank, and what of that a study can give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from expunge.audits import AUDITS
from expunge.audits.base import Audit, Need
from expunge.errors import ConfigError
from expunge.methods import find_method
from expunge.study.entries import is_ours

FEWEST_FORGETTING = 6
"""Models without which each has too few others, made to forget, to be compared with."""
NOT_HERE: Mapping[Need, str] = {
    "siblings": "compares many models of one original, and each seed of a study has an original of its "
    "own; ask for it with `expunge audit --sibling`",
    "swapped": "trains two models of its own, which no row of a study shares; ask for it with "
    "`expunge audit`",
}
"""What no study gives an audit, and what to do."""


def needs_of(audits: Iterable[str]) -> frozenset[Need]:
    """What some audits need, by name. Of others' code nobody knows it here: it may look at a bank."""
    found: set[Need] = set()
    for name in audits:
        found |= AUDITS[name].needs if name in AUDITS else {"shadows"}
    return frozenset(found)


def check_audits(models: int, audits: Sequence[str]) -> None:
    """Raise ConfigError for audits that a study cannot make, for a bank that they lack, or that none of
    them needs, and for a number of models that no bank has.
    """
    ours = {name: AUDITS[name].needs for name in audits if name in AUDITS}
    for name, needs in ours.items():
        for need, why in NOT_HERE.items():
            if need in needs:
                raise ConfigError(f"also: {name} {why}")
    if models % 2 or models < 0:
        raise ConfigError(
            f"bank: {models}: its models come in pairs; give an even number, 2 or more"
        )
    asks = {name: needs for name, needs in ours.items() if "shadows" in needs}
    if asks and not models:
        raise ConfigError(
            f"also: {', '.join(asks)}: looks at models of a bank, and there is none; give their number "
            "for each original, as in bank: 16"
        )
    if models and not asks and len(ours) == len(audits):
        raise ConfigError(
            f"bank: {models} models of each original, and no audit looks at them; leave bank out, or "
            "name one that does under also, such as rmia"
        )
    forgetting = [name for name, needs in asks.items() if "method" in needs]
    if forgetting and models < FEWEST_FORGETTING:
        raise ConfigError(
            f"also: {', '.join(forgetting)}: compares pairs of models with each other; give bank: "
            f"{FEWEST_FORGETTING} or more, and 16 for a finding"
        )


def check_foreign(audit: Audit, models: int) -> None:
    """Raise ConfigError for an audit of others' code that needs what the study does not have."""
    lacks = audit.needs & {"method", *NOT_HERE} or (not models and audit.needs & {"shadows"})
    if lacks:
        what = "has no bank; give one, as in bank: 16" if "shadows" in lacks else "gives none"
        raise ConfigError(
            f"also: {audit.name} needs {', '.join(sorted(lacks))}, and the study {what}"
        )


def without_bank(audits: Iterable[str], method: str | None, models: int) -> tuple[str, ...]:
    """The audits of a row: of a method of ours that takes part in training none that looks at a bank,
    whose models are trained without it.

    method: its name; None of the original. models: of the bank, 0 without one.
    """
    found = tuple(audits)
    if not models or method is None or not is_ours(method):
        return found
    if not find_method(method, allow_code=False).takes_part:
        return found
    return tuple(name for name in found if name in AUDITS and "shadows" not in AUDITS[name].needs)
