"""The table of audits. An audit is one file; adding one takes a line here.

Each says whether a model forgot, read against a retrained model; `expunge.scores.table` has what
the single scores mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from expunge.audits.accuracy import Accuracy
from expunge.audits.backdoor import Backdoor
from expunge.audits.base import Audit
from expunge.audits.losses import Losses
from expunge.audits.mia import Membership
from expunge.audits.predictions import PredictionDistribution
from expunge.audits.relearn import RelearnTime
from expunge.audits.run_time import RunTime
from expunge.audits.weights import WeightDistance
from expunge.errors import ConfigError
from expunge.names.tables import by_name, pick

CLASSES: tuple[type[Audit], ...] = (
    Accuracy,
    Membership,
    Backdoor,
    RelearnTime,
    WeightDistance,
    PredictionDistribution,
    Losses,
    RunTime,
)
AUDITS: Mapping[str, type[Audit]] = by_name("audit", ((a.name, a) for a in CLASSES))


def audit_of(score: str) -> type[Audit]:
    """The audit that gives a score."""
    return next(a for a in AUDITS.values() if score in {info.name for info in a.info})


def further_audits() -> list[str]:
    """Names of the audits that are made only when asked for."""
    return [name for name, audit in AUDITS.items() if not audit.usual]


def make_audit(name: str) -> Audit:
    """An audit by name, with its default settings. Raises ConfigError, which says what there is."""
    return pick("audit", AUDITS, name)()


def chosen(also: Sequence[str | Audit], *, original: bool, retrained: bool) -> list[Audit]:
    """The usual audits and some more, in the order of the table.

    also: names, or objects; an object takes the place of the usual one of its name.
    original, retrained: whether these models are there.

    Raises ConfigError for names that there are not, or an audit that lacks a model to compare with.
    """
    found = {name: audit() for name, audit in AUDITS.items() if audit.usual}
    for one in also:
        audit = make_audit(one) if isinstance(one, str) else one
        check_needs(audit, original=original, retrained=retrained)
        found[audit.name] = audit
    order = list(AUDITS)
    return sorted(
        found.values(), key=lambda a: order.index(a.name) if a.name in AUDITS else len(order)
    )


def check_needs(audit: Audit | type[Audit], *, original: bool, retrained: bool) -> None:
    """Raise ConfigError for an audit that lacks a model to compare with."""
    if "original" in audit.needs and not original:
        raise ConfigError(
            f"{audit.name} compares with the model before forgetting, so give the original too "
            "(audit: --original DIR)"
        )
    if "retrained" in audit.needs and not retrained:
        raise ConfigError(
            f"{audit.name} compares with a retrained model, so give one too (audit: --retrained DIR; "
            "unlearn: --with-reference)"
        )


__all__ = ["AUDITS", "Audit", "check_needs", "chosen", "further_audits", "make_audit"]
