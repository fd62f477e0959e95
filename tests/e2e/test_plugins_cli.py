"""Methods, pruners and data of other people, from the command line and in studies.

Nothing of theirs is in this package: `tests/third_party/plugin_fixture` is a package of its own, as
pip would leave it, and `mine.py` a file that lies in the folder where somebody works.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml
from commands import expunge, refused, train_digits
from thorough import THOROUGH

FIXTURE = Path(__file__).resolve().parents[1] / "third_party" / "plugin_fixture"
MINE = """
from pydantic import Field

from expunge.pruning.random import Random
from forgetful.methods import Shrink

class Mine(Shrink):
    '''Shrink, by another name.'''
    name = "mine"
    times: float = Field(default=1, description="nothing")
    parts: tuple[str, ...] = ("weight",)
    word: str = "10"

class Cut(Random):
    '''Cut by chance.'''
    name = "cut"
"""
STUDY = """\
name: foreign
data: ["spots:side=4"]
models: [mlp]
recipes: {quick: {epochs: 1, batch_size: 32}}
densities:
  - {}
  - {pruner: "mine:Cut", sparsity: 0.5}
scenarios: [class]
controls: false
class_also: []
methods:
  shrink: {share: [0.1, 0.2]}
  mine: {method: "mine:Mine", times: 2}
  finetune: {epochs: 1}
seeds: [0]
"""


RUN = ("study", "run", "study.yaml", "--out", "out", "--allow-code")


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `mine.py`; the other package is installed."""
    monkeypatch.syspath_prepend(FIXTURE)
    write(tmp_path)
    return tmp_path


def write(folder: Path) -> None:
    (folder / "mine.py").write_text(MINE)
    (folder / "study.yaml").write_text(STUDY)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Such a folder, whose study was run; for copies."""
    folder = tmp_path_factory.mktemp("made")
    write(folder)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(FIXTURE)
        assert "16 of 16 cells done\n" in expunge(*RUN, cwd=folder).stdout
    return folder


@pytest.fixture(scope="module")
def original(shared: Callable[[str, Callable[[Path], None]], Path]) -> Path:
    return shared("digits-cnn", train_digits) / "original"


def lineage(folder: Path) -> dict[str, object]:
    step: dict[str, object] = json.loads((folder / "model.json").read_text())["lineage"][-1]
    return step


@pytest.mark.parametrize(
    ("method", "recorded", "share"),
    [
        ("shrink", "shrink", 0.1),
        ("shrink:hard", "shrink", 0.5),
        ("forgetful.methods:Shrink", "shrink", 0.1),
        ("mine:Mine", "mine:Mine", 0.1),
    ],
)
def test_unlearn_by_name_and_by_code(
    work: Path, original: Path, method: str, recorded: str, share: float
) -> None:
    asked = ("--forget", "class:3", "--method", method, "--out", "forgot")
    expunge("unlearn", str(original), *asked, cwd=work)
    step = lineage(work / "forgot")
    settings = step["settings"]
    assert step["step"] == recorded
    assert isinstance(settings, dict) and settings["share"] == share
    assert "UA" in expunge("audit", "forgot", "--original", str(original), cwd=work).stdout


def test_settings_of_anothers_method_are_checked_as_ours_are(work: Path, original: Path) -> None:
    asked = ("unlearn", str(original), "--forget", "class:3", "--out", "x", "--method", "shrink")
    assert "did you mean 'share'" in refused(*asked, "--set", "shares=1", cwd=work)
    assert "share = 2" in refused(*asked, "--set", "share=2", cwd=work)


def test_train_prune_and_load_data_of_others(work: Path) -> None:
    quick = ("--epochs", "1", "--out")
    expunge("train", "--data", "spots:side=5", "--model", "mlp", *quick, "dense", cwd=work)
    for pruner, recorded in (("dice", "dice"), ("mine:Cut", "mine:Cut")):
        asked = ("--data", "spots", "--model", "mlp", "--pruner", pruner, "--sparsity", "0.5")
        expunge("prune", *asked, *quick, recorded.replace(":", "-"), cwd=work)
        settings = lineage(work / recorded.replace(":", "-"))["settings"]
        assert isinstance(settings, dict) and settings["pruner"] == recorded
    asked = ("--forget", "class:1", "--method", "finetune", "--out", "less")
    expunge("unlearn", "dense", *asked, cwd=work)  # a folder's data need no consent: installed


def test_a_study_names_code_only_with_consent_and_is_looked_at_without_any(
    work: Path,
    made: Path,
    tmp_path_factory: pytest.TempPathFactory,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All that a run makes is found again where neither the package nor the file is there.

    A tuple is no list of values to try, and a text of digits is no number, when they are read again.
    """
    said = refused("study", "run", "study.yaml", "--out", "out", cwd=work)
    assert "study.yaml, line 13: the method 'mine:Mine' names code" in said
    assert "pass --allow-code" in said and not (work / "out").exists()
    less = STUDY.replace('  mine: {method: "mine:Mine", times: 2}\n', "")
    (work / "less.yaml").write_text(less)
    said = refused("study", "run", "less.yaml", "--out", "out", cwd=work)
    assert "less.yaml, line 7: the pruner 'mine:Cut' names code" in said

    shutil.copytree(made / "out", work / "out")
    written = yaml.safe_load((work / "out/study.yaml").read_text())["methods"]
    assert written["mine"]["settings"] == {"times": 2}, "as it was given"
    assert written["mine"]["recorded"] == {
        "mine": {
            "method": "mine:Mine",
            "settings": {"share": 0.1, "times": 2.0, "parts": ["weight"], "word": "10"},
        }
    }
    assert list(written["shrink"]["recorded"]) == ["shrink (share=0.1)", "shrink (share=0.2)"]
    assert "recorded" not in written["finetune"]
    again = expunge(*RUN, "--rerun-stale", cwd=work)
    assert "16 of 16 cells done\n" in again.stdout, "nothing is stale, nothing is made anew"

    away = tmp_path_factory.mktemp("away")
    shutil.copytree(work / "out", away / "out")
    shutil.copy(work / "study.yaml", away)
    monkeypatch.undo()
    for name in [name for name in sys.modules if name.split(".")[0] in ("forgetful", "mine")]:
        monkeypatch.delitem(sys.modules, name)
    looked = ("study.yaml", "--out", "out")
    assert expunge("study", "status", *looked, cwd=away).stdout == (
        "study foreign: 16 of 16 cells done\n"
    )
    told = expunge("study", "results", *looked, cwd=away).stdout
    assert all(w in told for w in ("(share=0.2)", "mine", "50 % mine:Cut")), told
    expunge("study", "report", "out", cwd=away)
    expunge("study", "records", "out", "--out", "records", cwd=away)
    assert "mine" in (away / "out/report/report.html").read_text()
    assert not {"forgetful", "mine"} & {name.split(".")[0] for name in sys.modules}
    said = refused("study", "run", *looked, "--allow-code", cwd=away)
    assert "line 12: no method 'shrink'" in said


def test_what_a_run_did_not_record_counts_as_not_made_yet(work: Path, made: Path) -> None:
    shutil.copytree(made / "out", work / "out")
    for old, new, missing in (
        ("times: 2", "times: 3", 2),
        ("times: 2", "share: 0.3", 2),
        ("times: 2", "times: 2.0", 0),
        ("sparsity: 0.5", "sparsity: 0.6", 8),
        ("share: [0.1, 0.2]", "share: [0.1, 0.2, 0.3]", 2),
    ):
        (work / "study.yaml").write_text(STUDY.replace(old, new))
        told = expunge("study", "status", "study.yaml", "--out", "out", cwd=work).stdout
        assert ("waiting" in told) == bool(missing)
        assert not missing or f"; {missing} waiting" in told, told
    (work / "study.yaml").write_text(STUDY.replace("  shrink:", "  shrinks:"))
    said = refused("study", "status", "study.yaml", "--out", "out", cwd=work)
    assert "line 12: no method 'shrinks', did you mean 'shrink'" in said


@pytest.mark.parametrize("search", ["grid", pytest.param("optuna", marks=THOROUGH)])
def test_a_foreign_method_is_tuned_and_what_was_chosen_is_read_without_it(
    work: Path, monkeypatch: pytest.MonkeyPatch, search: str
) -> None:
    space = "[0, 0.5]" if search == "grid" else "{low: 0, high: 0.5}"
    study = STUDY.replace("  - {}\n", "").replace("times: 2", "times: 1").replace(
        "shrink: {share: [0.1, 0.2]}", "plain: {method: finetune, epochs: 1}"
    ) + (
        f"tuning: {{trials: 2, search: {search}, methods: {{mine: {{share: {space}}}}}}}\n"
        "validation: 0.25\n"
    )
    (work / "study.yaml").write_text(study)
    expunge(*RUN, cwd=work)
    monkeypatch.undo()
    (work / "mine.py").write_text("raise RuntimeError('was run')\n")
    for name in [name for name in sys.modules if name.split(".")[0] in ("forgetful", "mine")]:
        monkeypatch.delitem(sys.modules, name)
    told = expunge("study", "results", "study.yaml", "--out", "out", cwd=work).stdout
    assert "mine" in told and "share" in told
    status = expunge("study", "status", "study.yaml", "--out", "out", cwd=work).stdout
    assert "waiting" not in status and "9 of 9" in status


@pytest.mark.parametrize(
    ("space", "words"),
    [
        ("{shares: [0.1, 0.2]}", "tuning mine: Mine has no setting 'shares', did you mean 'share'"),
        ("{share: [0.1, 2]}", "tuning mine: Mine: share = 2"),
        ("{share: [0.1]}", "its grid has 1 points, and every method gets 2 trials"),
        ("{share: []}", "its grid has 0 points"),
        ("{share: {low: 0}}", "a grid needs a list of values of share"),
    ],
)
def test_faults_in_tuning_a_foreign_method(work: Path, space: str, words: str) -> None:
    tuning = f"tuning: {{trials: 2, methods: {{mine: {space}}}}}\n"
    (work / "study.yaml").write_text(STUDY + tuning)
    run = ("study", "run", "study.yaml", "--out", "out")
    assert words in refused(*run, "--allow-code", cwd=work)
    assert "line 13: the method 'mine:Mine' names code" in refused(*run, cwd=work)


def test_lists_show_what_others_bring_and_what_cannot_be_used(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = work / "broken-0.3.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 0.3\n")
    (info / "entry_points.txt").write_text("[expunge.methods]\nlost = broken_plugin:Lost\n")
    monkeypatch.syspath_prepend(work)
    methods = expunge("list", "methods", cwd=work).stdout
    rows = {line.split()[0]: line for line in methods.splitlines() if line.strip()}
    assert "Shrink every weight a little." in rows["shrink"] and "forgetful 1.2" in rows["shrink"]
    assert "cannot be used" in rows["lost"] and "broken 0.3" in rows["lost"]
    assert "finetune" in rows and "module:Class" in rows
    assert "dice" in expunge("list", "pruners", cwd=work).stdout
    assert "A bright spot" in expunge("list", "datasets", cwd=work).stdout
    one = expunge("list", "methods", "shrink", cwd=work).stdout
    assert all(word in one for word in ("from: forgetful 1.2", "share", "shrink:hard", "0.1"))
    assert "Shrink, by another name." in expunge("list", "methods", "mine:Mine", cwd=work).stdout
    assert "forgetful 1.2" in expunge("list", "datasets", "spots", cwd=work).stdout
    assert "cannot be imported" in refused("list", "methods", "lost", cwd=work)
    assert "cannot be imported" in refused(
        "unlearn", "nowhere", "--forget", "class:1", "--method", "lost", "--out", "x", cwd=work
    )


def test_the_list_of_all_lists_imports_nobody(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.split(".")[0] == "forgetful"]:
        monkeypatch.delitem(sys.modules, name)
    told = expunge("list", cwd=work).stdout
    assert "shrink" in told and "see `expunge list methods`" in told
    assert not any(name.split(".")[0] == "forgetful" for name in sys.modules)


def test_the_method_of_the_docs_is_one(tmp_path: Path, original: Path) -> None:
    page = Path(__file__).resolve().parents[2] / "docs/extending.md"
    (tmp_path / "mine.py").write_text(page.read_text().split("```python")[1].split("```")[0])
    asked = ("--forget", "class:3", "--method", "mine:Climb", "--set", "step=0.2")
    expunge("unlearn", str(original), *asked, "--out", "less", cwd=tmp_path)
    assert lineage(tmp_path / "less")["step"] == "mine:Climb"


@THOROUGH
def test_an_audit_of_another_package_is_made_wherever_audits_are(
    work: Path, original: Path
) -> None:
    """By entry point and by code, from the command line and in a study, without being known."""
    asked = ("--forget", "class:3", "--method", "shrink", "--with-reference", "--out", "forgot")
    page = ("--also", "certainty", "--report", "page")
    said = expunge("unlearn", str(original), *asked, *page, cwd=work).stdout
    assert "certainty" in (work / "page/report.html").read_text()
    assert "mean probability of the class that forget samples are called" in said
    both = ("--original", str(original), "--retrained", "forgot-retrained", "--json")
    for name in ("certainty", "forgetful.audits:Certainty"):
        scores = expunge("audit", "forgot", *both, "--also", name, cwd=work).stdout
        found = {one["name"]: one for one in json.loads(scores)["scores"]}["certainty"]
        assert 0 < found["value"] < 100 and found["gap"] is not None
        assert "original" in found["detail"]
    assert "certainty" in expunge("list", "audits", cwd=work).stdout
    assert "forgetful 1.2" in expunge("list", "audits", "certainty", cwd=work).stdout


@pytest.mark.parametrize(
    ("name", "consent"),
    [("certainty", False), pytest.param("forgetful.audits:Certainty", True, marks=THOROUGH)],
)
def test_a_study_takes_an_audit_of_another_package(work: Path, name: str, consent: bool) -> None:
    (work / "audited.yaml").write_text(
        "name: audited\ndata: [spots]\nmodels: [mlp]\nscenarios: [class]\nseeds: [0, 1]\n"
        "controls: false\nclass_also: []\n"
        "recipes: {quick: {epochs: 1, batch_size: 32}}\nmethods: {shrink: {}}\n"
        f"also: ['{name}']\nclaims: [certainty of shrink < certainty of retrain]\n"
    )
    run = ("study", "run", "audited.yaml", "--out", "out")
    if consent:
        assert "pass --allow-code" in refused(*run, cwd=work)
        run = (*run, "--allow-code")
    said = expunge(*run, cwd=work).stdout
    assert "certainty of shrink < certainty of retrain: " in said
    assert "| shrink |" in (work / "out/results/table.md").read_text()
    assert "certainty" in (work / "out/results/table.md").read_text()
    expunge("study", "report", "out", cwd=work)
    assert "certainty" in (work / "out/report/report.html").read_text()


@pytest.mark.thorough
def test_a_package_of_methods_runs_from_command_line_and_study(
    work: Path, original: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`forgetting_extras` lives outside this package; its classes are named as they are imported."""
    monkeypatch.syspath_prepend(FIXTURE.parent / "forgetting_extras")
    method = "forgetting_extras.dampening:Dampening"
    asked = ("--forget", "class:3", "--method", method, "--out", "forgot")
    expunge("unlearn", str(original), *asked, cwd=work)
    assert lineage(work / "forgot")["step"] == method
    (work / "extras.yaml").write_text(
        "name: extras\ndata: ['digits:200']\nmodels: [mlp]\nscenarios: [class]\nseeds: [0]\n"
        "controls: false\nclass_also: []\n"
        "recipes: {quick: {epochs: 1, batch_size: 32}}\nfloor: false\nmethods:\n"
        f"  dampening: {{method: '{method}'}}\n"
        "  saliency: {method: 'forgetting_extras.saliency:Saliency', epochs: 1}\n"
    )
    run = ("study", "run", "extras.yaml", "--out", "extras", "--allow-code")
    assert "5 of 5 cells done" in expunge(*run, cwd=work).stdout
