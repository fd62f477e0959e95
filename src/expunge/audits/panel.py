"""A model beside its original and a retrained one, each observed once: what an audit looks at."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from expunge.audits.observe import observe
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.errors import SplitError
from expunge.scores.margins import STATED, Margins
from expunge.trained.record import Pairing, pairing

if TYPE_CHECKING:
    from expunge.audits.shadows import Shadows, Swapped
    from expunge.data.split import Split
    from expunge.trained.trained import Trained
    from expunge.training.recipe import Settings
    from expunge.training.run import Run

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Panel:
    """What an audit looks at.

    Attributes:
        subject: the model that is judged.
        split: what it was asked to forget.
        run: device, task and progress.
        original: the model before, if it is there.
        retrained: the reference, if it is there.
        others: further retrained models, from other seeds: they show how far chance alone goes.
        pair: a retraining that is paired with the original, to measure distances of weights from; None:
            the reference itself.
        seed: of the draws of attacks.
        shadows: models of the bank, which learned from halves of what the original did; or None.
        unlearned: gives those shadows, made to forget as the subject was; None where nobody can.
        siblings: what the subject's method made from other seeds, for audits that compare laws.
        margins: what difference from retraining does not matter, score by score.
        swapped: gives two models that this method made forget different samples; or None.
        kept: what was found of the other models, which panels of other subjects share: see `once`
            and `judging`.
    """

    subject: Trained
    split: Split
    run: Run
    original: Trained | None = None
    retrained: Trained | None = None
    others: tuple[Trained, ...] = ()
    pair: Trained | None = None
    seed: int = 0
    shadows: Shadows | None = None
    unlearned: Callable[[], Shadows] | None = None
    siblings: tuple[Trained, ...] = ()
    margins: Margins = STATED
    swapped: Callable[[], Swapped] | None = None
    kept: dict[Hashable, Any] = field(default_factory=dict)

    @cached_property
    def outputs(self) -> Outputs:
        """The subject's outputs on every part."""
        return self.observed(self.subject)

    @property
    def original_outputs(self) -> Outputs | None:
        """The original's; None without one."""
        one = self.original
        return None if one is None else self._kept("original", lambda: self.observed(one))

    @property
    def retrained_outputs(self) -> Outputs | None:
        """The retrained model's; None without one."""
        one = self.retrained
        return None if one is None else self._kept("retrained", lambda: self.observed(one))

    @property
    def pairing(self) -> Pairing | None:
        """What the training of the model that weights are compared with shares with the original's."""
        other = self.pair or self.retrained
        return None if other is None else pairing(self.subject.history, other.history)

    @property
    def drawn(self) -> bool:
        """Whether the forget set was drawn at random, as the subject's record says."""
        return self.subject.record.asked.startswith("random:")

    @property
    def references(self) -> tuple[Trained, ...]:
        """All retrained models, the reference first."""
        return tuple(one for one in (self.retrained, *self.others) if one is not None)

    def judging(self, subject: Trained) -> Panel:
        """The same panel with another subject, judged on the same split.

        What is known of the original and the retrained model, or will be, is shared: they are observed
        once, and audits ask `once` about them.
        """
        return replace(self, subject=subject)

    def once(self, audit: Settings, what: str, make: Callable[[], T]) -> T:
        """What an audit says of another model than the subject, made at the first time of asking.

        what: of which model, and what about it. make: finds it; it must not depend on the subject.
        """
        return self._kept((type(audit), repr(audit), what), make)

    def beside(self, other: Trained | None) -> Panel | None:
        """The same panel with one of the other models as its subject; None without it."""
        if other is None:
            return None
        panel = Panel(other, self.split, self.run, seed=self.seed, shadows=self.shadows)
        seen = self.original_outputs if other is self.original else self.retrained_outputs
        if other in self.others:
            seen = self._kept(f"other {self.others.index(other)}", lambda: self.observed(other))
        panel.__dict__["outputs"] = seen
        return panel

    def forget(self, outputs: Outputs | None = None) -> PartOutputs:
        """Outputs on the forget set, by default the subject's."""
        part = (outputs or self.outputs).forget
        if part is None:
            raise SplitError(
                "these scores are about a forget set, and nothing was asked to be forgotten"
            )
        return part

    def _kept(self, key: Hashable, make: Callable[[], T]) -> T:
        if key not in self.kept:
            self.kept[key] = make()
        found: T = self.kept[key]
        return found

    def observed(self, one: Trained) -> Outputs:
        """A model's outputs on every part of this split, made now."""
        return observe(one.model, one.data, self.split, self.run)
