"""What a study found, without weights: small enough to be published, and a folder that runs go on in."""

from __future__ import annotations

import shutil
from pathlib import Path

from expunge.atomic import written_whole
from expunge.errors import ConfigError
from expunge.study.launch import FACTS, FILE, Planned
from expunge.study.store import RESULT


def write_records(study: Planned, out: Path) -> int:
    """Copy the study file, what was noted of its data, each finished cell's results, and failures.

    Returns the number of cells. Cells of earlier versions of the study are left behind. A later run in
    `out` makes what is missing, such as further seeds. Raises ConfigError if `out` exists, or nothing
    is finished.
    """
    check_absent(out)
    done = [cell.key for cell in study.cells if study.store.done(cell.key)]
    if not done:
        raise ConfigError("no cell is finished yet; go on with `expunge study run`")
    with written_whole(out, overwrite=False) as folder:
        for name in (FILE, FACTS):
            shutil.copyfile(study.store.folder / name, folder / name)
        for key in done:
            (folder / "cells" / key).mkdir(parents=True)
            shutil.copyfile(study.store.path(key) / RESULT, folder / "cells" / key / RESULT)
        (folder / "failed").mkdir()
        for cell in study.cells:  # a trial that failed decides what tuning chose
            failure = study.store.folder / "failed" / f"{cell.key}.json"
            if failure.exists():
                shutil.copyfile(failure, folder / "failed" / failure.name)
    return len(done)


def check_absent(out: Path) -> None:
    """Raise ConfigError for a folder that exists: records are never written over anything."""
    if out.exists():
        raise ConfigError(f"{out} exists; choose another folder with --out")
