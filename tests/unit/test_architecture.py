"""The shape of the house: where imports point, how large things may grow, what is never written.

Every module is read as text, so imports inside functions and under TYPE_CHECKING count too."""

from __future__ import annotations

import ast
import functools
import graphlib
import importlib.util
import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import ModuleType

import pytest
from thorough import THOROUGH

import expunge

SRC = Path(__file__).resolve().parents[2] / "src"
PACKAGE = SRC / "expunge"

# A module imports from its own package and from parts with a lower number; nothing else.
LAYERS = {
    "errors": 0,
    "version": 0,
    "names": 1,
    "disk": 2,
    "hardware": 1,
    "loading": 1,
    "progress": 2,
    "scores": 3,
    "place": 3,
    "report": 4,
    "data": 3,
    "models": 3,
    "training": 4,
    "per_sample": 5,
    "methods": 6,
    "trained": 7,
    "audits": 8,
    "pruning": 9,
    "transfer": 9,
    "api": 10,
    "backdoor": 11,
    "advice": 12,
    "theory": 12,
    "testing": 13,
    "folders": 12,
    "shadows": 11,
    "study": 12,
    "requests": 13,
    "cli": 14,
    "__main__": 15,
}
# The report reads finished results, perhaps on a machine that has no torch.
ONLY = {"report": {"errors", "names", "disk", "scores"}}
MAX_MODULE_LINES = 500
MAX_FUNCTION_LINES = 60

# Migrations are written by Alembic: lists of tables, each under the name `upgrade`.
FILES = sorted(path for path in PACKAGE.rglob("*.py") if "migrations" not in path.parts)


@functools.lru_cache(maxsize=1)
def parsed(source: str) -> ast.Module:
    """Looked at in several ways, one after another, and changed by none."""
    return ast.parse(source)


def dotted(node: ast.expr) -> str:
    """`a.b.c` of a name or an attribute; else nothing."""
    if isinstance(node, ast.Attribute):
        start = dotted(node.value)
        return f"{start}.{node.attr}" if start else ""
    return node.id if isinstance(node, ast.Name) else ""


def module_name(path: Path) -> str:
    parts = path.relative_to(SRC).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def part_of(module: str) -> str:
    """`expunge.data.split` -> `data`; the package itself -> ``."""
    return module.split(".")[1] if "." in module else ""


def imported_modules(tree: ast.AST, module: str, *, is_package: bool) -> Iterator[tuple[int, str]]:
    """(line, absolute name) of every import; `from expunge import x` yields `expunge.x`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                up = node.level - is_package
                package = module.split(".")[: len(module.split(".")) - up]
                base = ".".join([*package, *([base] if base else [])])
            if base == "expunge":
                yield from ((node.lineno, f"expunge.{alias.name}") for alias in node.names)
            else:
                yield node.lineno, base


def import_faults(source: str, module: str, *, is_package: bool = False) -> list[str]:
    part = part_of(module)
    if part == "":
        return []  # the package's own __init__ names everything public
    if part not in LAYERS:
        return [f"{part} is new: add it to LAYERS in {Path(__file__).name}"]
    faults = []
    for line, target in imported_modules(parsed(source), module, is_package=is_package):
        if target.split(".")[0] != "expunge":
            continue
        other = part_of(target)
        if other == part or target == "expunge.__version__":
            continue
        if other not in LAYERS:
            faults.append(f"line {line}: {target} is no part in LAYERS; import from its module")
        elif LAYERS[other] >= LAYERS[part]:
            faults.append(f"line {line}: {part} may not import {other}")
        elif part in ONLY and other not in ONLY[part]:
            faults.append(f"line {line}: {part} imports only {sorted(ONLY[part])}, not {other}")
    return faults


def circles(imports: Mapping[str, set[str]]) -> list[str]:
    """The first circle of modules that import each other, from one of them back to it; else nothing."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return list(error.args[1])
    return []


def imports_of(path: Path, known: set[str]) -> set[str]:
    """The package's own modules that a module imports, but itself."""
    module, is_package = module_name(path), path.name == "__init__.py"
    found = set()
    for node in ast.walk(parsed(read(path))):
        for _, target in imported_modules(ast.Module([node], []), module, is_package=is_package):
            found.add(target)
            if isinstance(node, ast.ImportFrom):
                found |= {f"{target}.{alias.name}" for alias in node.names}
    return {target for target in found & known if target != module}


def size_faults(source: str) -> list[str]:
    faults = []
    lines = len(source.splitlines())
    if lines > MAX_MODULE_LINES:
        faults.append(f"{lines} lines; {MAX_MODULE_LINES} at most")
    for node in ast.walk(parsed(source)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            lines = body_lines(node)
            if lines > MAX_FUNCTION_LINES:
                faults.append(f"{node.name}: {lines} lines; {MAX_FUNCTION_LINES} at most")
    faults += [
        f"line {number}: fmt: the formatter decides"
        for number, line in enumerate(source.splitlines(), 1)
        if re.search(r"# fmt: (skip|off)", line)
    ]
    return faults


def body_lines(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Lines that are read to understand it: neither the list of its parameters nor its docstring.

    A list of arguments that a call hands on counts as one line, for a relay may be as long as that.
    """
    body = function.body[1:] if ast.get_docstring(function) is not None else function.body
    if not body:
        return 0
    lines = set(range(body[0].lineno, (function.end_lineno or function.lineno) + 1))
    for node in ast.walk(function):
        if isinstance(node, ast.Call) and _hands_on(node):
            lines -= set(range(node.lineno + 1, (node.end_lineno or node.lineno) + 1))
    return len(lines)


def _hands_on(call: ast.Call) -> bool:
    """Whether a call's arguments are names, attributes and constants alone."""
    given = [*call.args, *(keyword.value for keyword in call.keywords)]
    return all(isinstance(one, ast.Name | ast.Attribute | ast.Constant) for one in given)


def consent_faults(source: str, public: set[str]) -> list[str]:
    """Consent to run code that is taken for granted, in a function of ours or in a call of a public one.

    Whoever types a name means it, so functions for people consent by default; all others are told.
    """
    faults = []
    tree = parsed(source)
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom))
    called = public & {alias.name for node in imports for alias in node.names}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name not in public:
            own = node.args
            given = dict(zip(own.kwonlyargs, own.kw_defaults, strict=True))
            positional = [*own.posonlyargs, *own.args][::-1]
            given |= dict(zip(positional, own.defaults[::-1], strict=False))
            faults += [
                f"{node.name}: allow_code has a default"
                for one, default in given.items()
                if one.arg == "allow_code"
                and ast.unparse(default or ast.Constant(False)) != "False"
            ]
        if isinstance(node, ast.Call) and dotted(node.func) in called:
            told = {"allow_code", None} & {one.arg for one in node.keywords}
            name = dotted(node.func)
            faults += [] if told else [f"line {node.lineno}: {name} without allow_code"]
    return faults


@functools.cache
def public_and_consenting() -> set[str]:
    """Names that `expunge` exports and that take `allow_code`."""
    functions = {name: getattr(expunge, name) for name in expunge.__all__}
    return {
        name
        for name, one in functions.items()
        if inspect.isfunction(one) and "allow_code" in inspect.signature(one).parameters
    }


PICKLERS = {"pickle", "cPickle", "cloudpickle", "dill", "shelve", "marshal"}


def forbidden_faults(source: str) -> list[str]:
    """Asserts (they vanish under -O), and everything that unpickles or builds objects from YAML."""
    faults = []
    tree = parsed(source)
    for line, target in imported_modules(tree, "", is_package=False):
        if target.split(".")[0] in PICKLERS:
            faults.append(f"line {line}: {target}")
    for node in ast.walk(tree):
        if isinstance(node, ast.Assert):
            faults.append(f"line {node.lineno}: assert; raise an error of expunge.errors")
        elif isinstance(node, ast.ImportFrom) and node.module in {"torch", "yaml", "joblib"}:
            if any(alias.name in {"load", "unsafe_load"} for alias in node.names):
                faults.append(f"line {node.lineno}: from {node.module} import load")
        elif isinstance(node, ast.Call):
            faults.extend(f"line {node.lineno}: {fault}" for fault in _call_faults(node))
    return faults


def _call_faults(call: ast.Call) -> Iterator[str]:
    name = dotted(call.func)
    given = {k.arg: k.value.value for k in call.keywords if isinstance(k.value, ast.Constant)}
    if name == "torch.load" and given.get("weights_only") is not True:
        yield "torch.load without weights_only=True"
    if name in {"yaml.load", "yaml.load_all", "yaml.unsafe_load", "joblib.load"}:
        yield f"{name}; use yaml.safe_load"
    if given.get("allow_pickle") is True:
        yield "allow_pickle=True"


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_module(path: Path) -> None:
    source = read(path)
    is_package = path.name == "__init__.py"
    faults = import_faults(source, module_name(path), is_package=is_package)
    faults += size_faults(source) + forbidden_faults(source)
    assert not faults, "\n".join(faults)


def test_no_module_imports_itself_by_way_of_others() -> None:
    known = {module_name(path) for path in FILES} - {"expunge"}
    imports = {module_name(path): imports_of(path, known) for path in FILES}
    del imports["expunge"]  # names everything public
    assert circles(imports) == []


def test_circles_are_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert set(circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}})) == {"a", "b", "c"}


def test_report_and_scores_run_without_torch() -> None:
    rooms = ("expunge.report.", "expunge.scores.")
    modules = [m for m in map(module_name, FILES) if m.startswith(rooms)]
    assert len(modules) > 10
    code = f"import {', '.join(modules)}, sys; sys.exit('torch' in sys.modules)"
    paths = [str(SRC), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr or "the report imports torch, perhaps indirectly"


def test_at_most_ten_modules_stand_beside_the_rooms() -> None:
    loose = [path.name for path in PACKAGE.glob("*.py")]
    assert len(loose) <= 10, sorted(loose)


def defined(tree: ast.Module) -> Iterator[str]:
    """Public classes, functions and types of a module; constants and type variables are its own."""
    for node in tree.body:
        names = []
        if isinstance(node, ast.ClassDef | ast.FunctionDef):
            names = [node.name]
        elif isinstance(node, ast.Assign):
            names = [one.id for one in node.targets if isinstance(one, ast.Name)]
        yield from (n for n in names if not n.startswith("_") and n != n.upper())


# Commands are called as the calls that they make; the contract suites are tables of functions by
# what they check.
BY_ROOM = {"cli", "testing"}


def test_no_name_stands_for_two_things() -> None:
    places: dict[str, list[str]] = {}
    for path in FILES:
        if part_of(module_name(path)) not in BY_ROOM:
            for name in defined(parsed(read(path))):
                places.setdefault(name, []).append(str(path.relative_to(PACKAGE)))
    assert {name: found for name, found in places.items() if len(found) > 1} == {}


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_consent_is_never_taken_for_granted(path: Path) -> None:
    public = public_and_consenting()
    assert {"train", "adopt", "unlearn", "audit", "prune", "load_data"} <= public
    assert consent_faults(read(path), public) == []


def test_consent_that_is_taken_for_granted_is_found() -> None:
    source = """
from expunge.api import train
def make(name, allow_code: bool = True): ...
def find(name, *, allow_code: bool = True): ...
def own(name, *, allow_code): return train(name, seed=1)
def good(name, *, allow_code: bool = False): return train(name, allow_code=allow_code)
"""
    assert consent_faults(source, {"train"}) == [
        "make: allow_code has a default",
        "find: allow_code has a default",
        "line 5: train without allow_code",
    ]


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("expunge.data.split", "from expunge.models.table import build_model"),
        ("expunge.data.task", "def f():\n    from expunge.training.run import Run"),
        ("expunge.data.task", "if TYPE_CHECKING:\n    import expunge.training.run"),
        ("expunge.methods.scrub", "from ..pruning import magnitude"),
        ("expunge.methods.scrub", "from expunge import audits"),
        ("expunge.methods.scrub", "from expunge import unlearn"),
        ("expunge.methods.scrub", "import expunge"),
        ("expunge.report.html", "from expunge.audits.mia import Score"),
        ("expunge.novelty", "import torch"),
    ],
)
def test_import_faults_are_found(module: str, source: str) -> None:
    assert len(import_faults(source, module)) == 1


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("expunge.data.split", "from .view import DataView"),
        ("expunge.methods.scrub", "from ..training import fit"),
        ("expunge.methods.scrub", "from expunge import errors"),
        ("expunge.cli", "from expunge import __version__"),
        ("expunge.report.html", "from expunge.errors import ConfigError"),
        ("expunge", "from expunge.cli import main"),
    ],
)
def test_import_faults_spare_the_innocent(module: str, source: str) -> None:
    assert import_faults(source, module) == []


@pytest.mark.parametrize(
    ("check", "source"),
    [
        (size_faults, "x = 1\n" * 501),
        (size_faults, "def f():\n" + "    pass\n" * 61),
        (size_faults, "x = [1,\n     2]  # fmt: " + "skip"),
        (forbidden_faults, "assert x"),
        (forbidden_faults, "import pickle"),
        (forbidden_faults, "from pickle import loads"),
        (forbidden_faults, "torch.load(path)"),
        (forbidden_faults, "torch.load(path, weights_only=False)"),
        (forbidden_faults, "from torch import load"),
        (forbidden_faults, "yaml.load(text, Loader=yaml.SafeLoader)"),
        (forbidden_faults, "np.load(path, allow_pickle=True)"),
    ],
)
def test_other_faults_are_found(check: Callable[[str], list[str]], source: str) -> None:
    assert len(check(source)) == 1


def test_safe_loading_passes() -> None:
    assert forbidden_faults("torch.load(p, weights_only=True); yaml.safe_load(t)") == []


# --- which tests `scripts/check --fast` chooses


ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def fast() -> ModuleType:
    spec = importlib.util.spec_from_file_location("fast", ROOT / "scripts/fast.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy with a test of what is gone."""
    root = tmp_path_factory.mktemp("fast") / "root"
    for name in ("src", "tests", "scripts"):
        shutil.copytree(ROOT / name, root / name, ignore=shutil.ignore_patterns("__pycache__"))
    (root / "tests/unit/test_old.py").write_text("from expunge.audits.score import Score\n")
    return root


@THOROUGH
def test_imports_are_followed_backwards_the_nearest_first(fast: ModuleType) -> None:
    known = fast.modules()
    start = known["expunge.methods.unsir"]
    found = fast.distances({start}, known)
    assert found[start] == 0
    assert found[known["expunge.methods"]] == found[ROOT / "tests/unit/test_unsir.py"] == 1
    assert found[known["expunge.api"]] > 1
    assert known["expunge.errors"] not in found, "what it imports has not changed"


@pytest.mark.parametrize(
    ("changed", "chosen"),
    [
        ("src/expunge/models/cnn.py", "tests/unit/test_models.py"),  # imported by its name's text
        ("src/expunge/scores/__init__.py", "tests/unit/test_scores.py"),
        ("src/expunge/audits/score.py", "tests/unit/test_old.py"),  # is gone
        ("tests/conftest.py", "tests/unit/test_pruning.py"),
        ("README.md", "tests/unit/test_docs.py"),
        ("src/expunge/study/shipped/smoke.yaml", "tests/e2e/test_cli.py"),
        ("benchmarks/gpu/parts.py", "tests/unit/test_gpu_check.py"),
    ],
)
def test_nothing_that_matters_is_missed(
    fast: ModuleType,
    changed: str,
    chosen: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    root: Path,
) -> None:
    monkeypatch.setattr(fast, "ROOT", root)
    monkeypatch.setattr(fast, "changed", lambda: {root / changed})
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "1e9"])
    fast.main()
    assert chosen in capsys.readouterr().out.split()


def test_what_the_seconds_allow_is_chosen(
    fast: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    changed = {
        ROOT / "src/expunge/methods/unsir.py",
        ROOT / "tests/unit/test_pruning.py",
        ROOT / "gone.py",
        ROOT / "README.md",
    }
    monkeypatch.setattr(fast, "changed", lambda: changed)
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "0"])
    fast.main()
    told = capsys.readouterr()
    assert told.out.split() == ["tests/unit/test_pruning.py"], (
        "what has changed itself is always run"
    )
    assert "further off" in told.err
    monkeypatch.setattr("sys.argv", ["fast.py", "--seconds", "1e9"])
    fast.main()
    chosen = capsys.readouterr().out.split()
    assert "tests/unit/test_unsir.py" in chosen and len(chosen) == len(set(chosen)) > 20
    assert all((ROOT / name).exists() for name in chosen)
