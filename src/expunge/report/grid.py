"""A table of typed cells, before it is known what it will be written in."""

from __future__ import annotations

from dataclasses import dataclass, replace

from expunge.report.cells import NOTHING, TableCell, text_of


@dataclass(frozen=True)
class Column:
    """A header, and what the column means; empty where nobody has said that. words: it holds words, no
    numbers.
    """

    header: str
    reads: str = ""
    words: bool = False


@dataclass(frozen=True)
class Line:
    """A row: a cell for each column. kind: yardstick, best, failed or empty."""

    cells: tuple[TableCell, ...]
    kind: str = ""

    @property
    def texts(self) -> list[str]:
        """The cells as plain text."""
        return [text_of(cell) for cell in self.cells]


@dataclass(frozen=True)
class Grid:
    """A table. named: place of the column that names its rows; all after it hold numbers, but for those
    of words.
    """

    columns: tuple[Column, ...]
    lines: tuple[Line, ...]
    named: int = 0

    @property
    def numeric(self) -> list[bool]:
        """Of each column, whether it holds numbers."""
        return [n > self.named and not one.words for n, one in enumerate(self.columns)]

    @property
    def headers(self) -> list[str]:
        """The headers as plain text."""
        return [column.header for column in self.columns]

    @property
    def texts(self) -> list[list[str]]:
        """The lines as plain text."""
        return [line.texts for line in self.lines]

    def without_empty(self) -> Grid:
        """The same without columns that hold nothing in any line."""
        used = [
            place <= self.named or any(line.cells[place].main != NOTHING for line in self.lines)
            for place in range(len(self.columns))
        ]
        columns = tuple(one for one, shown in zip(self.columns, used, strict=True) if shown)
        lines = tuple(
            replace(
                line, cells=tuple(c for c, shown in zip(line.cells, used, strict=True) if shown)
            )
            for line in self.lines
        )
        return replace(self, columns=columns, lines=lines)
