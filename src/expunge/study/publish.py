"""What a study found, without weights: small enough to be published, and a folder that runs go on in."""

from __future__ import annotations

import os
from pathlib import Path

from expunge.disk.reading import JSON_BYTES, read_bytes, reading
from expunge.disk.whole import unwritable, written_whole
from expunge.errors import ConfigError
from expunge.report.places import PAGE
from expunge.study.file import FACTS
from expunge.study.launch import FILE, Planned
from expunge.study.packed import PACKED, write_packed

TABLE = "table.md"


def write_records(study: Planned, out: Path, command: str) -> int:
    """Write study.yaml, data.json, cells.jsonl.gz, and, of what they say, table.md and report.html.

    Returns the number of cells. Failures are kept too, for a trial that failed decides what tuning
    chose. Cells of earlier versions of the study are left behind. A later run in `out` makes what is
    missing, such as further seeds. Table and page are left out as long as no row is finished.

    Args:
        study: planned from its own folder.
        out: a folder that is not there yet.
        command: that writes all this, for the page to show.

    Raises:
        ConfigError: if `out` exists, or no cell is finished.
    """
    check_absent(out)
    from expunge.report.page import as_markdown, render
    from expunge.study.page import study_report

    store = study.store
    done = {cell.key: store.read(cell.key) for cell in study.cells if store.done(cell.key)}
    if not done:
        raise ConfigError("no cell is finished yet; go on with `expunge study run`")
    failures = {
        cell.key: failure.model_dump()
        for cell in study.cells
        if (failure := store.failure(cell.key)) is not None
    }
    told = any(row.cell in done for row in study.rows)
    report = study_report(study, command) if told else None
    with written_whole(out, overwrite=False) as folder:
        for name in (FILE, FACTS):
            file = store.folder / name
            with reading(file, "run the study again, which writes it", ConfigError):
                content = read_bytes(file, most=JSON_BYTES, within=store.folder)
            (folder / name).write_bytes(content)
        write_packed(folder / PACKED, done, failures)
        if report is not None:
            (folder / TABLE).write_text(as_markdown(report), encoding="utf-8")
            (folder / PAGE).write_text(render(report), encoding="utf-8")
    return len(done)


def check_absent(out: Path) -> None:
    """Raise ConfigError for a folder that exists, for records are never written over anything, and for
    one that cannot be made.
    """
    if os.path.lexists(out):
        raise ConfigError(f"{out} exists; choose another folder with --out")
    if (why := unwritable(out)) is not None:
        raise ConfigError(f"{out} cannot be made ({why}); choose another folder with --out")
