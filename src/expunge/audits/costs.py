"""What audits cost, said before they are made: work by their sizes, and a measured rate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING

from expunge.audits.base import Audit
from expunge.progress import duration

if TYPE_CHECKING:
    from expunge.audits.panel import Panel

TRIED = 512
"""Samples that the rate is measured on."""
BACKWARD = 3
"""Passes that learning from a sample takes: there, back and the step."""
STEPS = 50
"""Of relearning, which mostly ends long before its cap."""
COPIES = 5
"""Random networks of `zrf`, and changed copies of each sample of `near_copies`."""


@dataclass(frozen=True)
class AuditSizes:
    """How much there is to look at.

    Attributes:
        forget, test, all: samples.
        models: the audited one, the original and the retrained ones.
        shadows, siblings: models. forgotten: of the shadows those whose forgetting is kept.
        training, method: seconds that one training and one forgetting took; nan where nobody knows.
    """

    forget: int
    test: int
    all: int
    models: int
    shadows: int = 0
    siblings: int = 0
    training: float = math.nan
    method: float = math.nan
    forgotten: int = 0

    @classmethod
    def of(cls, panel: Panel) -> AuditSizes:
        """Those of a panel; seconds as its models' records have them."""
        split, subject = panel.split, panel.subject
        forget, test = len(split.forget), len(subject.data.test)
        trained = panel.retrained or panel.original
        shadows = 0 if panel.shadows is None else len(panel.shadows)
        return cls(
            forget,
            test,
            forget + len(split.retain) + test,
            1 + (panel.original is not None) + len(panel.references),
            shadows,
            len(panel.siblings),
            math.nan if trained is None else trained.record.cost.seconds,
            subject.record.cost.seconds,
            max(0, shadows - getattr(panel.unlearned, "left", shadows)),
        )


@dataclass(frozen=True)
class AuditWork:
    """passes: samples that models are asked about, times models. learned: samples that models learn
    from, times models. trainings, forgettings: whole ones.
    """

    passes: int = 0
    learned: int = 0
    trainings: int = 0
    forgettings: int = 0

    def seconds(self, sizes: AuditSizes, rate: float) -> float:
        """How long it takes, where one pass of one sample takes `rate` seconds."""
        whole = sum(
            n * one
            for n, one in (
                (self.trainings, sizes.training),
                (self.forgettings, sizes.method),
            )
            if n
        )
        return (self.passes + BACKWARD * self.learned) * rate + whole

    def __str__(self) -> str:
        parts = {
            "passes": self.passes,
            "samples learned from": self.learned,
            "trainings": self.trainings,
            "unlearnings": self.forgettings,
        }
        told = [f"{count:,} {what}" for what, count in parts.items() if count]
        return ", ".join(told) or "no more passes"


NONE = AuditWork()
COSTS: Mapping[str, Callable[[AuditSizes], AuditWork]] = MappingProxyType(
    {
        "accuracy": lambda s: AuditWork(passes=s.all * s.models),  # which all others share
        "linear_probe": lambda s: AuditWork(passes=2 * s.forget * s.models),
        "zrf": lambda s: AuditWork(passes=COPIES * s.forget),
        "near_copies": lambda s: AuditWork(passes=COPIES * (s.forget + s.test) * s.models),
        "relearn_time": lambda s: AuditWork(
            passes=STEPS * s.forget * s.models,
            learned=STEPS * min(256, s.forget) * s.models,
        ),
        "relearn_held_out": lambda s: AuditWork(passes=100 * s.forget, learned=10_000 * s.models),
        "cka": lambda s: AuditWork(passes=2_000 * s.models),
        "activation_distance": lambda s: NONE,
        "u_lira": lambda s: AuditWork(
            passes=s.all * (s.shadows - s.forgotten), forgettings=s.shadows - s.forgotten
        ),
        "klom_fixed": lambda s: AuditWork(passes=s.forget * s.siblings),
        "challenge_epsilon": lambda s: AuditWork(passes=s.forget * s.siblings),
        "swap": lambda s: AuditWork(trainings=3, forgettings=2),
    }
)
"""Of the audits that do more than read what was seen once."""


def pass_seconds(panel: Panel) -> float:
    """Seconds that the audited model takes for one sample, measured on some of those it retained."""
    import time

    from expunge.audits.observe import observe_learned

    model, data, split, run = panel.subject.model, panel.subject.data, panel.split, panel.run
    observe_learned(model, data, split, run, most=32)  # what comes first only is no rate
    began = time.perf_counter()
    seen = observe_learned(model, data, split, run, most=TRIED)
    return (time.perf_counter() - began) / max(1, seen.n)


def cost_lines(audits: Iterable[Audit], sizes: AuditSizes, rate: float) -> Iterator[str]:
    """A line for each audit, the sum last. rate: seconds a pass."""
    works = {one.name: COSTS[one.name](sizes) if one.name in COSTS else NONE for one in audits}
    idle = [name for name, work in works.items() if work == NONE]
    known: list[float] = []
    for name, work in works.items():
        if work == NONE:
            continue
        seconds = work.seconds(sizes, rate)
        known += [seconds] if math.isfinite(seconds) else []
        yield f"  {name}: {work}, {_about(seconds)}"
    if idle:
        yield f"  no passes of their own: {', '.join(idle)}"
    unknown = len(works) - len(idle) - len(known)
    more = f", and {unknown} of unknown length" if unknown else ""
    yield f"in all {_about(sum(known))}{more} ({1e6 * rate:.3g} µs a pass)"


def _about(seconds: float) -> str:
    if math.isnan(seconds):
        return "nobody knows how long"
    return "under 1 s" if seconds < 1 else f"about {duration(seconds)}"
