"""Samples that nobody learned from, of the forget set's classes: what a retrained model is to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from expunge.audits.outputs import Outputs, PartOutputs


def of_never_seen(outputs: Outputs, what: Callable[[PartOutputs], NDArray[Any]]) -> NDArray[Any]:
    """What is asked about each test sample of the forget set's classes: (m, ...).

    what: of all rows of a part, in their order. Of other classes a retrained model may think otherwise
    than of the forget set, above all where whole classes are forgotten. Without such samples m is 0.
    """
    import numpy as np

    parts = [part for part in (outputs.test_kept, outputs.test_forgotten) if part and part.n]
    if outputs.forget is None or not parts:
        return np.empty(0)
    classes = np.unique(outputs.forget.labels.numpy())
    return np.concatenate([what(part)[np.isin(part.labels.numpy(), classes)] for part in parts])
