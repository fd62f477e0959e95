"""Digests of files, remembered by path, size and time so that large data are hashed once."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path


def cache_file() -> Path:
    """Where digests are remembered: under `XDG_CACHE_HOME`, by default `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "expunge" / "fingerprints.json"


def fingerprint_files(files: Sequence[Path], root: Path) -> str:
    """Digest of the bytes and the relative names of some files, 32 hexadecimal digits.

    Computed again only when the root, or the path, size or modification time of one of them changed.
    """
    stamps = [str(root.resolve())]
    for file in files:
        status = file.stat()
        stamps.append(f"{file.resolve()}\x1f{status.st_size}\x1f{status.st_mtime_ns}")
    key = hashlib.sha256(os.fsencode("\n".join(stamps))).hexdigest()
    known = _read_cache()
    if key not in known:
        digest = hashlib.sha256()
        for file in files:
            digest.update(os.fsencode(file.relative_to(root).as_posix()) + b"\x1f")
            with file.open("rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        known[key] = digest.hexdigest()[:32]
        _write_cache(known)
    return known[key]


def _read_cache() -> dict[str, str]:
    try:
        content = json.loads(cache_file().read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _write_cache(known: dict[str, str]) -> None:
    """Best effort: a home that cannot be written costs only the time to hash again."""
    try:
        cache_file().parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=cache_file().parent)
        with os.fdopen(handle, "w", encoding="utf-8") as stream:
            json.dump(known, stream)
        os.replace(name, cache_file())
    except OSError:
        return
