"""Many cells in one file: `cells.jsonl.gz`, a line for each cell and for each failure.

A line is one JSON object: {"cell": what cell.json holds, "key": the cell's key}, or {"failed": error,
message and run, "key": ...}. Fields are sorted, lines stand in the order of their keys, and no time goes
into the file, so the same results give the same bytes (by the same zlib).
"""

from __future__ import annotations

import gzip
import io
import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from expunge.disk.reading import MIB, UnreadableError, parse_json, read_bytes, reading
from expunge.errors import ConfigError
from expunge.study.written import Failure, check_cell, check_failure

PACKED = "cells.jsonl.gz"
MOST_PACKED, MOST_BYTES, MOST_LINE, MOST_LINES = 128 * MIB, 256 * MIB, 8 * MIB, 10**6
"""Of such a file: its size, the size of what it holds, of one of its lines, and how many these are."""
KEY = re.compile(r"[0-9a-f]{32}")


@dataclass(frozen=True)
class Packed:
    """What a packed file holds. cells, failures: key -> the JSON text of its line, which was checked."""

    cells: Mapping[str, bytes] = field(default_factory=dict)
    failures: Mapping[str, bytes] = field(default_factory=dict)

    def cell(self, key: str) -> dict[str, Any]:
        """What a cell says; a new object at each call."""
        content: dict[str, Any] = parse_json(self.cells[key])["cell"]
        return content

    def failure(self, key: str) -> Failure:
        """Why a cell could not be made."""
        return check_failure(parse_json(self.failures[key])["failed"])


def write_packed(
    file: Path, cells: Mapping[str, Mapping[str, Any]], failures: Mapping[str, Mapping[str, Any]]
) -> None:
    """Write cells and failures, by key, to a new file. Raises ConfigError for more than can be read."""
    lines = [{"key": key, "cell": cells[key]} for key in sorted(cells)]
    lines += [{"key": key, "failed": failures[key]} for key in sorted(failures)]
    written = [
        json.dumps(line, sort_keys=True, ensure_ascii=False, allow_nan=False).encode() + b"\n"
        for line in lines
    ]
    size, longest = sum(map(len, written)), max(map(len, written), default=0)
    if size > MOST_BYTES or longest > MOST_LINE or len(written) > MOST_LINES:
        raise ConfigError(
            f"{len(written)} cells of {size // MIB} MiB are too many for one file of records "
            f"({MOST_BYTES // MIB} MiB at most); keep the study's own folder"
        )
    # neither a time nor a name of a file in the header
    file.write_bytes(gzip.compress(b"".join(written), compresslevel=9, mtime=0))


def read_packed(file: Path) -> Packed:
    """Read a packed file; nothing is in one that is not there. Raises ConfigError for a damaged one."""
    if not os.path.lexists(file):
        return Packed()
    cells: dict[str, bytes] = {}
    failures: dict[str, bytes] = {}
    remedy = "take another copy of it, or write it anew with `expunge study records`"
    with reading(file, remedy, ConfigError):
        content = read_bytes(file, most=MOST_PACKED, within=file.parent)
        if not content:  # which would be read as no cells
            raise UnreadableError("it is empty")
        for number, line in enumerate(_lines(content), 1):
            try:
                key, part = _read_line(line, cells, failures)
            except ValueError as error:
                raise UnreadableError(f"line {number}: {error}") from error
            part[key] = line
    return Packed(cells, failures)


def _read_line(
    line: bytes, cells: dict[str, bytes], failures: dict[str, bytes]
) -> tuple[str, dict[str, bytes]]:
    """The key of a line that was checked, and which of the two it belongs to."""
    content = parse_json(line)
    key = content.get("key") if isinstance(content, dict) else None
    if not isinstance(key, str) or not KEY.fullmatch(key):
        raise UnreadableError("it names no cell")
    if "cell" in content:
        check_cell(content["cell"], key)
        part = cells
    else:
        check_failure(content.get("failed"))
        part = failures
    if key in part:
        raise UnreadableError(f"the cell {key} stands here a second time")
    return key, part


def _lines(content: bytes) -> Iterator[bytes]:
    """Lines of a compressed text, one after another: it may be far larger than memory."""
    size = 0
    with gzip.GzipFile(fileobj=io.BytesIO(content)) as stream:
        for _ in range(MOST_LINES + 1):
            line = stream.readline(MOST_LINE + 1)
            if not line:
                return
            size += len(line)
            if len(line) > MOST_LINE or size > MOST_BYTES:
                break
            yield line
    raise UnreadableError(
        f"it holds more than {MOST_BYTES // MIB} MiB, or a line of more than {MOST_LINE // MIB} MiB"
    )
