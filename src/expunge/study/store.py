"""Where finished cells lie: one folder each, written whole, or packed into one file; claims that die
with their process.
"""

from __future__ import annotations

import fcntl
import functools
import json
import os
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeVar

from expunge.disk import whole
from expunge.disk.reading import (
    JSON_BYTES,
    UnreadableError,
    check_regular,
    parse_json,
    read_bytes,
    read_json,
    reading,
    reason,
)
from expunge.errors import ConfigError
from expunge.shadows.places import LOGITS
from expunge.study.packed import PACKED, Packed, read_packed
from expunge.study.written import Failure, check_attempt, check_cell, check_failure
from expunge.trained.card import digest_file

T = TypeVar("T")
RESULT, WEIGHTS = "cell.json", "model.safetensors"
CELLS, FAILED, ATTEMPTS, LOCKS = "cells", "failed", "attempts", "locks"
KILLED = "Killed"
"""The error of a cell whose process ended without a word."""
_LEFT = re.compile(r"\.(?P<key>[0-9a-f]{32})\.(?!expunge-).+")
"""Temporary names of earlier versions, which a cell's claim guards."""


class CellStore:
    """A folder of cells.

    cells/KEY/ is a finished cell: cell.json and whatever else it made, whose digests cell.json has. It
    appears by rename, with all of it on the disk, so a cell is there whole or not at all.
    failed/KEY.json says why a cell could not be made. locks/KEY is held (flock) by the process that
    works on it: the kernel lets go of it however that process ends, so nothing is ever left claimed.
    attempts/KEY.json stands for as long as a process works on the cell: where nobody does, its process
    was killed.

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
        """Make the folder, so that cells can be claimed and written; returns itself.

        Raises ConfigError for a folder that cannot be made, or is a link: nothing is written elsewhere.
        """
        for name in (CELLS, FAILED, ATTEMPTS, LOCKS):
            folder = self.folder / name
            if folder.is_symlink():
                raise ConfigError(f"{folder} is a link, and a study keeps to its folder; remove it")
            try:
                folder.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise ConfigError(
                    f"{folder} cannot be made ({reason(error)}); choose another folder with --out"
                ) from error
        return self

    def check_locks(self) -> None:
        """Raise ConfigError for a file system that takes locks and does not honour them: two processes
        would then do the same cell, and take each other's files for leftovers.
        """
        if (why := _unlockable(self.folder / LOCKS)) is not None:
            raise ConfigError(
                f"the file system of {self.folder} does not honour locks ({why}), by which a study "
                "knows who works on what; choose another folder with --out, such as one on a local disk"
            )

    def path(self, key: str) -> Path:
        """Folder of a finished cell."""
        return self.folder / CELLS / key

    def done(self, key: str) -> bool:
        """Whether a cell is finished."""
        return self._unpacked(key) or key in self.packed.cells

    def _unpacked(self, key: str) -> bool:
        return os.path.lexists(self.path(key) / RESULT)

    def has_weights(self, key: str) -> bool:
        """Whether the model of a finished cell lies here, so that others can start from it; of a model
        of a bank, what it says.
        """
        folder = self.path(key)
        return (folder / WEIGHTS).is_file() or (folder / LOGITS).is_dir()

    def read(self, key: str) -> dict[str, Any]:
        """What a finished cell says. Raises ConfigError for one that is damaged, or another's."""
        if not self._unpacked(key) and key in self.packed.cells:
            return self.packed.cell(key)
        file = self.path(key) / RESULT
        with reading(file, f"delete {file.parent}, and run the study again", ConfigError):
            return check_cell(read_json(file, within=self.folder), key)

    def check_files(self, key: str) -> None:
        """Raise ConfigError for a finished cell whose other files are not those that were written.

        Cells of earlier versions have no digests of them.
        """
        folder = self.path(key)
        digests: Mapping[str, str] = self.read(key).get("files", {})
        found = {str(file.relative_to(folder)) for file in folder.rglob("*") if not file.is_dir()}
        for name in sorted(found | {*digests}):
            with reading(folder / name, f"delete {folder}, and run the study again", ConfigError):
                check_regular(folder / name, within=folder)
                if digests.get(name) not in (None, digest_file(folder / name)):
                    raise UnreadableError("it is not as it was written: its digest differs")

    @contextmanager
    def claim(self, key: str) -> Iterator[bool]:
        """Whether this process may work on a cell now: nobody else does, while the context lasts."""
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW
        lock = self.folder / LOCKS / key
        with reading(lock, "delete it, and run the study again", ConfigError):
            handle = os.open(lock, flags, 0o666)
        try:
            yield _locked(handle)
        finally:
            os.close(handle)

    @contextmanager
    def _free(self, key: str) -> Iterator[bool]:
        """Whether nobody works on a cell, or begins to while the context lasts; nothing is written."""
        try:
            handle = os.open(self.folder / LOCKS / key, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
        except OSError:  # it was never claimed
            yield True
            return
        try:
            yield _locked(handle, unknown=True)
        finally:
            os.close(handle)

    def claimed(self, key: str) -> bool:
        """Whether some process works on a cell."""
        with self._free(key) as free:
            return not free

    @contextmanager
    def attempt(self, key: str, run: str) -> Iterator[None]:
        """Note for as long as this lasts that a run works on a cell; the note of a process that is
        killed stays. For the holder of the claim alone.
        """
        note = self.folder / ATTEMPTS / f"{key}.json"
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with os.fdopen(os.open(note, flags, 0o666), "w", encoding="utf-8") as stream:
            json.dump({"run": run}, stream)
        try:
            yield
        finally:
            note.unlink(missing_ok=True)

    def killers(self) -> set[str]:
        """Keys of the cells that killed the process which worked on them."""
        return {key for key in self._attempts() if self._killed(key) is not None}

    def forget_attempts(self, *, but: set[str]) -> None:
        """Forget who worked on what, as processes were ended on purpose. but: keys that stay."""
        for key in self._attempts() - but:
            with self.claim(key) as free:
                if free:
                    (self.folder / ATTEMPTS / f"{key}.json").unlink(missing_ok=True)

    def _attempts(self) -> set[str]:
        """Keys of the cells that some process works on, or was killed over."""
        names = os.listdir(self.folder / ATTEMPTS)
        return {name[:32] for name in names if re.fullmatch(r"[0-9a-f]{32}\.json", name)}

    @contextmanager
    def writing(self, key: str, content: Mapping[str, Any]) -> Iterator[Path]:
        """A folder to put a cell's files into; with `content` and digests of these files it becomes the
        cell at the end.

        For the holder of the claim alone. A result that was there is replaced.
        """
        overwrite = os.path.lexists(self.path(key))
        with whole.written_whole(self.path(key), overwrite=overwrite) as folder:
            yield folder
            made = sorted(file for file in folder.rglob("*") if file.is_file())
            files = {file.relative_to(folder).as_posix(): digest_file(file) for file in made}
            told = {**content, "files": files} if files else content
            text = json.dumps(told, indent=1, ensure_ascii=False, allow_nan=False)
            (folder / RESULT).write_text(text + "\n", encoding="utf-8")
        (self.folder / FAILED / f"{key}.json").unlink(missing_ok=True)

    def fail(self, key: str, error: BaseException, run: str) -> None:
        """Record that a cell could not be made."""
        content = {"error": type(error).__name__, "message": str(error), "run": run}
        file = self.folder / FAILED / f"{key}.json"
        try:
            whole.write_file(file, json.dumps(content, ensure_ascii=False))
        except OSError as cause:
            raise ConfigError(
                f"{file} cannot be written ({reason(cause)}), nor what it was to say: {error}; make "
                "room, and run the study again"
            ) from cause

    def failure(self, key: str) -> Failure | None:
        """Why a cell could not be made the last time; None if it never failed, or was made since.

        Raises ConfigError for a record of it that is damaged.
        """
        killed = self._killed(key)
        if killed is not None:
            return killed
        content = self._note(self.folder / FAILED / f"{key}.json", check_failure)
        if content is None and not self._unpacked(key) and key in self.packed.failures:
            return self.packed.failure(key)
        return content

    def _killed(self, key: str) -> Failure | None:
        """The failure of a cell that a process began and did not end, though nobody works on it."""
        file = self.folder / ATTEMPTS / f"{key}.json"
        if not os.path.lexists(file):
            return None
        with self._free(key) as free:
            run = self._note(file, check_attempt, empty={"run": ""}) if free else None
            if run is None or self._made_since(key, file):
                return None
        return Failure(
            error=KILLED,
            message="the process that worked on it ended without a word: killed, perhaps for want of "
            "memory",
            run=run,
        )

    def _made_since(self, key: str, note: Path) -> bool:
        """Whether a cell was finished after a note, whose process then had no time to remove it."""
        with suppress(OSError):
            return (self.path(key) / RESULT).stat().st_mtime_ns > note.stat().st_mtime_ns
        return False

    def _note(self, file: Path, check: Callable[[Any], T], *, empty: Any = None) -> T | None:
        """What a small file says, checked; None where there is none.

        empty: what one says whose process was killed before it wrote a word.
        """
        with reading(file, "delete it, and run the study again", ConfigError):
            try:
                content = read_bytes(file, most=JSON_BYTES, within=self.folder)
            except FileNotFoundError:
                return None
            return check(empty if empty and not content else parse_json(content))

    def sweep(self) -> int:
        """Remove what killed processes left half-written; how many of these there were."""
        places = [self.folder / name for name in ("", CELLS, FAILED, LOCKS)]
        removed = sum(map(whole.sweep, (self.folder.absolute().parent, *places)))
        for key in self._attempts():
            note = self.folder / ATTEMPTS / f"{key}.json"
            with self.claim(key) as free:
                if free and self._made_since(key, note):
                    note.unlink(missing_ok=True)
                    removed += 1
        for path in (*(self.folder / CELLS).iterdir(), *(self.folder / FAILED).iterdir()):
            left = _LEFT.fullmatch(path.name)
            if left is None:
                continue
            with self.claim(left["key"]) as free:
                if free:
                    whole.remove(path)
                    removed += 1
        return removed


def _unlockable(folder: Path) -> str | None:
    """Why locks cannot be relied on in a folder, in words; None if they can."""
    path = folder / f".try.expunge-new-{secrets.token_hex(4)}"  # swept, should this be killed
    handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        other = os.open(path, os.O_RDWR)
        try:
            fcntl.flock(other, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return "two processes get the same one"
        finally:
            os.close(other)
    except BlockingIOError:
        return None
    except FileNotFoundError:  # a sweep was quicker than the lock
        return _unlockable(folder)
    except OSError as error:
        return reason(error)
    finally:
        os.close(handle)
        path.unlink(missing_ok=True)


def _locked(handle: int, *, unknown: bool = False) -> bool:
    """Whether an open file could be locked by this process. unknown: the answer of a file system that
    has no locks; None raises.
    """
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        if not unknown:
            raise
    return True
