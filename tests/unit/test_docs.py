"""What is written about the project is true of it, and every example in it runs."""

from __future__ import annotations

import ast
import contextlib
import importlib.util
import inspect
import io
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from commands import expunge
from PIL import Image
from safetensors.torch import save_file
from thorough import THOROUGH

from expunge.cli.table import COMMANDS
from expunge.cli.tree import every_command, work_of
from expunge.methods import METHODS
from expunge.models.table import ARCHITECTURES
from expunge.pruning import PRUNERS
from expunge.scores.rows import NO_METHODS
from expunge.scores.table import AVERAGED
from expunge.study.catalogue import shipped_files
from expunge.study.demo import DEMO_METHODS, PASTE
from expunge.study.file import read_study
from expunge.study.schema import Study

ROOT = Path(__file__).resolve().parents[2]
DOCS = sorted((ROOT / "docs").glob("*.md"))
PAGES = (
    ROOT / "README.md",
    ROOT / "benchmarks/README.md",
    *DOCS,
    ROOT / "docs/results/README.md",
)


def read(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def blocks(text: str, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


# --- pages made from the code


@pytest.fixture
def build() -> ModuleType:
    """docs/build.py as a module of its own."""
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs/build.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pages_are_what_the_code_says(build: ModuleType) -> None:
    assert build.stale() == [], "run python docs/build.py"


def test_a_stale_page_is_found_and_what_people_wrote_stays(
    build: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in build.PAGES:
        (tmp_path / name).write_text(read(f"docs/{name}"), encoding="utf-8")
    monkeypatch.setattr(build, "HERE", tmp_path)
    cli = tmp_path / "cli.md"
    cli.write_text(f"Mine.\n{cli.read_text().replace('--with-reference', '--without')}")
    assert build.stale() == ["cli.md"]
    assert build.PAGES["cli.md"]().startswith("Mine.\n# The command line\n")


def test_every_command_option_method_score_and_model_is_in_the_docs() -> None:
    readme, cli = read("README.md"), read("docs/cli.md")
    for name, command in every_command():
        assert re.search(rf"\b{name.split()[0]}\b", readme), f"README.md lacks {name}"
        options = [o for p in command.params for o in p.opts]
        assert all(f"`{o}`" in cli or not o.startswith("--") for o in options), options
    for names, page in (
        ([*METHODS, *PRUNERS], "docs/methods.md"),
        ([*ARCHITECTURES, *PRUNERS], "docs/cli.md"),
    ):
        missing = [name for name in names if f"`{name}`" not in read(page)]
        assert not missing, f"{page} lacks {missing}"


def test_the_table_of_commands_says_what_their_docstrings_say() -> None:
    for path, line in COMMANDS.items():
        work = work_of(path)
        assert work is None or (inspect.getdoc(work) or "").split("\n")[0] == line.says


def test_the_readme_is_read_in_a_few_minutes() -> None:
    text = read("README.md")
    assert len(text.splitlines()) <= 135
    prose = re.sub(
        r"```.*?```|<!--.*?-->|^\|.*?$|\]\(\S+\)", "", text, flags=re.DOTALL | re.MULTILINE
    )
    assert 450 <= len(re.findall(r"[\w'`.-]*\w[\w'`.-]*", prose)) <= 650


def test_links_lead_somewhere() -> None:
    for page in PAGES:
        text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
        for target in re.findall(r"\]\((?!http)([^)#]+)", text):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_every_page_is_linked_from_the_readme() -> None:
    assert not [page.name for page in DOCS if f"(docs/{page.name})" not in read("README.md")]


def test_the_table_of_the_demonstration_is_explained_before_it_is_shown() -> None:
    before, _, rest = read("README.md").partition("\n| method | ")
    header, _, *rows = rest.partition("\n\n")[0].splitlines()
    for name in [part.strip() for part in header.split("|") if part.strip()]:
        assert f"**{name}**" in before, f"{name} is not explained before the table"
    assert set(AVERAGED) <= {name.strip() for name in header.split("|")}
    shown = [row.split("|")[1].strip() for row in rows]
    assert set(shown) == {*NO_METHODS, *DEMO_METHODS}
    assert all(f"`{name}`" in before for name in NO_METHODS)


# --- studies


def test_the_study_file_of_the_docs_is_one_and_shows_every_key(tmp_path: Path) -> None:
    text = read("docs/studies.md")
    (example,) = blocks(text, "yaml")
    file = tmp_path / "study.yaml"
    file.write_text(example, encoding="utf-8")
    assert read_study(file, scale="large").models == ("resnet18",)
    written = set(yaml.safe_load(example))
    assert written - {"scales"} == set(Study.model_fields) - {"scale"}
    for study in shipped_files():
        assert f"/shipped/{study}.yaml" in text, f"docs/studies.md does not list {study}"


# --- the house as docs/architecture.md draws it


def test_the_rooms_of_the_docs_are_those_of_the_house() -> None:
    spec = importlib.util.spec_from_file_location("house", ROOT / "tests/unit/test_architecture.py")
    assert spec is not None and spec.loader is not None
    house = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(house)
    rows = re.findall(r"^\| (\d+) \| `(\w+)` \| \S", read("docs/architecture.md"), re.MULTILINE)
    assert {room: int(floor) for floor, room in rows} == house.LAYERS
    assert [int(floor) for floor, _ in rows] == sorted(house.LAYERS.values())
    drawn = re.findall(r'font-size="13"[^>]*>([^<]+)<', read("docs/architecture.svg"))
    missing = set(house.LAYERS) - set(drawn)
    assert not missing, f"docs/architecture.svg lacks {missing}"


NAMED = re.findall(r"`([\w/]+\.(?:py|yaml|md))(?:::([\w.]+))?`", read("docs/architecture.md"))


@pytest.mark.parametrize("file", sorted({file for file, _ in NAMED} - {"study/shipped/NAME.yaml"}))
def test_what_the_architecture_names_is_there(file: str) -> None:
    inside = ROOT / "src/expunge" / file
    path = inside if inside.is_file() else ROOT / file
    assert path.is_file(), f"there is no {file}"
    known = defined(ast.parse(path.read_text(encoding="utf-8"))) if path.suffix == ".py" else set()
    for other, name in NAMED:
        assert other != file or not name or name in known, f"{file} defines no {name}"


def defined(tree: ast.Module | ast.ClassDef, before: str = "") -> set[str]:
    """Names that a module defines, with methods as Class.method."""
    found: set[str] = set()
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            found.add(f"{before}{node.name}")
        if isinstance(node, ast.ClassDef):
            found |= defined(node, f"{before}{node.name}.")
        if isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            found |= {f"{before}{target.id}" for target in targets if isinstance(target, ast.Name)}
    return found


def test_a_deletion_takes_nine_steps() -> None:
    text = read("docs/architecture.md").partition("## One deletion")[2].partition("\n## ")[0]
    assert re.findall(r"^(\d)\. \*\*", text, re.MULTILINE) == list("123456789")
    assert all(
        re.findall(r"`\w+[\w/]*\.py::", step) for step in text.split("\n\n")[2].split("\n1.")
    )


# --- commands

ELSEWHERE = {
    "demo": "e2e/test_cli.py",
    "diagnose": "e2e/test_sparsity_cli.py",
    "study run": "e2e/test_cli.py",
    "study report": "e2e/test_report_cli.py",
    "study records": "unit/test_study_cells.py",
    "study publish": "unit/test_study_tracking.py",
    "--figures": "e2e/test_forgetting_cli.py",
    "reviews.csv": "unit/test_hub.py",
    "serve --port": "unit/test_server.py",
}
"""Examples that take long: what they show runs, smaller, in these files; here they are only read."""
OF_LEDGERS = ("ledger", "request", "batch", "gate", "release", "certify", "serve")
"""Commands each of which needs what those before left: unit/test_{certifying,ledger,gate,server}.py."""
ORDER = ("train", "import", "prune", "unlearn", "cleanse", "audit", "export", "list", "study")
"""What an example starts from, another one made."""
MYNET = """
import torch

def build():
    return torch.nn.Sequential(
        torch.nn.AdaptiveAvgPool2d(4), torch.nn.Flatten(), torch.nn.Linear(48, 2)
    )
"""


def examples() -> list[str]:
    """Every `expunge ...` of the README and of docs/, each once, lines joined."""
    texts = [page.read_text(encoding="utf-8") for page in (ROOT / "README.md", *DOCS)]
    scripts = [block for text in texts for block in blocks(text, "sh")]
    lines = [line for one in scripts for line in one.replace("\\\n", " ").splitlines()]
    found = dict.fromkeys(" ".join(line.split()) for line in lines if line.startswith("expunge "))
    return sorted(found, key=lambda line: ORDER.index(w) if (w := line.split()[1]) in ORDER else 99)


@pytest.mark.parametrize("example", examples())
def test_every_example_is_a_command_with_options_that_there_are(example: str) -> None:
    words = shlex.split(example)[1:]
    named = dict(every_command())
    count = next(n for n in (3, 2, 1) if " ".join(words[:n]) in named)
    command = named[" ".join(words[:count])]
    given = command.make_context("expunge", words[count:]).params
    assert given.keys() == {one.name for one in command.params if one.name != "help"}


def test_no_example_hides_from_the_tests() -> None:
    """Commands stand in blocks marked `sh`; what they print in blocks marked `text`."""
    for page in (ROOT / "README.md", *DOCS):
        for language, text in re.findall(
            r"^```(\w*)\n(.*?)^```", page.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
        ):
            assert language in ("sh", "python", "text", "yaml", "toml"), (page.name, text)
            assert language == "sh" or not re.search(r"^\s*expunge ", text, re.MULTILINE), text


def smaller(words: list[str]) -> list[str]:
    """The same command with fewer samples, epochs, models and processes."""
    words = [re.sub(r"^digits(?=$|\+)", "digits:300", word) for word in words]
    for option, few in (("--models", "2"), ("--workers", "1")):
        if option in words:
            words[words.index(option) + 1] = few
    staged = "sisa" in words  # its stages need an epoch each, and it has no epochs of its own
    if "--epochs" in words:
        words[words.index("--epochs") + 1] = "2" if staged else "1"
    shorter = words[0] in ("unlearn", "cleanse") and not staged
    return [*words, "--set", "epochs=1"] if shorter else words


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each quick example prints, run one after the other in one folder."""
    folder = tmp_path_factory.mktemp("examples")
    (folder / "mynet.py").write_text(MYNET)
    (folder / "recipe.yaml").write_text("epochs: 1\nbatch_size: 8\n")
    net = torch.nn.Linear(48, 2)
    save_file(
        {"2.weight": net.weight.detach(), "2.bias": net.bias.detach()}, folder / "net.safetensors"
    )
    for number in range(24):
        place = (
            folder / "photos" / ("train" if number < 16 else "test") / ("cat", "dog")[number % 2]
        )
        place.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (72, 64), (10 * number, 90, 200 * (number % 2))).save(
            place / f"{number}.png"
        )
    rows = [f"p{row % 10:03d},{20 + row},{('CA', 'NY')[row % 2]},{row % 2}" for row in range(60)]
    (folder / "people.csv").write_text("\n".join(["person,age,state,income", *rows]))
    (folder / "poison.txt").write_text("train/cat/2.png\ntrain/cat/4.png\n")
    (folder / "withdrawn.txt").write_text("train/cat/0.png\ntrain/dog/1.png\n")
    return {
        example: expunge(*smaller(shlex.split(example)[1:]), cwd=folder).stdout
        for example in examples()
        if not any(f" {words} " in f"{example} " for words in ELSEWHERE)
        if example.split()[1] not in OF_LEDGERS
    }


@pytest.mark.thorough
def test_every_quick_example_runs(printed: dict[str, str]) -> None:
    left = {one for one in examples() if one.split()[1] not in OF_LEDGERS} - set(printed)
    assert len(printed) >= 15 and all(text.strip() for text in printed.values())
    assert len(left) <= 10, "these are only read; give those that are quick a run"
    for file in ELSEWHERE.values():
        assert (ROOT / "tests" / file).is_file()


def masked(text: str) -> str:
    """Without numbers, rules and the breadth of columns: those differ between machines."""
    return re.sub(r"\s+", " ", re.sub(r"[\d.,]*\d", "N", re.sub(r"[─–]+", "", text)))


def assert_shown(shown: str, real: str) -> None:
    """Every line that is shown was printed, but for numbers and for what `…` stands for."""
    whole = masked(real)
    for line in shown.splitlines():
        pieces = [piece.strip() for piece in masked(line).split("…")]
        missing = [piece for piece in pieces if piece not in whole]
        assert not missing, f"{missing} was not printed, but:\n{real}"


@pytest.mark.thorough
def test_the_readme_shows_what_its_command_prints(printed: dict[str, str]) -> None:
    first, second = PASTE.split(" && ")
    assert first in printed and second in printed, "the README has what the demonstration proposes"
    shown = blocks(read("README.md"), "text")[-1]
    assert "neggrad_plus forgot" in shown and "Empirical evidence" in shown
    assert_shown(shown, printed[second])


def test_a_line_that_nobody_printed_is_found() -> None:
    assert_shown("UA 3.1 … words", "UA      17.25  | and more\n words")
    with pytest.raises(AssertionError, match="was not printed"):
        assert_shown("UB 3.1", "UA 3.1")


# --- Python


@pytest.fixture
def run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[..., tuple[dict[str, Any], str]]:
    """Runs a page's Python, block after block, as one program; returns its names and what it prints."""
    monkeypatch.chdir(tmp_path)

    def runs(page: str, *changes: tuple[str, str]) -> tuple[dict[str, Any], str]:
        names: dict[str, Any] = {"__name__": "mine"}
        out = io.StringIO()
        for block in blocks(read(page), "python"):
            for old, new in changes:
                block = block.replace(old, new)
            with contextlib.redirect_stdout(out):
                exec(compile(block, page, "exec", dont_inherit=True), names)
        return names, out.getvalue()

    return runs


def test_the_readme_shows_what_its_python_prints(
    run: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    (code,) = blocks(read("README.md"), "python")
    assert len([line for line in code.splitlines() if line and "import" not in line]) == 6
    _, said = run("README.md", ("epochs=20", "epochs=1"), ('"digits"', '"digits:400"'))
    assert (tmp_path / "runs/forgot/model.json").is_file()
    shown = blocks(read("README.md"), "text")[0]
    rows = [line.replace("n/a", "n/a …") if line.strip() else line for line in shown.splitlines()]
    assert_shown("\n".join(rows), said)


def test_the_python_page_runs_and_shows_what_it_prints(
    run: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    names, said = run("docs/python.md")
    for text in blocks(read("docs/python.md"), "text"):
        assert_shown(text, said)
    assert list(names["frame"]["score"])[:3] == ["UA", "RA", "TA"]
    assert names["again"].split == names["by_ids"].split


@THOROUGH
def test_what_the_page_on_extending_shows_keeps_every_promise(
    run: Callable[..., tuple[dict[str, Any], str]],
) -> None:
    names, _ = run("docs/extending.md")  # checks its methods itself
    names["check_pruner"](names["Relative"])
    import expunge as library

    data = library.load_data("digits:200")
    original = library.adopt(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 10)), data)
    forgot = library.unlearn(original, "class:3", names["Climb"](step=0.2))
    scores = library.audit(forgot, also=[names["Sureness"]()])
    assert 10 <= scores["sureness"].value <= 100
    for kind, known in (("methods", "Climb"), ("pruners", "Relative"), ("audits", "Sureness")):
        (value,) = re.findall(rf'expunge\.{kind}"\]\n\w+ = "mine:(\w+)"', read("docs/extending.md"))
        assert value == known


TINY = """
name: smoke
data: ["digits:200"]
models: [mlp]
recipes: {quick: {epochs: 1}}
methods: {finetune: {epochs: 1}}
scenarios: [class]
controls: false
class_also: []
seeds: [0]
floor: false
"""


def test_the_python_of_the_page_on_studies_runs(
    run: Callable[..., tuple[dict[str, Any], str]], tmp_path: Path
) -> None:
    (tmp_path / "tiny.yaml").write_text(TINY)
    changes = ('study_file("smoke")', '"tiny.yaml"'), ("workers=2", "workers=1")
    names, _ = run("docs/studies.md", *changes)
    assert {"finetune", "retrain"} <= set(names["frame"]["method"])
