"""Test samples, which nobody learned from, as what the forget set is compared with."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from expunge.audits.outputs import Outputs, PartOutputs
    from expunge.audits.shadows import Shadows


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


def spared(shadows: Shadows, rows: NDArray[np.intp]) -> NDArray[np.bool_]:
    """Which models of a bank speak for a sample that they did not learn from: (K, n).

    Of a sample that was learned from, one half of them. What nobody learned from has the same: of each
    pair of models one, drawn by the sample's id. With all of them its mean would be steadier than a
    forgotten sample's, and among the largest numbers there would be too many of the latter.
    """
    import numpy as np

    from expunge.data.keyed import hashes_of, mixed

    learned, hashes = shadows.learned[:, rows], hashes_of(shadows.ids[rows], "spared")
    mine = [mixed(hashes, "pair", one // 2) % 2 == one % 2 for one in range(len(shadows))]
    return np.asarray(np.where(learned.any(axis=0), ~learned, mine), dtype=np.bool_)
