"""Further models, which an audit may look at beside the original and the retrained ones."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from expunge.audits.shadows import Shadows, Swapped
    from expunge.trained.trained import Trained


@dataclass(frozen=True, eq=False)
class FurtherModels:
    """What there is beside a model; what is costly is made where an audit asks for it.

    Attributes:
        shadows: models of a bank, which learned from halves of what the original did.
        unlearned: gives those, each made to forget by the method that made the audited model.
        siblings: what that method made from other seeds, for audits that compare laws.
        swapped: gives two models that it made forget different samples, for the audit `swap`.
    """

    shadows: Shadows | None = None
    unlearned: Callable[[], Shadows] | None = None
    siblings: tuple[Trained, ...] = ()
    swapped: Callable[[], Swapped] | None = None


NOTHING = FurtherModels()
