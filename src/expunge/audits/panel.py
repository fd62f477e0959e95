"""A model beside its original and a retrained one, each observed once: what an audit looks at."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from expunge.audits.observe import observe
from expunge.audits.outputs import Outputs, PartOutputs
from expunge.errors import SplitError
from expunge.trained.record import Pairing, pairing

if TYPE_CHECKING:
    from expunge.data.split import Split
    from expunge.trained.trained import Trained
    from expunge.training.run import Run


@dataclass(frozen=True, eq=False)
class Panel:
    """What an audit looks at.

    Attributes:
        subject: the model that is judged.
        split: what it was asked to forget.
        run: device, task and progress.
        original: the model before, if it is there.
        retrained: the reference, if it is there.
        seed: of the draws of attacks.
        kept: what an audit has found of the other models, by the audit's name, for a panel with
            another subject.
    """

    subject: Trained
    split: Split
    run: Run
    original: Trained | None = None
    retrained: Trained | None = None
    seed: int = 0
    kept: dict[str, Any] = field(default_factory=dict)

    @cached_property
    def outputs(self) -> Outputs:
        """The subject's outputs on every part."""
        return self._seen(self.subject)

    @cached_property
    def original_outputs(self) -> Outputs | None:
        """The original's; None without one."""
        return None if self.original is None else self._seen(self.original)

    @cached_property
    def retrained_outputs(self) -> Outputs | None:
        """The retrained model's; None without one."""
        return None if self.retrained is None else self._seen(self.retrained)

    @property
    def paired(self) -> Pairing | None:
        """What the retrained model's training shares with the original's."""
        if self.retrained is None:
            return None
        return pairing(self.subject.history, self.retrained.history)

    def beside(self, other: Trained | None) -> Panel | None:
        """The same panel with one of the other models as its subject; None without it."""
        if other is None:
            return None
        panel = Panel(other, self.split, self.run, seed=self.seed)
        seen = self.original_outputs if other is self.original else self.retrained_outputs
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

    def _seen(self, one: Trained) -> Outputs:
        return observe(one.model, one.data, self.split, self.run)
