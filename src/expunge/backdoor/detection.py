"""What a detector says of a model: a word that the samples can carry, the reason, and the numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

SUSPECT: Final = "suspect"
NOTHING: Final = "nothing found"
CANNOT_TELL: Final = "cannot tell"
Word = Literal["suspect", "nothing found", "cannot tell"]


@dataclass(frozen=True)
class Detection:
    """What one detector found.

    Attributes:
        detector: its name.
        word: `suspect`, `nothing found` (which is no proof that there is nothing), or `cannot tell`.
        why: the reason, in a sentence without its full stop.
        statistic: what the word rests on; None where nothing was measured.
        threshold: from where on it is suspect; fixed on other models.
        suspects: class indices, the most suspicious first.
        by_class: name of a column -> one number per class; nan where there is none.
        samples: ids that stand out -> their score, the most suspicious first.
        detail: further numbers.
    """

    detector: str
    word: Word
    why: str
    statistic: float | None = None
    threshold: float | None = None
    suspects: tuple[int, ...] = ()
    by_class: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    samples: Mapping[str, float] = field(default_factory=dict)
    detail: Mapping[str, Any] = field(default_factory=dict)
