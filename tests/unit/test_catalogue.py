"""How a name is looked up: our table, then entry points of installed packages, then `module:Object`."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType, SimpleNamespace
from typing import Any

import pytest
import torch

from expunge import audits, methods, pruning
from expunge.audits import AUDITS, Audit
from expunge.data.parts import Part
from expunge.data.spec import DATASETS, DataSpec, is_code
from expunge.errors import ConfigError, DataError, ModelError, UserError
from expunge.methods import METHODS, Method, find_method, make_method, method_name
from expunge.names.code import import_object, module_file
from expunge.names.tables import by_name, pick
from expunge.pruning import PRUNERS, make_pruner, pruner_name
from expunge.pruning.search import _checked

FIXTURE = Path(__file__).resolve().parents[1] / "third_party" / "plugin_fixture"


def install(
    folder: Path,
    patch: pytest.MonkeyPatch,
    package: str,
    points: Mapping[str, Mapping[str, str]],
    files: Mapping[str, str] | None = None,
) -> None:
    """A package as pip would leave it: metadata with entry points, by group and name, and modules."""
    info = folder / f"{package.replace('-', '_')}-0.1.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 0.1\n")
    text = "".join(
        f"[{group}]\n" + "".join(f"{name} = {value}\n" for name, value in entries.items())
        for group, entries in points.items()
    )
    (info / "entry_points.txt").write_text(text)
    for name, source in (files or {}).items():
        (folder / name).write_text(source)
    if str(folder) not in sys.path:
        patch.syspath_prepend(folder)


@pytest.fixture
def forgetful(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(FIXTURE)


@pytest.mark.usefixtures("forgetful")
def test_an_entry_point_is_a_name_like_ours() -> None:
    shrink = make_method("shrink", {"share": 0.2}, allow_code=True)
    assert type(shrink).__module__ == "forgetful.methods"
    assert shrink.model_dump() == {"share": 0.2}
    assert make_method("shrink:hard", allow_code=True).model_dump() == {"share": 0.5}
    assert (
        find_method("shrink", allow_code=True)
        is find_method("forgetful.methods:Shrink", allow_code=True)
        is type(shrink)
    )
    assert make_pruner("dice", {"sparsity": 0.5}, allow_code=True).model_dump() == {
        "sparsity": 0.5,
        "sides": 6,
    }
    assert "shrink" not in METHODS and "dice" not in PRUNERS, "our tables stay ours"
    assert methods.ALL_METHODS.names() == (*METHODS, *methods.CONTROLS, "shrink")
    assert [plugin.origin for plugin in methods.ALL_METHODS.plugins()] == ["forgetful 1.2"]


@pytest.mark.usefixtures("forgetful")
def test_a_record_has_the_name_by_which_the_same_is_made_again() -> None:
    for name in (*METHODS, "shrink"):
        assert method_name(make_method(name, allow_code=True)) == name
    assert method_name(make_method("forgetful.methods:Shrink", allow_code=True)) == "shrink"
    assert method_name(make_method("unsir:notebook", allow_code=True)) == "unsir"
    for name in (*PRUNERS, "dice"):
        assert pruner_name(make_pruner(name, allow_code=True)) == name


def test_code_without_an_entry_point_is_recorded_as_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = (FIXTURE / "forgetful/methods.py").read_text()
    (tmp_path / "lone.py").write_text(source)
    (tmp_path / "front.py").write_text("from lone import Shrink\n")
    monkeypatch.syspath_prepend(tmp_path)
    made = make_method("front:Shrink", allow_code=True)
    assert method_name(made) == "lone:Shrink", "where it is written, whatever leads there"
    assert type(make_method("lone:Shrink", allow_code=True)) is type(made)
    assert methods.ALL_METHODS.module_of("lone:Shrink") == "lone"


def test_a_class_that_only_has_the_name_of_ours_is_not_recorded_as_ours() -> None:
    class Mine(METHODS["finetune"]):  # type: ignore[misc, valid-type]
        """Another one."""

    assert method_name(Mine()).endswith("<locals>.Mine")


@pytest.mark.usefixtures("forgetful")
def test_two_that_call_themselves_alike_are_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One is an entry point's, one lies in a file; and an entry point may lead round a corner."""
    (tmp_path / "lone.py").write_text((FIXTURE / "forgetful/methods.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "lone", raising=False)
    assert method_name(make_method("lone:Shrink", allow_code=True)) == "lone:Shrink"
    assert method_name(make_method("shrink", allow_code=True)) == "shrink"


def test_an_entry_point_may_lead_to_a_class_of_another_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its record has the short name, which needs no consent, and not the module of the class."""
    files = {"corner.py": "from around import Whole\n", "around.py": METHOD}
    point = {"expunge.methods": {"whole": "corner:Whole"}}
    install(tmp_path, monkeypatch, "cornered", point, files)
    assert method_name(make_method("whole", allow_code=True)) == "whole"
    assert method_name(make_method("around:Whole", allow_code=True)) == "whole"


@pytest.mark.parametrize("source", ["raise RuntimeError\n", "Method = None\n"])
def test_an_entry_point_that_is_broken_is_in_nobodys_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Not even in that of a class which calls itself as it does."""
    point = {"expunge.methods": {"whole": "broken_whole:Method"}}
    install(tmp_path, monkeypatch, "broken", point, {"broken_whole.py": source, "w.py": METHOD})
    monkeypatch.delitem(sys.modules, "broken_whole", raising=False)
    assert method_name(make_method("w:Whole", allow_code=True)) == "w:Whole"


def test_a_name_that_two_claim_is_refused_and_both_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(tmp_path / "one", monkeypatch, "bold-one", {"expunge.methods": {"shrink": "a:B"}})
    install(tmp_path / "two", monkeypatch, "bold-two", {"expunge.methods": {"shrink": "c:D"}})
    with pytest.raises(ConfigError, match=r"bold-one 0\.1 and bold-two 0\.1 both bring .*'shrink'"):
        make_method("shrink", allow_code=True)
    assert make_method("retrain", allow_code=True).name == "retrain", (
        "the others are not touched by it"
    )


@pytest.mark.parametrize(
    ("source", "words"),
    [
        ("import nowhere_at_all\n", "ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("raise SystemExit(3)\n", "SystemExit: 3"),
        ("raise RuntimeError('one\\ntwo')\n", "RuntimeError: one two"),
        ("", "AttributeError"),
    ],
)
def test_what_cannot_be_imported_breaks_only_what_asks_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str, words: str
) -> None:
    point = {"expunge.methods": {"broken": "broken_plugin:Method"}}
    install(tmp_path, monkeypatch, "broken", point, {"broken_plugin.py": source})
    monkeypatch.delitem(sys.modules, "broken_plugin", raising=False)
    assert make_method("finetune", allow_code=True).name == "finetune"
    with pytest.raises(ConfigError, match=r"'broken' of broken 0\.1 cannot be imported") as caught:
        make_method("broken", allow_code=True)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    ((plugin, error),) = methods.ALL_METHODS.offered()
    assert plugin.name == "broken" and isinstance(error, ConfigError)


METHOD = """
from expunge.data.parts import Part
from expunge.methods import Method

class Whole(Method):
    '''All there.'''
    name = "whole"
    paper = "p"
    reads = Part.RETAIN
    def unlearn(self, model, data, run):
        return model

class Bare(Method):
    name = "bare"

class Taken(Whole):
    '''A name that is taken.'''
    name = "finetune"

class Train(Whole):
    '''A word of records.'''
    name = "train"

class Words(Whole):
    '''More than one word.'''
    name = "two:words"

def function():
    pass
"""


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("shapes:Bare", "shapes:Bare lacks paper, reads, a docstring, unlearn()"),
        ("shapes:Taken", "calls itself 'finetune', and expunge has a method of that name"),
        ("shapes:function", "is no unlearning method: derive a class from expunge's Method"),
        ("shapes:Train", "cannot be called 'train'"),
        ("shapes:Words", "cannot be called 'two:words'"),
        ("shapes:Nobody", "has no 'Nobody'"),
        ("shape/s:Whole", "not as a path"),
        ("retrain:x", "retrain has no preset 'x'"),
        ("other", "leads to a method that calls itself 'whole'"),
        ("whol", "no method 'whol', did you mean 'whole'"),
    ],
)
def test_what_is_no_method_is_told_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, words: str
) -> None:
    point = {"expunge.methods": {"other": "shapes:Whole", "whole": "shapes:Whole"}}
    install(tmp_path, monkeypatch, "shapely", point, {"shapes.py": METHOD})
    with pytest.raises(ConfigError) as caught:
        make_method(name, allow_code=True)
    assert words in str(caught.value) and "\n" not in str(caught.value)
    assert make_method("shapes:Whole", allow_code=True).name == "whole"


def test_code_from_a_file_needs_consent_and_an_entry_point_needs_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.syspath_prepend(FIXTURE)
    for make, code in (
        (make_method, "forgetful.methods:Shrink"),
        (make_pruner, "forgetful.pruning:Dice"),
    ):
        with pytest.raises(ConfigError, match="pass --allow-code"):
            make(code, allow_code=False)
    assert make_method("shrink", allow_code=False).name == "shrink"
    assert make_method("unsir:notebook", allow_code=False).name == "unsir"


def test_a_class_within_a_class_and_files_found_without_running_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "deep"
    package.mkdir()
    (package / "__init__.py").write_text("raise RuntimeError('was run')\n")
    (package / "inner.py").write_text("class Outer:\n    class Inner:\n        pass\n")
    (tmp_path / "flat.py").write_text((package / "inner.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    found = import_object("flat:Outer.Inner", allow_code=True, what="x", error=ConfigError)
    assert found.__qualname__ == "Outer.Inner"
    assert module_file("deep.inner") == package / "inner.py"
    assert module_file("deep") == package / "__init__.py"
    assert module_file("deep.none") is None and module_file("none.at.all") is None
    assert module_file("expunge.methods.finetune") == Path(
        sys.modules["expunge.methods.finetune"].__file__ or ""
    )


# --- data


@pytest.mark.usefixtures("forgetful")
def test_data_of_a_package_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from expunge.data.load import load_data

    small, large = load_data("spots", allow_code=False), load_data("spots:side=5:40")
    assert small.train.shape() == (1, 4, 4) and len(small.train) == 80
    assert large.train.shape() == (1, 5, 5) and len(large.train) == 40, "a count as for all data"
    assert large.spec == "spots:side=5:40" and not small.test_drawn
    assert not is_code("spots:side=5") and is_code("spotz:side")
    with pytest.raises(DataError, match=r"its package found no data .*FileNotFoundError: no such"):
        load_data("spots:gone")
    with pytest.raises(DataError, match="resizes encoded images"):
        DataSpec.parse("spots@8").check(allow_code=True)
    with pytest.raises(DataError, match=r"did you mean 'spots'.*there are digits, .*spots"):
        DataSpec.parse("spotts").check(allow_code=True)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "spots").mkdir()
    assert DATASETS.names()[-1] == "spots"
    with pytest.raises(DataError):  # a folder that is there goes first, and this one is empty
        load_data("spots")


def test_no_package_takes_the_place_of_a_name_of_ours(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    points = {"expunge.data": {"digits": "a:b"}, "expunge.methods": {"finetune": "a:B"}}
    install(tmp_path, monkeypatch, "bold", points)
    DataSpec.parse("digits:100").check(allow_code=True)
    assert type(make_method("finetune", allow_code=True)) is METHODS["finetune"]
    ((plugin, why),) = methods.ALL_METHODS.offered()
    assert plugin.package == "bold"
    assert "expunge has one of this name; it is found as a:B" in str(why)


def test_an_abstract_method_lacks_its_function() -> None:
    kept = {"__doc__": "Half.", "name": "half", "paper": "none", "reads": Part.RETAIN}
    with pytest.raises(ConfigError, match=r"x:Half lacks unlearn\(\); every"):
        methods._admit(type("Half", (Method,), kept), "x:Half")


def test_pruners_have_no_presets_and_no_module_is_called_as_they_are() -> None:
    with pytest.raises(ConfigError, match=r"no pruner 'omp:x', did you mean 'omp'"):
        make_pruner("omp:x", allow_code=True)


@pytest.mark.parametrize(
    ("told", "changes", "needs"),
    [
        ("a score called 'UA' is there already", {"name": "UA"}, ()),
        ("has the target 'retraind', did you mean 'retrained'", {"target": "retraind"}, ()),
        ("needs 'outputz', did you mean 'outputs'", {}, ("outputz",)),
    ],
)
def test_what_an_audit_cannot_declare_is_told(
    told: str, changes: dict[str, str], needs: tuple[str, ...]
) -> None:
    info = replace(AUDITS["weight_distance"].info[0], **{"name": "new", **changes})
    kept = {"__doc__": "x", "name": "mine", "info": (info,), "needs": frozenset(needs)}
    kind = type("Mine", (Audit,), {**kept, "scores": lambda self, panel: iter(())})
    with pytest.raises(ConfigError, match=re.escape(told)):
        audits._admit(kind, "x:Mine")


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (None, "pruner one gave NoneType, not a mask"),
        ({"weight": torch.ones(2, 3)}, "the mask of 'weight' is torch.float32, not bool"),
        ({"weight": torch.ones(5).bool()}, "weight"),
        ({"other": torch.ones(2, 3).bool()}, "the mask names 'other'"),
    ],
)
def test_a_mask_that_is_none_of_the_model_is_refused(mask: object, told: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(told)):
        _checked(SimpleNamespace(name="one"), mask, torch.nn.Linear(3, 2))  # type: ignore[arg-type]


def test_what_lacks_of_a_pruner_is_told() -> None:
    with pytest.raises(ConfigError, match="lacks name, paper, trained, mask"):
        pruning._admit(type("Bare", (pruning.Pruner,), {"__doc__": "Bare."}), "x:Bare")


# --- tables of things with names: what is in them, in which order, and what is said of what is not


TABLE = by_name("pruner", [("synflow", 1), ("omp", 2), ("imp", 3)])


def told(*arguments: Any, **options: Any) -> str:
    with pytest.raises(UserError) as caught:
        pick(*arguments, **options)
    return str(caught.value)


def test_the_order_is_that_of_the_entries() -> None:
    assert list(TABLE.items()) == [("synflow", 1), ("omp", 2), ("imp", 3)]
    assert list(by_name("pruner", reversed(TABLE.items()))) == ["imp", "omp", "synflow"]
    assert not by_name("pruner", [])


def test_entries_are_read_once() -> None:
    assert dict(by_name("digit", ((str(i), i) for i in range(3)))) == {"0": 0, "1": 1, "2": 2}


@pytest.mark.parametrize("second", [5, 2])
def test_a_name_that_occurs_twice_raises(second: int) -> None:
    """The same thing twice, too: a table that is written down holds each once."""
    with pytest.raises(ValueError, match=r"^two pruners are called 'omp'$"):
        by_name("pruner", [("omp", 2), ("imp", 3), ("omp", second)])


def test_a_table_is_read_only() -> None:
    table: Any = TABLE
    assert isinstance(table, MappingProxyType)
    with pytest.raises(TypeError):
        table["omp"] = 5
    with pytest.raises(TypeError):
        del table["omp"]
    assert dict(TABLE) == {"synflow": 1, "omp": 2, "imp": 3}


def test_what_comes_after_does_not_reach_the_table() -> None:
    entries = [("omp", 2)]
    table = by_name("pruner", entries)
    entries.append(("imp", 3))
    assert dict(table) == {"omp": 2}


def test_pick_gives_the_entry() -> None:
    assert [pick("pruner", TABLE, name) for name in TABLE] == [1, 2, 3]
    assert pick("pruner", by_name("pruner", [("none", None)]), "none") is None


def test_an_unknown_name_hears_what_there_is_and_the_nearest() -> None:
    assert told("pruner", TABLE, "ompp") == (
        "no pruner 'ompp', did you mean 'omp'?; there are: synflow, omp, imp"
    )


def test_far_from_all_names_nothing_is_suggested() -> None:
    assert told("pruner", TABLE, "zzz") == "no pruner 'zzz'; there are: synflow, omp, imp"
    assert told("pruner", TABLE, "") == "no pruner ''; there are: synflow, omp, imp"


def test_case_counts_but_not_for_the_suggestion() -> None:
    assert told("pruner", TABLE, "SynFlow") == (
        "no pruner 'SynFlow', did you mean 'synflow'?; there are: synflow, omp, imp"
    )


def test_what_else_could_have_been_typed_comes_last_and_is_no_entry() -> None:
    also = ("all", "a path to weights")
    assert pick("pruner", TABLE, "omp", also=also) == 2
    assert told("pruner", TABLE, "zzz", also=also) == (
        "no pruner 'zzz'; there are: synflow, omp, imp, all, a path to weights"
    )


@pytest.mark.parametrize("error", [ConfigError, ModelError, DataError])
def test_the_error_is_of_the_class_asked_for(error: type[UserError]) -> None:
    with pytest.raises(error, match=re.escape("no architecture 'x'; there are: mlp")) as caught:
        pick("architecture", {"mlp": 1}, "x", error=error)
    assert type(caught.value) is error


def test_the_error_is_a_config_error_unless_asked() -> None:
    with pytest.raises(ConfigError):
        pick("pruner", TABLE, "x")
