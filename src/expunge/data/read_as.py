"""What a model knows of how its data were read, so that they are read so again."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from expunge.data.drawing import DRAWING, Drawing

if TYPE_CHECKING:
    from expunge.data.aside import Home
    from expunge.data.columns import TableEncoding


class ReadAs(NamedTuple):
    """Of data in general nothing is known, so each field has what is done by default.

    home: for data with ids of their own: which of them went to training, and which to testing.
    drawing: how encoded images become pixels, as far as the specification does not say.
    table: which inputs the columns of a table are; None: made anew. pointers: files that say which
    ledgers of deletion requests speak of them.
    """

    home: Home | None = None
    drawing: Drawing = DRAWING
    table: TableEncoding | None = None
    pointers: tuple[Path, ...] = ()


AS_BY_DEFAULT = ReadAs()
"""Data that no model has learned from."""
