"""Test samples, which nobody learned from, as what the forget set is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from expunge.audits.outputs import Outputs, PartOutputs


def of_never_seen(
    outputs: Outputs, what: Callable[[PartOutputs], NDArray[Any]], *, alike: bool
) -> NDArray[Any]:
    """What is asked about each test sample of some classes: (m, ...); without such samples m is 0.

    what: of all rows of a part, in their order. alike: of the forget set's classes, which a retrained
    model thinks of as it does of the forget set; else of the classes that stay: a model that still knows
    a class forgotten whole treats the forget set like these, and a retrained one does not.
    """
    import numpy as np

    wanted = (outputs.test_kept, outputs.test_forgotten) if alike else (outputs.test_kept,)
    parts = [part for part in wanted if part and part.n]
    if outputs.forget is None or not parts:
        return np.empty(0)
    found = [what(part) for part in parts]
    if alike:
        classes = np.unique(outputs.forget.labels.numpy())
        own = [np.isin(part.labels.numpy(), classes) for part in parts]
        found = [one[rows] for one, rows in zip(found, own, strict=True)]
    return np.concatenate(found)
