"""The table of audits. An audit is one file; adding one takes a line here.

Each says whether a model forgot, read against a retrained model; `expunge.scores.table` has what
the single scores mean.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from inspect import isabstract
from types import MappingProxyType
from typing import get_args

from expunge.audits.accuracy import Accuracy
from expunge.audits.activation_distance import ActivationDistance
from expunge.audits.backdoor import Backdoor
from expunge.audits.base import Audit, Need
from expunge.audits.beside import NOTHING, FurtherModels
from expunge.audits.cka import Cka
from expunge.audits.linear_probe import LinearProbe
from expunge.audits.lira import Lira
from expunge.audits.losses import Losses
from expunge.audits.low_fpr import LowFpr
from expunge.audits.mia import Membership
from expunge.audits.near_copies import NearCopies
from expunge.audits.predictions import PredictionDistribution
from expunge.audits.quantile_mia import QuantileMia
from expunge.audits.relearn import RelearnTime
from expunge.audits.rmia import Rmia
from expunge.audits.run_time import RunTime
from expunge.audits.u_lira import ULira
from expunge.audits.weights import WeightDistance
from expunge.audits.zrf import ZeroRetrainForgetting
from expunge.errors import ConfigError, nearest
from expunge.names.catalogue import Catalogue
from expunge.names.tables import by_name
from expunge.scores.info import GOALS, ScoreInfo
from expunge.scores.table import SCORES

CLASSES: tuple[type[Audit], ...] = (
    Accuracy,
    Membership,
    Backdoor,
    RelearnTime,
    LinearProbe,
    WeightDistance,
    PredictionDistribution,
    Losses,
    RunTime,
    Rmia,
    Lira,
    ULira,
    QuantileMia,
    LowFpr,
    NearCopies,
    ActivationDistance,
    ZeroRetrainForgetting,
    Cka,
)
AUDITS: Mapping[str, type[Audit]] = by_name("audit", ((a.name, a) for a in CLASSES))


def _admit(made: object, told: str) -> type[Audit]:
    """A class of audit; ConfigError says what it lacks."""
    if not (isinstance(made, type) and issubclass(made, Audit)):
        raise ConfigError(f"{told} is no audit: derive a class from expunge's Audit")
    kinds = {"name": str, "info": tuple, "needs": frozenset}
    lacking = [
        name for name, kind in kinds.items() if not isinstance(getattr(made, name, None), kind)
    ]
    lacking += [] if made.__doc__ else ["a docstring"]
    lacking += ["scores()"] if isabstract(made) else []
    if lacking:
        raise ConfigError(f"{told} lacks {', '.join(lacking)}; every audit has these")
    check_declared(made, told)
    return made


def check_declared(audit: type[Audit], told: str) -> None:
    """Raise ConfigError for scores or needs that an audit cannot declare."""
    ours = {info.name for one in AUDITS.values() for info in one.info} | set(SCORES)
    for info in audit.info:
        if not isinstance(info, ScoreInfo):
            raise ConfigError(f"{told}: info holds {info!r}; give ScoreInfo objects")
        if info.name in ours and info != SCORES.get(info.name):
            raise ConfigError(
                f"{told}: a score called {info.name!r} is there already; choose a name"
            )
        if info.target not in GOALS:
            raise ConfigError(
                f"{told}: score {info.name!r} has the target {info.target!r}"
                f"{nearest(info.target, GOALS)}; there are: {', '.join(GOALS)}"
            )
    known = get_args(Need)
    for need in audit.needs:
        if need not in known:
            raise ConfigError(
                f"{told}: needs {need!r}{nearest(need, known)}; there are: {', '.join(known)}"
            )


ALL_AUDITS: Catalogue[type[Audit]] = Catalogue(
    "audit", "expunge.audits", AUDITS, _admit, lambda audit: audit.name
)
"""All that `--also` takes: these, those of installed packages, and `module:Class`."""


def audit_of(score: str) -> type[Audit]:
    """The audit of this package that gives a score."""
    return next(a for a in AUDITS.values() if score in {info.name for info in a.info})


def further_audits() -> list[str]:
    """Names of the audits that are made only when asked for."""
    return [name for name in ALL_AUDITS.names() if name not in AUDITS or not AUDITS[name].usual]


def make_audit(name: str, *, allow_code: bool) -> Audit:
    """An audit by name or `module:Class`, with its default settings.

    allow_code: whether `module:Class` may be imported; False for a name from a file.
    Raises ConfigError, which says what there is.
    """
    return ALL_AUDITS.find(name, allow_code=allow_code)()


def chosen_audits(
    also: Sequence[str | Audit], *, beside: Collection[Need] = (), allow_code: bool
) -> list[Audit]:
    """The usual audits and some more, in the order of the table.

    also: names, or objects; an object takes the place of the usual one of its name.
    beside: what there is besides the model: "original", "retrained", "shadows", "method". allow_code:
    whether `module:Class` may be imported; False for names from a file.

    Raises ConfigError for names that there are not, or an audit that lacks a model to compare with.
    """
    found = {name: audit() for name, audit in AUDITS.items() if audit.usual}
    for one in also:
        audit = make_audit(one, allow_code=allow_code) if isinstance(one, str) else one
        audit = audit() if isinstance(audit, type) else audit
        if not isinstance(audit, Audit):
            raise ConfigError(
                f"{audit!r} is no audit; give a name (there are: {', '.join(ALL_AUDITS.names())}) or "
                "an object such as Membership(features=('entropy',))"
            )
        other = found.get(audit.name)
        if other is not None and type(other) is not AUDITS.get(audit.name, type(audit)):
            raise ConfigError(f"two audits are called {audit.name!r}; ask for one of them")
        check_needs(audit, beside)
        found[audit.name] = audit
    order = list(AUDITS)
    return sorted(
        found.values(), key=lambda a: order.index(a.name) if a.name in AUDITS else len(order)
    )


REMEDIES: Mapping[Need, str] = MappingProxyType(
    {
        "original": "compares with the model before forgetting, so give the original too (audit: "
        "--original DIR)",
        "retrained": "compares with a retrained model, so give one too (audit: --retrained DIR; "
        "unlearn: --with-reference)",
        "shadows": "compares with models of a bank, so make one (expunge bank build) and give it "
        "(audit: --bank DIR)",
        "method": "makes the models of a bank forget by the same method, so give a bank that keeps "
        "their weights (audit: --bank DIR) of a model that was made to forget",
        "siblings": "compares many models that the method made with as many retrained ones, so give "
        "them (audit: --sibling DIR)",
        "swapped": "trains two models anew and makes each forget, so give the original, with its "
        "recipe, of a model that a method made (audit: --original DIR)",
    }
)
"""What an audit that needs it says where it is not there."""


def there(
    original: object = None,
    retrained: object = None,
    beside: FurtherModels = NOTHING,
) -> frozenset[Need]:
    """What there is beside a model, as `chosen_audits` takes it; None: it is not."""
    found: dict[Need, object] = {
        "original": original,
        "retrained": retrained,
        "shadows": beside.shadows,
        "method": beside.unlearned,
        "siblings": beside.siblings or None,
        "swapped": beside.swapped,
    }
    return frozenset(need for need, one in found.items() if one is not None)


def check_needs(audit: Audit | type[Audit], beside: Collection[Need]) -> None:
    """Raise ConfigError for an audit that lacks something to compare with."""
    for need, remedy in REMEDIES.items():
        if need in audit.needs and need not in beside:
            raise ConfigError(f"{audit.name} {remedy}")


__all__ = [
    "ALL_AUDITS",
    "AUDITS",
    "Audit",
    "audit_of",
    "check_needs",
    "chosen_audits",
    "further_audits",
    "make_audit",
    "there",
]
