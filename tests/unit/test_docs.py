"""What is written about the project is true of it."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import yaml

from expunge.cli import app
from expunge.methods import METHODS
from expunge.models.table import ARCHITECTURES
from expunge.pruning import PRUNERS
from expunge.study.catalogue import shipped_files
from expunge.study.file import read_study
from expunge.study.schema import Study

ROOT = Path(__file__).resolve().parents[2]
PAGES = (
    ROOT / "README.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").glob("*.md")),
    ROOT / "docs/results/README.md",
)


def test_the_methods_page_is_what_the_code_says() -> None:
    spec = importlib.util.spec_from_file_location("build", ROOT / "docs/build.py")
    assert spec is not None and spec.loader is not None
    build = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(build)
    assert (ROOT / "docs/methods.md").read_text(encoding="utf-8") == build.page()


def test_the_readme_names_every_command_method_and_model() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    commands = [command.name or command.callback.__name__ for command in app.registered_commands]
    groups = [group.name or "" for group in app.registered_groups]
    for name in (*commands, *groups, *METHODS, *PRUNERS, *ARCHITECTURES):
        assert re.search(rf"\b{name}\b", text), f"README.md does not mention {name}"


def test_links_in_the_docs_lead_somewhere() -> None:
    for page in PAGES:
        for target in re.findall(r"\]\((?!http)([^)#]+)", page.read_text(encoding="utf-8")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_study_file_of_the_docs_is_one_and_shows_every_key(tmp_path: Path) -> None:
    text = (ROOT / "docs/studies.md").read_text(encoding="utf-8")
    example = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert example is not None
    file = tmp_path / "study.yaml"
    file.write_text(example[1], encoding="utf-8")
    assert read_study(file, scale="large").models == ("resnet18",)
    written = set(yaml.safe_load(example[1]))
    assert written - {"scales"} == set(Study.model_fields) - {"scale"}
    for study in shipped_files():
        assert f"/shipped/{study}.yaml" in text, f"docs/studies.md does not list {study}"
