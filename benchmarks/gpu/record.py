"""What a check has found so far, as JSON and as a page to read; each file is whole at any moment."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

JSON, PAGE = "gpu-check.json", "summary.md"
KIND = "gpu-check"

Status = Literal["waiting", "running", "passed", "failed", "left out"]


class RefusedError(Exception):
    """A folder that cannot be written to; the message says why."""


@dataclass(frozen=True)
class Outcome:
    """What became of a part.

    reason: why it was left out. error: why it failed. figures: name -> number, text, or rows of a
    table; those of a part that was cut are as far as it came. budget_seconds: the most it might take.
    """

    status: Status = "waiting"
    seconds: float = 0.0
    budget_seconds: float = 0.0
    reason: str = ""
    error: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without what is empty."""
        about: dict[str, Any] = {"status": self.status}
        if self.status not in ("waiting", "left out") or self.seconds:
            about |= {"seconds": self.seconds, "budget_seconds": self.budget_seconds}
        about |= {k: v for k in ("reason", "error") if (v := getattr(self, k))}
        if self.figures:
            about["figures"] = dict(self.figures)
        return about


@dataclass
class Record:
    """about: the command, the date, the machine. parts: name -> outcome, in order."""

    folder: Path
    about: dict[str, Any]
    parts: dict[str, Outcome]
    exit_code: int | None = None
    seconds: float = 0.0

    def to_dict(self) -> dict[str, Any]:
        """Plain data; `exit_code` is null until the end."""
        parts = {name: outcome.to_dict() for name, outcome in self.parts.items()}
        told = {**self.about, "seconds": self.seconds, "exit_code": self.exit_code, "parts": parts}
        found: dict[str, Any] = plain({"what": KIND, **told})
        return found

    def write(self) -> None:
        """Both files, each by rename, so that a kill at any moment leaves whole ones."""
        from gpu.summary import page

        content = self.to_dict()
        text = json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False)
        write_whole(self.folder / JSON, text + "\n")
        write_whole(self.folder / PAGE, page(content))


def open_folder(folder: Path) -> None:
    """Make the folder of a check, or take one of an earlier check.

    Raises RefusedError for a folder that holds something else.
    """
    if folder.exists() and not folder.is_dir():
        raise RefusedError(f"{folder} is a file; choose a folder with --out")
    held = sorted(path.name for path in folder.iterdir()) if folder.exists() else []
    mine = [name for name in held if name in (JSON, PAGE) or name.startswith(f".{KIND}.")]
    if set(held) - set(mine) or (PAGE in held and JSON not in held):
        raise RefusedError(
            f"{folder} exists and holds something else ({held[0]}); choose another folder with --out"
        )
    if JSON in held:
        try:
            kind = json.loads((folder / JSON).read_text(encoding="utf-8"))["what"]
        except (OSError, ValueError, KeyError, TypeError):
            kind = None
        if kind != KIND:
            raise RefusedError(f"{folder / JSON} is no record of a check; choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RefusedError(f"cannot make {folder} ({error.strerror}); choose another") from error


def write_whole(path: Path, text: str) -> None:
    """Write a file by rename: it holds the old text or the new one, never a part."""
    part = path.with_name(f".{KIND}.{path.name}")
    with part.open("w", encoding="utf-8") as stream:
        stream.write(text)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(part, path)


def plain(value: Any) -> Any:
    """What JSON can hold: numbers to four digits, and texts for those that are not finite."""
    if isinstance(value, Mapping):
        return {str(key): plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    if isinstance(value, bool | int | str) or value is None:
        return value
    if isinstance(value, float):
        return float(f"{value:.4g}") if math.isfinite(value) else str(value)
    return str(value)
