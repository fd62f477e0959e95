"""Digests of files, remembered by path, size and times so that large data are hashed once."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Sequence
from pathlib import Path

from expunge.disk.cache import fingerprints_file
from expunge.disk.reading import check_regular, open_regular, read_json
from expunge.disk.whole import sweep, write_file

MOST_KNOWN = 10_000
"""Digests that are remembered; the oldest are forgotten first."""
_DIGEST = re.compile(r"[0-9a-f]{64}")


def fingerprint_files(
    files: Sequence[Path],
    root: Path,
    *,
    remember: bool = True,
    read: Callable[[Path], bytes] | None = None,
) -> str:
    """Digest of the bytes and the relative names of some files, 64 hexadecimal digits.

    Computed again only when the root, or the path, size or times of one of them changed: of its last
    modification, which anybody can set back, and of its last change, which the system sets.

    remember: False computes it always; for what must not be fooled where a file system keeps no such
    times. read: gives a file's bytes, where a caller wants them too; it is not
    called where the digest is known. Raises UnreadableError or OSError for what is no regular file.
    """
    stamps = [str(root.resolve())]
    folders: dict[str, str] = {}
    for file in files:
        status = check_regular(file)
        times = f"{status.st_mtime_ns}\x1f{status.st_ctime_ns}"
        stamps.append(f"{_resolved(str(file), folders)}\x1f{status.st_size}\x1f{times}")
    key = hashlib.sha256(os.fsencode("\n".join(stamps))).hexdigest()
    known = _read_cache() if remember else {}
    if key not in known:
        digest = hashlib.sha256()
        for file in files:
            digest.update(os.fsencode(file.relative_to(root).as_posix()) + b"\x1f")
            digest.update(_digest(file) if read is None else hashlib.sha256(read(file)).digest())
        known[key] = digest.hexdigest()
        if remember:
            _write_cache(known)
    return known[key]


def _resolved(file: str, folders: dict[str, str]) -> str:
    """The path without links. folders: those resolved before, for many files lie in few."""
    if os.path.islink(file):
        return os.path.realpath(file)
    folder, name = os.path.split(file)
    if folder not in folders:
        folders[folder] = os.path.realpath(folder)
    return os.path.join(folders[folder], name)


def _digest(file: Path) -> bytes:
    with open_regular(file) as stream:
        return hashlib.file_digest(stream, "sha256").digest()


def _read_cache() -> dict[str, str]:
    try:
        content = read_json(fingerprints_file())
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(content, dict):
        return {}
    return {
        key: value
        for key, value in content.items()
        if isinstance(value, str) and _DIGEST.fullmatch(value)
    }


def _write_cache(known: dict[str, str]) -> None:
    """Best effort: a home that cannot be written costs only the time to hash again."""
    kept = dict(list(known.items())[-MOST_KNOWN:])
    try:
        fingerprints_file().parent.mkdir(parents=True, exist_ok=True)
        sweep(fingerprints_file().parent)
        write_file(fingerprints_file(), json.dumps(kept))
    except OSError:
        return
