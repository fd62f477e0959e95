"""Study files: what they say, what is filled in, and mistakes told by line."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import yaml
from commands import expunge, refused
from thorough import THOROUGH

from expunge.data.load import load_data
from expunge.data.parts import Part
from expunge.data.split import Split
from expunge.errors import ConfigError
from expunge.methods import make_method
from expunge.methods.finetune import Finetune
from expunge.scores.rows import NO_METHODS
from expunge.study import work
from expunge.study.catalogue import (
    cells_of,
    first_paragraph,
    shipped_files,
    shipped_studies,
    study_file,
)
from expunge.study.claims import parse_claim
from expunge.study.entries import Entry, variants
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.packed import PACKED, read_packed
from expunge.study.results import results
from expunge.study.schema import Study
from expunge.study.tuning import Trial, TuningSearch, chosen, points_of, sentences

GOOD = """\
name: small
data: ["digits:100"]
models: [mlp]
recipes:
  quick: {epochs: 1, lr: 1e-2, batch_size: 64}
methods:
  finetune: {epochs: 1}
  ascent: {method: gradient_ascent, lr: [1e-4, 0.01]}
seeds: [0, 1]
"""


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "study.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_a_setting_that_is_a_list_is_one_value_and_survives_the_file() -> None:
    entry = Entry(method="scrub", settings={"milestones": [2, 4], "lr": [0.1, 0.2]})
    rows = variants("scrub", entry, allow_code=False)
    assert list(rows) == ["scrub (lr=0.1)", "scrub (lr=0.2)"]
    assert all(one["settings"]["milestones"] == [2, 4] for one in rows.values())
    two = Entry(method="scrub", settings={"milestones": [[2], [2, 4]]})
    assert list(variants("scrub", two, allow_code=False)) == [
        "scrub (milestones=[2])",
        "scrub (milestones=[2, 4])",
    ]


def test_everything_is_filled_in_and_reads_back_the_same(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD))
    assert study.recipes["quick"].lr == 0.01, "1e-2 is a number"
    assert study.scenarios == ("class", "random:0.1")
    assert study.methods["finetune"] == Entry(method="finetune", settings={"epochs": 1})
    resolved = yaml.safe_load(study.to_yaml())
    assert resolved["recipes"]["quick"]["momentum"] == 0.9
    assert (
        resolved["methods"]["finetune"]["settings"]["lr"]
        == make_method("finetune", allow_code=True).model_dump()["lr"]
    )
    assert resolved["methods"]["ascent"]["settings"]["lr"] == [0.0001, 0.01]
    again = read_study(write(tmp_path, study.to_yaml()))
    assert again.to_yaml() == study.to_yaml()


def test_a_list_of_values_is_a_grid() -> None:
    entry = Entry(
        method="gradient_ascent", settings={"lr": [0.1, 0.2], "epochs": [1, 2], "batch_size": 8}
    )
    found = variants("GA", entry, allow_code=True)
    assert list(found) == [
        "GA (lr=0.1, epochs=1)",
        "GA (lr=0.1, epochs=2)",
        "GA (lr=0.2, epochs=1)",
        "GA (lr=0.2, epochs=2)",
    ]
    made = make_method(
        "gradient_ascent", {"lr": 0.2, "epochs": 1, "batch_size": 8}, allow_code=True
    )
    assert found["GA (lr=0.2, epochs=1)"] == {
        "method": "gradient_ascent",
        "settings": made.model_dump(mode="json"),
    }
    assert list(variants("plain", Entry(method="unsir:notebook"), allow_code=True)) == ["plain"]


@pytest.mark.parametrize(
    ("old", "new", "line", "words"),
    [
        ("seeds: [0, 1]", "seed: [0, 1]", 9, ["'seed'", "did you mean 'seeds'"]),
        ("epochs: 1, lr: 1e-2", "epoch: 1, lr: 1e-2", 5, ["'epoch'", "did you mean 'epochs'"]),
        ("epochs: 1, lr: 1e-2", "epochs: 0, lr: 1e-2", 5, ["epochs", "0"]),
        ("finetune: {epochs: 1}", "finetun: {epochs: 1}", 7, ["'finetun'", "'finetune'"]),
        ("finetune: {epochs: 1}", "finetune: {epoch: 1}", 7, ["'epoch'", "'epochs'"]),
        ("lr: [1e-4, 0.01]", "lr: []", 8, ["lists no values"]),
        ("lr: [1e-4, 0.01]", "lr: [1e-4, -1]", 8, ["-1"]),
        ("  ascent:", "  retrain:", 8, ["retrain", "every study has that row"]),
        ("seeds: [0, 1]", "seeds: [0, 0]", 9, ["twice"]),
        ("seeds: [0, 1]", "claims: [UA of x]", 9, ["compares nothing"]),
        ("seeds: [0, 1]", "also: [relearn]", 9, ["'relearn'", "relearn_time"]),
        ("seeds: [0, 1]", "densities: [{sparsity: 0.9}]", 9, ["needs a pruner"]),
        ("seeds: [0, 1]", "densities: [{pruner: omq, sparsity: 0.9}]", 9, ["'omq'", "'omp'"]),
        ("seeds: [0, 1]", "seeds: [0, 1", 10, ["mend the line"]),
        ("seeds: [0, 1]", "name: other", 9, ["'name' stands here a second time"]),
        ("  ascent:", "  finetune:", 8, ["'finetune' stands here a second time"]),
        ("lr: [1e-4, 0.01]", "lr: [0.10000001, 0.10000002]", 8, ["two of the listed values read"]),
        ("models: [mlp]", "models: [mpl]", 3, ["no architecture 'mpl'", "did you mean 'mlp'"]),
        ("seeds: [0, 1]", "scenarios: [class, 'classes:1']", 9, ["'one class' twice"]),
        ("seeds: [0, 1]", "scenarios: ['random:x']", 9, ["'x' is not a number"]),
        ("seeds: [0, 1]", "scenarios: ['random:2']", 9, ["between 0 and 1"]),
        ("seeds: [0, 1]", "scenarios: [randm]", 9, ["did you mean 'random'"]),
        (
            "seeds: [0, 1]",
            "claims: [UAA of finetune < UA of retrain]",
            9,
            ["no score 'UAA'", "did you mean 'UA'"],
        ),
        (
            "seeds: [0, 1]",
            "claims: [UA of finetun < UA of retrain]",
            9,
            ["did you mean 'finetune'"],
        ),
        (
            "seeds: [0, 1]",
            "claims: [UA of finetune at sparsity 0.9 < at 0]",
            9,
            ["no density of sparsity 0.9"],
        ),
        ("seeds: [0, 1]", "claims: [UA of finetune at sparsity high < at 0]", 9, ["is no number"]),
        (
            "seeds: [0, 1]",
            "claims: [UA of finetune at scenario clas < UA of retrain]",
            9,
            ["no scenario 'clas'"],
        ),
        ("seeds: [0, 1]", "published: [{title: a, headers: [b], rows: [5]}]", 9, ["rows"]),
    ],
)
def test_a_mistake_names_the_line_and_what_was_meant(
    tmp_path: Path, old: str, new: str, line: int, words: list[str]
) -> None:
    assert old in GOOD
    with pytest.raises(ConfigError) as caught:
        read_study(write(tmp_path, GOOD.replace(old, new)))
    message = str(caught.value)
    assert f"study.yaml, line {line}: " in message
    assert all(word in message for word in words), message
    assert "\n" not in message


@pytest.mark.parametrize(("text", "words"), [("- a\n", "no study"), ("", "no study")])
def test_what_is_no_study(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        read_study(write(tmp_path, text))
    with pytest.raises(ConfigError, match="cannot read the study"):
        read_study(tmp_path / "none.yaml")


def test_densities_have_labels_and_all_settings() -> None:
    given: dict[str, Any] = {
        **yaml.safe_load(GOOD.replace("1e-2", "0.01").replace("1e-4", "0.0001"))
    }
    given["densities"] = [{}, {"pruner": "omp", "sparsity": 0.95, "settings": {"rewind_epoch": 1}}]
    dense, sparse = Study.model_validate(given).densities
    assert (dense.label, sparse.label) == ("dense", "95 % omp")
    assert dense.resolved() == {}
    assert sparse.resolved() == {"pruner": "omp", "sparsity": 0.95, "rewind_epoch": 1}


SCALED = (
    GOOD
    + """\
scales:
  small: {seeds: [0]}
  large:
    seeds: [0, 1, 2]
    methods:
      finetune: {lr: 0.1}
"""
)


def test_a_scale_replaces_parts_and_the_first_is_taken(tmp_path: Path) -> None:
    file = write(tmp_path, SCALED)
    small, large = read_study(file), read_study(file, scale="large")
    assert (small.scale, small.seeds, set(small.methods)) == ("small", (0,), {"finetune", "ascent"})
    assert (large.scale, large.seeds, set(large.methods)) == ("large", (0, 1, 2), {"finetune"})
    assert read_study(write(tmp_path, large.to_yaml())).to_yaml() == large.to_yaml()
    assert read_study(write(tmp_path, GOOD)).scale == ""


@pytest.mark.parametrize(
    ("text", "scale", "words"),
    [
        (SCALED, "larg", ["'larg'", "did you mean 'large'", "small, large"]),
        (GOOD, "large", ["has no scales"]),
        (SCALED.replace("lr: 0.1}", "lr: -1}"), "large", ["line 15:", "lr"]),
        (
            SCALED.replace("small: {seeds: [0]}", "small: {seed: [0]}"),
            "small",
            ["line 11:", "'seeds'"],
        ),
        (
            SCALED.replace("small: {seeds: [0]}", "small: [0]"),
            "small",
            ["small is no list of keys"],
        ),
        (GOOD + "scales: [1]\n", None, ["line 10:", "scales are names"]),
    ],
)
def test_mistakes_in_scales(tmp_path: Path, text: str, scale: str | None, words: list[str]) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(write(tmp_path, text), scale=scale)
    assert all(word in str(caught.value) for word in words), str(caught.value)


@THOROUGH
def test_a_folder_keeps_to_its_study_and_scale(tmp_path: Path) -> None:
    """Looking writes nothing; a run writes what the study says, and another scale goes elsewhere."""
    file = write(tmp_path, GOOD + "scales: {a: , b: }\n")
    out = tmp_path / "out"
    planned(read_study(file), out)
    assert not out.exists()
    run_study(planned(read_study(file), out))
    assert (out / "study.yaml").read_text() == read_study(file).to_yaml()
    with pytest.raises(ConfigError, match=r"holds the study .* at scale a, not .* at scale b"):
        planned(read_study(file, scale="b"), out)


@pytest.mark.parametrize(
    ("name", "scale"),
    [
        (name, scale)
        for name, file in shipped_files().items()
        for scale in yaml.safe_load(file.read_text("utf-8")).get("scales", [None])
    ],
)
def test_shipped_studies_read_and_their_claims_are_about_what_they_hold(
    name: str, scale: str | None
) -> None:
    study = read_study(study_file(name), scale=scale)
    assert study.name == name
    rows = {
        *NO_METHODS,
        *(
            name
            for label, e in study.methods.items()
            for name in variants(label, e, allow_code=True)
        ),
    }
    densities = {density.label for density in study.densities}
    for claim in map(parse_claim, study.claims):
        for side in (claim.less, claim.more):
            assert side.method in rows, claim.text
            assert side.at.get("density", "dense") in densities, claim.text
            assert side.at.get("scenario", study.scenarios[0]) in study.scenarios, claim.text
            sparsity = float(side.at.get("sparsity", 0))
            assert sparsity in {density.sparsity for density in study.densities}, claim.text


@pytest.mark.parametrize("scenario", ["classes:0", "classes:two", "classes:"])
def test_so_many_classes_are_a_number(tmp_path: Path, scenario: str) -> None:
    with pytest.raises(ConfigError, match="write how many, as in classes:2"):
        read_study(write(tmp_path, GOOD + f'scenarios: ["{scenario}"]\n'))


# --- studies that come with the package, by name


ROOT = Path(__file__).resolve().parents[2]
UNPUBLISHED = {"smoke"}
"""It proves only that all runs."""


def test_every_shipped_study_is_listed_with_what_it_asks(tmp_path: Path) -> None:
    said = expunge("study", "list", cwd=tmp_path).stdout
    assert len(shipped_studies()) == len(shipped_files()) >= 10
    for one in shipped_studies():
        assert f" {one.name} " in said and all(word in said for word in one.asks.split())
        assert one.asks[-1] in "?." and len(one.asks) < 100


@pytest.mark.parametrize("name", sorted(set(shipped_files()) - UNPUBLISHED))
def test_the_number_of_cells_is_that_of_the_published_run(name: str) -> None:
    """As the run was planned then; what has come to a study since takes a new run."""
    packed = read_packed(ROOT / "docs/results" / name / PACKED)
    file = ROOT / "docs/results" / name / "study.yaml"
    assert cells_of(read_study(file, recorded=file)) == len(
        set(packed.cells) | set(packed.failures)
    )


def test_a_name_is_looked_up_where_no_such_file_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    shipped = study_file("smoke")
    assert shipped.is_file() and shipped != Path("smoke")
    (tmp_path / "smoke").mkdir()
    assert study_file("smoke") == shipped, "a folder is no study file"
    (tmp_path / "smoke").rmdir()
    (tmp_path / "smoke").write_text("name: mine")
    assert study_file("smoke") == Path("smoke")
    assert study_file("other.yaml") == Path("other.yaml"), "the reader says that it is not there"
    assert study_file("runs/smoke") == Path("runs/smoke")
    with pytest.raises(ConfigError, match=r"did you mean 'smoke'\?; there are: .*unsir"):
        study_file("smok")


def test_commands_take_names(tmp_path: Path) -> None:
    said = expunge("study", "status", "smoke", "--out", "out", cwd=tmp_path).stdout
    assert said.startswith("study smoke: 0 of 48 cells done")
    assert "did you mean 'smoke'" in refused("study", "run", "smoky", "--out", "out", cwd=tmp_path)


def test_a_folder_without_a_study_is_told_before_data_that_are_missing(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "empty").mkdir()
    for out, told in (("out", "out does not exist"), ("empty", "empty is no folder of a study")):
        for command in ("status", "results"):
            words = ("study", command, "unsir", "--out", out, "--data-dir", "data")
            assert f"{told}; make one with `expunge study run`" in refused(*words, cwd=tmp_path)


def test_the_first_paragraph_of_a_comment() -> None:
    assert first_paragraph("# Does it\n# work?\n#\n# More.\nname: x\n") == "Does it work?"
    assert first_paragraph("name: x\n# no\n") == ""


# --- tuning: equal budgets, a seed that is not reported, validation samples, and the best of the trials


RATES = [1e-4, 1e-2, 1e9]


def study(**changes: Any) -> Study:
    given: dict[str, Any] = {
        "name": "tuned",
        "data": ["digits:200"],
        "models": ["mlp"],
        "recipes": {"quick": {"epochs": 3, "lr": 0.05, "batch_size": 32}},
        "scenarios": ["class", "random:0.2"],
        "controls": False,
        "class_also": [],
        "seeds": [0],
        "floor": False,
        "methods": {"finetune": {"epochs": 1}, "ascent": {"method": "gradient_ascent"}},
        "tuning": {
            "seed": 7,
            "trials": 3,
            "methods": {"ascent": {"lr": RATES}, "finetune": {"lr": [0.01, 0.05, 0.1]}},
        },
    }
    return Study.model_validate({**given, **changes})


def oracle() -> Study:
    """The same, judged by a retrained model of the tuning seed, as papers do."""
    tuning = study().model_dump()["tuning"]
    return study(tuning={**tuning, "criterion": "oracle"})


def test_the_fewest_points_on_the_tuning_seed_are_chosen(tmp_path: Path) -> None:
    first = planned(study(), tmp_path / "out")
    assert not first.tuned and not first.rows
    assert {cell.seed for cell in first.cells} == {7}
    made = run_study(first)
    assert made.tuned
    assert len(made.searches) == 2 * 2, "two methods in two scenarios"
    for search in made.searches:
        assert search.budget == len(search.trials) == 3
        best = search.best
        assert best is not None and best.points == min(
            t.points for t in search.trials if t.points is not None
        )
        rows = [
            row for row in made.rows if (row.setting, row.method) == (search.setting, search.label)
        ]
        for row in rows:
            settings = made.store.read(row.cell)["config"]["settings"]
            assert {name: settings[name] for name in best.fields} == best.fields
    diverged = [
        t for s in made.searches if s.label == "ascent" for t in s.trials if t.fields["lr"] == 1e9
    ]
    assert [trial.points for trial in diverged] == [math.inf, math.inf], "and the study went on"
    frame = results(made.rows, made.store)
    assert set(frame["seed"]) == {0}, "the tuning seed is not reported"
    assert set(frame["method"]) == {"original", "retrain", "finetune", "ascent"}
    told = sentences(made.study, made.searches)
    assert len(told) == 4
    assert all("the best of 3 by grid on seed 7" in line for line in told)
    again = planned(study(), tmp_path / "out")
    assert again.tuned and again.counts().waiting == 0


def test_several_tuning_seeds_are_averaged(tmp_path: Path) -> None:
    one = study().model_dump()["tuning"]
    both = study(scenarios=["class"], tuning={**one, "seed": [7, 8]})
    made = run_study(planned(both, tmp_path / "out"))
    alone = {
        seed: run_study(
            planned(study(scenarios=["class"], tuning={**one, "seed": seed}), tmp_path / str(seed))
        )
        for seed in (7, 8)
    }
    for number, search in enumerate(made.searches):
        apart = [alone[seed].searches[number].trials for seed in (7, 8)]
        for trial, first, second in zip(search.trials, *apart, strict=True):
            assert trial.cells == (*first.cells, *second.cells), "the same cells as alone"
            assert first.points is not None and second.points is not None
            assert trial.points == (first.points + second.points) / 2
    assert "by grid on seeds 7, 8" in sentences(made.study, made.searches)[0]
    assert cells_of(made.study) == len(made.cells)
    with pytest.raises(ConfigError, match="seed 0 is among the seeds that are reported"):
        study(tuning={**one, "seed": [7, 0]})
    with pytest.raises(ConfigError, match="several different ones"):
        study(tuning={**one, "seed": [7, 7]})


def test_trials_are_judged_on_validation_samples_and_never_on_the_test_set(tmp_path: Path) -> None:
    made = run_study(planned(oracle(), tmp_path / "out"))
    data = load_data("digits:200")
    held = Split.whole(data).rows(data.train, Part.VALIDATION)
    trials = [c for c in made.cells if c.config.get("on") == "validation" and c.kind == "unlearn"]
    assert trials
    for cell in trials:
        if not made.store.done(cell.key):
            continue
        scores = {s["name"]: s for s in made.store.read(cell.key)["scores"]}
        counted = scores["TA"]["n"] + (scores["TA_forget"]["n"] if "TA_forget" in scores else 0)
        # a forgotten class's validation samples are struck with it
        assert counted <= len(held) < len(data.test)
    reported = [c for c in made.cells if "on" not in c.config and c.kind == "retrain"]
    for cell in reported:
        scores = {s["name"]: s for s in made.store.read(cell.key)["scores"]}
        counted = scores["TA"]["n"] + (scores["TA_forget"]["n"] if "TA_forget" in scores else 0)
        assert counted == len(data.test)


def test_the_oracles_gap_by_hand(tmp_path: Path) -> None:
    made = run_study(planned(oracle(), tmp_path / "out"))
    search = next(s for s in made.searches if s.label == "finetune")
    retrain = next(
        c
        for c in made.cells
        if c.kind == "retrain"
        and c.config.get("on") == "validation"
        and c.config["scenario"] == made.store.read(search.trials[0].cells[0])["config"]["scenario"]
    )
    ours, theirs = (
        {s["name"]: s["value"] for s in made.store.read(key)["scores"]}
        for key in (search.trials[0].cells[0], retrain.key)
    )
    by_hand = np.mean([abs(ours[name] - theirs[name]) for name in ("UA", "RA", "TA", "MIA")])
    assert search.trials[0].points == pytest.approx(by_hand)
    assert points_of("nobody", retrain.key, made.store) is None


def test_tuning_needs_no_retrained_model(tmp_path: Path) -> None:
    """What is compared with is what somebody with a request has; a reference would be an oracle."""
    made = run_study(planned(study(), tmp_path / "out"))
    tuning = [cell for cell in made.cells if cell.seed == 7]
    assert tuning and {cell.kind for cell in tuning} == {"original", "unlearn"}
    assert all(need.kind == "original" for cell in tuning for need in cell.starts)
    data = load_data("digits:200")
    for search in made.searches:
        trial = next(t for t in search.trials if t.points != math.inf)
        (score,) = made.store.read(trial.cells[0])["scores"]
        assert (score["name"], score["unit"]) == ("criterion", "points")
        assert trial.points == pytest.approx(sum(score["detail"].values()))
        terms = {"accuracy_forget", "accuracy_lost"}
        if "random" in search.setting[-1]:
            terms = {"accuracy_apart", "accuracy_lost", "told_apart"}
        assert set(score["detail"]) == terms
    # the cells of the reported seeds are made once tuning is done
    assert {row.seed for row in made.rows} == {0} and len(data.train)


def test_a_method_that_reads_validation_samples_is_judged_by_the_others(tmp_path: Path) -> None:
    seen: list[list[str]] = []

    class Peeks(Finetune):
        """Reads validation samples."""

        reads: ClassVar[Part] = Part.RETAIN | Part.VALIDATION

        def unlearn(self, model: Any, data: Any, run: Any) -> Any:
            batches = data.batches(Part.VALIDATION, 64, shuffle=False, augment=False)
            seen.append(sorted(name for batch in batches for name in batch.ids.tolist()))
            return model

    judged: list[list[str]] = []
    real = work.tested_on

    def note(samples: Any, original: Any) -> Any:
        judged.append(sorted(samples.ids.tolist()))
        return real(samples, original)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(work, "tested_on", note)
        patched.setattr(work, "make_method", lambda *_, **__: Peeks())
        tuning = {"seed": 7, "trials": 2, "methods": {"finetune": {"lr": [0.01, 0.02]}}}
        asked = study(tuning=tuning, scenarios=["random:0.2"], methods={"finetune": {}})
        made = planned(asked, tmp_path / "out")
        run_study(made)
    data = load_data("digits:200")
    whole = set(data.train.ids[Split.whole(data).rows(data.train, Part.VALIDATION)].tolist())
    assert len(judged) == 2
    for mine, others in zip(seen, judged, strict=False):
        assert set(mine) | set(others) == whole and not set(mine) & set(others)
        assert abs(len(mine) - len(others)) <= 1


def test_a_study_strikes_nothing_from_the_cache(tmp_path: Path) -> None:
    """Its requests are trials: many forget sets of the same data, none of them a deletion."""
    struck: list[Any] = []
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.trained.trained.strike", lambda *given: struck.append(given))
        asked = study(scenarios=["random:0.2"], methods={"finetune": {}}, tuning=None)
        made = run_study(planned(asked, tmp_path / "out"))
    assert any(made.store.done(cell.key) for cell in made.cells if cell.kind == "unlearn")
    assert not struck


def test_where_all_trials_fail_the_study_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tuning = {"seed": 7, "trials": 2, "methods": {"ascent": {"lr": [1e8, 1e9]}}}
    with pytest.raises(ConfigError, match=r"tuning ascent .*: all 2 trials failed"):
        run_study(planned(study(tuning=tuning), tmp_path / "out"))


def test_a_lost_reference_of_the_tuning_seed_ends_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.kind == "retrain":
            raise RuntimeError("lost")
        real(cell, bench)

    monkeypatch.setattr("expunge.study.runner.do_cell", broken)
    with pytest.raises(ConfigError, match="trials failed"):
        run_study(planned(oracle(), tmp_path / "out"))


def test_a_lost_reference_is_trained_again_by_the_next_run(tmp_path: Path) -> None:
    """A failure is told with its reason, it can be looked at, and it locks nothing."""
    real = work.do_cell

    def broken(cell: Any, bench: Any) -> None:
        if cell.kind == "retrain":
            raise OSError("no space left on device")
        real(cell, bench)

    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("expunge.study.runner.do_cell", broken)
        with pytest.raises(ConfigError, match=r"trials failed \(OSError: no space left on device"):
            run_study(planned(oracle(), tmp_path / "out"))
    looked = planned(oracle(), tmp_path / "out")
    assert not looked.tuned and not looked.rows and looked.counts().failed == 4, "two diverge"
    assert sentences(looked.study, looked.searches) == []
    made = run_study(looked)
    assert made.tuned and all(made.store.done(row.cell) for row in made.rows)


def test_what_speaks_against_an_optimum_is_told() -> None:
    setting = ("d", "m", "r", "dense", "class")

    def told(gaps: list[float], asked: Study) -> str:
        trials = [Trial({"lr": r}, (str(r),), g) for r, g in zip(RATES, gaps, strict=True)]
        return sentences(asked, [TuningSearch(setting, "ascent", tuple(trials), 3)])[0]

    without = "1.00 points on validation samples, without a retrained model"
    assert told([3.0, 1.0, 2.0], study()).endswith(without)
    by_oracle = "average gap 1.00 to a retrained model (an oracle) on validation samples"
    assert told([3.0, 1.0, 2.0], oracle()).endswith(by_oracle)
    assert told([1.0, 1.0, 3.0], study()).endswith(
        "; 2 of the trials are as good, and the first of them is taken"
    )
    assert told([1.0, 3.0, math.inf], study()).endswith(
        "; 1 of the trials failed; lr at the end of what was tried: the best may lie beyond"
    )


@pytest.mark.parametrize(
    ("tuning", "words"),
    [
        ({"seed": 0}, "seed 0 is among the seeds that are reported"),
        ({"trials": 4}, "its grid has 3 points, and every method gets 4 trials"),
        ({"methods": {"ascent": {"rate": RATES}}}, "no setting 'rate'"),
        ({"methods": {"ascend": {"lr": RATES}}}, "no method 'ascend', did you mean 'ascent'"),
        (
            {"methods": {"ascent": {"lr": {"low": 1e-5, "high": 1}}}},
            "a grid needs a list of values",
        ),
        ({"search": "optuna", "methods": {"ascent": {"lr": {"low": 1}}}}, "write lr as a list"),
        (
            {"search": "optuna", "methods": {"ascent": {"lr": {"low": 0.1, "high": 0.01}}}},
            "low 0.1 must be a number below high 0.01",
        ),
        (
            {"search": "optuna", "methods": {"ascent": {"lr": {"low": 0, "high": 1, "log": True}}}},
            "on a logarithmic scale low must be above 0",
        ),
        (
            {"search": "optuna", "methods": {"finetune": {"epochs": {"low": 1, "high": 2.5}}}},
            "epochs is a whole number; high 2.5 is none",
        ),
    ],
)
def test_searches_that_do_not_fit(tuning: dict[str, Any], words: str) -> None:
    base: dict[str, Any] = {"seed": 7, "trials": 3, "methods": {"ascent": {"lr": RATES}}}
    with pytest.raises((ConfigError, ValueError), match=words):
        study(tuning={**base, **tuning})
    with pytest.raises((ConfigError, ValueError), match="tuning needs validation samples"):
        study(validation=0)


def test_the_first_of_equal_trials_wins_and_nothing_is_chosen_too_early() -> None:
    setting = ("d", "m", "r", "dense", "class")
    trials = (
        Trial({"lr": 1}, ("a",), 2.0),
        Trial({"lr": 2}, ("b",), 2.0),
        Trial({"lr": 3}, ("c",), math.inf),
    )
    found = TuningSearch(setting, "x", trials, 3)
    assert chosen([found]) == {(setting, "x"): {"lr": 1}}
    assert chosen([TuningSearch(setting, "x", trials[:2], 3)]) is None
    unknown = (*trials[:2], Trial({"lr": 3}, ("c",), None))
    assert chosen([TuningSearch(setting, "x", unknown, 3)]) is None


def test_optuna_proposes_the_same_when_told_the_same(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install expunge[tune]")
    tuning = {
        "seed": 7,
        "trials": 4,
        "search": "optuna",
        "methods": {"finetune": {"lr": {"low": 1e-4, "high": 0.1, "log": True}}},
    }
    made = [
        run_study(planned(study(tuning=tuning), tmp_path / name)).searches for name in ("a", "b")
    ]
    assert made[0] == made[1]
    rates = [trial.fields["lr"] for trial in made[0][0].trials]
    assert len(set(rates)) == 4 and all(1e-4 <= rate <= 0.1 for rate in rates)


def test_optuna_proposes_whole_numbers_for_fields_of_these(tmp_path: Path) -> None:
    pytest.importorskip("optuna", reason="Optuna is an extra: pip install expunge[tune]")
    tuning = {
        "seed": 7,
        "trials": 3,
        "search": "optuna",
        "methods": {"finetune": {"epochs": {"low": 1, "high": 3}}},
    }
    made = planned(study(tuning=tuning, scenarios=["class"]), tmp_path / "out")
    found = run_study(made).searches[0].trials
    assert all(isinstance(t.fields["epochs"], int) and 1 <= t.fields["epochs"] <= 3 for t in found)
