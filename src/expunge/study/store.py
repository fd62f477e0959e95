"""Where finished cells lie: one folder each, written whole, or packed into one file; claims that die
with their process.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from expunge.disk.whole import written_whole
from expunge.errors import ConfigError
from expunge.study.packed import PACKED, Packed, read_packed

RESULT, WEIGHTS = "cell.json", "model.safetensors"


@dataclass(frozen=True)
class Failure:
    """A cell that raised: the error's type and message, and the run in which it did."""

    error: str
    message: str
    run: str


class CellStore:
    """A folder of cells.

    cells/KEY/ is a finished cell: cell.json and whatever else it made. It appears by rename, with
    all of it on the disk, so a cell is there whole or not at all. failed/KEY.json says why a cell
    could not be made. locks/KEY is held (flock) by the process that works on it: the kernel lets go
    of it however that process ends, so nothing is ever left claimed.

    cells.jsonl.gz holds results and failures of cells without their weights, as `study records`
    writes it. It is only read, once; a folder of a cell beside it goes before it.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = Path(folder)

    @functools.cached_property
    def packed(self) -> Packed:
        """What the packed file holds. Raises ConfigError for a damaged one."""
        return read_packed(self.folder / PACKED)

    def prepare(self) -> CellStore:
        """Make the folder, so that cells can be claimed and written; returns itself."""
        for name in ("cells", "failed", "locks"):
            (self.folder / name).mkdir(parents=True, exist_ok=True)
        return self

    def path(self, key: str) -> Path:
        """Folder of a finished cell."""
        return self.folder / "cells" / key

    def done(self, key: str) -> bool:
        """Whether a cell is finished."""
        return self._unpacked(key) or key in self.packed.cells

    def _unpacked(self, key: str) -> bool:
        return (self.path(key) / RESULT).is_file()

    def has_weights(self, key: str) -> bool:
        """Whether the model of a finished cell lies here, so that others can start from it."""
        return (self.path(key) / WEIGHTS).is_file()

    def read(self, key: str) -> dict[str, Any]:
        """What a finished cell says. Raises ConfigError for one that is damaged."""
        if not self._unpacked(key) and key in self.packed.cells:
            return self.packed.cell(key)
        file = self.path(key) / RESULT
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            raise ConfigError(
                f"cannot read {file} ({error}); delete its folder, and run the study again"
            ) from error
        if not isinstance(content, dict):
            raise ConfigError(f"{file} holds no object; delete its folder, and run the study again")
        return content

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may work on a cell now: nobody else does, while the context lasts."""
        handle = os.open(self.folder / "locks" / key, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                yield False
                return
            yield True
        finally:
            os.close(handle)

    def claimed(self, key: str) -> bool:
        """Whether some process works on a cell."""
        if not (self.folder / "locks" / key).exists():
            return False
        with self.claim(key) as free:
            return not free

    @contextmanager
    def writing(self, key: str, content: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to put a cell's files into; with `content` it becomes the cell at the end.

        For the holder of the claim alone. A result that was there is replaced.
        """
        with written_whole(self.path(key), overwrite=self.path(key).exists()) as folder:
            yield folder
            text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
            (folder / RESULT).write_text(text + "\n", encoding="utf-8")
        (self.folder / "failed" / f"{key}.json").unlink(missing_ok=True)

    def fail(self, key: str, error: BaseException, run: str) -> None:
        """Record that a cell could not be made."""
        content = {"error": type(error).__name__, "message": str(error), "run": run}
        handle, name = tempfile.mkstemp(dir=self.folder / "failed", prefix=f".{key}.")
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(content, stream, ensure_ascii=False)
        os.replace(name, self.folder / "failed" / f"{key}.json")

    def failure(self, key: str) -> Failure | None:
        """Why a cell could not be made the last time; None if it never failed, or was made since."""
        file = self.folder / "failed" / f"{key}.json"
        try:
            content = json.loads(file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            if self._unpacked(key) or key not in self.packed.failures:
                return None
            content = self.packed.failure(key)
        return Failure(str(content["error"]), str(content["message"]), str(content["run"]))

    def sweep(self) -> int:
        """Remove what killed processes left half-written; how many of these there were.

        A temporary folder is its cell's alone, and the cell's claim says whether anybody is at it.
        """
        removed = 0
        for folder in (self.folder / "cells").glob(".*"):
            with self.claim(folder.name.split(".")[1]) as free:
                if free:
                    shutil.rmtree(folder, ignore_errors=True)
                    removed += 1
        return removed
