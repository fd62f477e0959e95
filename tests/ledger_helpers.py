"""Ledgers for tests: without a model where none is needed, and processes that die when they are told."""

from __future__ import annotations

import json
import os
import shutil
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from sqlalchemy import Engine, event, func, select

from expunge import api
from expunge.data.split import Split
from expunge.requests import batches as batches_module
from expunge.requests.intake import DeletionRequest, NamedSample
from expunge.requests.ledger import Ledger, Writing
from expunge.requests.release import enter, promote
from expunge.requests.tables import metadata
from expunge.trained import opening

NOW = datetime(2026, 11, 27, 9, tzinfo=UTC)
DUE = NOW + timedelta(days=30)
KILLED = 9


def hasty(engine: Engine) -> None:
    """Do not wait for the disk: the machine goes on, whatever is killed."""
    if engine.dialect.name == "sqlite":
        event.listen(engine, "connect", lambda one, _: one.execute("PRAGMA synchronous=OFF"))
        engine.dispose()


def ledger_at(folder: Path, url: str = "sqlite", *, positional: bool = False) -> Ledger:
    """A ledger in which a model of two files is live, which nobody can load."""
    told = {"law": "gdpr", "positional": "yes" if positional else "no"}
    made = Ledger.create(folder / "ledger", told, data_set="digits", url=url)
    hasty(made.engine)
    model = folder / "model"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    (model / "model.json").write_text("{}")
    with made.write("tests") as writing:
        promote(writing, enter(writing, model, None), batch=None, reason="begun")
    return made


def asked(*ids: str, key: str = "", source: str = "mail") -> DeletionRequest:
    """A request for some ids."""
    return DeletionRequest(ids, source, NOW, DUE, key=key)


def learned(*ids: str) -> list[NamedSample]:
    """That all of them were learned."""
    return [NamedSample(one, "learned") for one in ids]


def count(ledger: Ledger, table: str) -> int:
    """Rows of a table."""
    with ledger.read() as connection:
        found = connection.scalar(select(func.count()).select_from(metadata.tables[table]))
    return int(found or 0)


MANY = tuple(f"a{one}" for one in range(30))


@dataclass
class Fake:
    """Stands for a model: what it retains. passed: is called when its folder has its name."""

    split: Split
    passed: Any = None

    data = SimpleNamespace(struck=SimpleNamespace(ids=frozenset()))
    record = SimpleNamespace(step="retrain")

    def save(self, folder: Path) -> None:
        part = folder.with_suffix(".part")
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir()
        told = json.dumps(self.split.retain)
        (part / "retain.json").write_text(told)
        (part / "model.safetensors").write_text(f"weights after {told}")
        (part / "model.json").write_text("{}")
        part.rename(folder)
        if self.passed is not None:
            self.passed()


def faked(patch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Training takes no time. `passed`: called when a folder has its name; `seconds`: of a training."""
    told: dict[str, Any] = {"passed": None, "seconds": 0.0}

    def load(folder: Path, **_: object) -> Fake:
        file = folder / "retain.json"
        retain = json.loads(file.read_text()) if file.exists() else MANY
        return Fake(Split(tuple(retain), (), (), ()))

    def unlearn(_: Fake, split: Split, method: str, **__: object) -> Fake:
        time.sleep(told["seconds"])
        return Fake(split, told["passed"])

    sane = {"passed": True, "why": "", "score": "TA", "after": 90.0, "before": 91.0}
    patch.setattr(opening, "load", load)
    patch.setattr(api, "unlearn", unlearn)
    patch.setattr(batches_module, "sanity_of", lambda *_: dict(sane))
    return told


def forked(work: Callable[[], Any]) -> Callable[[], tuple[int, str]]:
    """Begin something in a process of its own; calling what is returned waits for its exit code and what
    it returned, as text.
    """
    ready, tell = os.pipe()
    process = os.fork()
    if process == 0:
        code = 1
        try:
            os.close(ready)
            told = str(work())
            os.write(tell, told.encode())
            code = 0
        except BaseException:
            os.write(tell, traceback.format_exc().encode())
        finally:
            os._exit(code)
    os.close(tell)

    def over() -> tuple[int, str]:
        with os.fdopen(ready, "rb") as stream:
            told = stream.read().decode()
        return os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), told

    return over


@contextmanager
def dying_at(turn: int, patch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """The process ends, as a kill ends it, after so many committed transactions; what is yielded counts
    as one more of them.
    """
    left = [turn]

    def passed() -> None:
        left[0] -= 1
        if left[0] == 0:
            os._exit(KILLED)

    write = Ledger.write

    @contextmanager
    def counted(self: Ledger, actor: str | None = None) -> Iterator[Writing]:
        with write(self, actor) as writing:
            yield writing
        passed()

    patch.setattr(Ledger, "write", counted)
    yield passed
