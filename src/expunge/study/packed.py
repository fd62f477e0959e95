"""Many cells in one file: `cells.jsonl.gz`, a line for each cell and for each failure.

A line is one JSON object: {"cell": what cell.json holds, "key": the cell's key}, or {"failed": error,
message and run, "key": ...}. Fields are sorted, lines stand in the order of their keys, and no time goes
into the file, so the same results give the same bytes (by the same zlib).
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.errors import ConfigError

PACKED = "cells.jsonl.gz"


@dataclass(frozen=True)
class Packed:
    """What a packed file holds. cells, failures: key -> the JSON text of its line."""

    cells: Mapping[str, str] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)

    def cell(self, key: str) -> dict[str, Any]:
        """What a cell says; a new object at each call."""
        content: dict[str, Any] = json.loads(self.cells[key])["cell"]
        return content

    def failure(self, key: str) -> dict[str, Any]:
        """Why a cell could not be made; a new object at each call."""
        content: dict[str, Any] = json.loads(self.failures[key])["failed"]
        return content


def write_packed(
    file: Path, cells: Mapping[str, Mapping[str, Any]], failures: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write cells and failures, by key, to a new file."""
    lines = [{"key": key, "cell": cells[key]} for key in sorted(cells)]
    lines += [{"key": key, "failed": failures[key]} for key in sorted(failures)]
    text = "".join(
        json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False) + "\n"
        for line in lines
    )
    # neither a time nor a name of a file in the header
    file.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def read_packed(file: Path) -> Packed:
    """Read a packed file; nothing is in one that is not there. Raises ConfigError for a damaged one."""
    if not file.exists():
        return Packed()
    cells: dict[str, str] = {}
    failures: dict[str, str] = {}
    try:
        packed = file.read_bytes()
        if not packed:  # which would be read as no cells
            raise EOFError("it is empty")
        text = gzip.decompress(packed).decode("utf-8")
        for line in text.split("\n"):  # a text in a cell may hold other ends of lines
            if not line:
                continue
            content = json.loads(line)
            part = cells if isinstance(content.get("cell"), dict) else failures
            if part is failures and not isinstance(content.get("failed"), dict):
                raise ValueError("a line is neither of a cell nor of a failure")
            part[str(content["key"])] = line
    except (OSError, EOFError, zlib.error, ValueError, KeyError, AttributeError) as error:
        raise ConfigError(
            f"cannot read {file} ({error}); take another copy of it, or write it anew with "
            "`expunge study records`"
        ) from error
    return Packed(cells, failures)
