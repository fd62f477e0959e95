"""Which ledger a command means: the one that is named, or the one that a folder points to."""

from __future__ import annotations

import os
from pathlib import Path

from expunge.data.suppressed import LEDGER, VARIABLE, pointed, pointer_here
from expunge.errors import RequestError


def found_ledger(given: Path | None) -> Path:
    """The folder of a ledger: `given` (or a model folder that points to it), EXPUNGE_LEDGER, else the
    pointer in the working folder or one above it, which `expunge ledger init` leaves.

    Raises RequestError where there is none.
    """
    if given is None and (named := os.environ.get(VARIABLE)):
        given = Path(named).expanduser()
    if given is not None:
        if given.is_file():
            return _only(given)
        return _only(given / LEDGER) if _is_model(given) else given
    if (here := pointer_here()) is not None:
        return _only(here)
    raise RequestError(
        f"no ledger is named, and neither {Path.cwd()} nor a folder above it points to one; begin one "
        "with `expunge ledger init MODEL_DIR`, or name it with --ledger"
    )


def _only(pointer: Path) -> Path:
    ledgers = pointed(pointer)
    if len(ledgers) > 1:
        folders = ", ".join(str(one.folder) for one in ledgers)
        raise RequestError(
            f"{pointer} points to {len(ledgers)} ledgers; choose with --ledger: {folders}"
        )
    return ledgers[0].folder


def _is_model(folder: Path) -> bool:
    return (folder / LEDGER).is_file() and (folder / "model.json").is_file()
