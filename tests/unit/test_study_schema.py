"""Study files: what they say, what is filled in, and mistakes told by line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from expunge.errors import ConfigError
from expunge.methods import make_method
from expunge.scores.rows import YARDSTICKS
from expunge.study.catalogue import shipped_files, study_file
from expunge.study.claims import parse_claim
from expunge.study.entries import Entry, variants
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.schema import Study

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


def test_everything_is_filled_in_and_reads_back_the_same(tmp_path: Path) -> None:
    study = read_study(write(tmp_path, GOOD))
    assert study.recipes["quick"].lr == 0.01, "1e-2 is a number"
    assert study.scenarios == ("class", "random:0.1")
    assert study.methods["finetune"] == Entry(method="finetune", settings={"epochs": 1})
    resolved = yaml.safe_load(study.to_yaml())
    assert resolved["recipes"]["quick"]["momentum"] == 0.9
    assert (
        resolved["methods"]["finetune"]["settings"]["lr"]
        == make_method("finetune").model_dump()["lr"]
    )
    assert resolved["methods"]["ascent"]["settings"]["lr"] == [0.0001, 0.01]
    again = read_study(write(tmp_path, study.to_yaml()))
    assert again.to_yaml() == study.to_yaml()


def test_a_list_of_values_is_a_grid() -> None:
    entry = Entry(
        method="gradient_ascent", settings={"lr": [0.1, 0.2], "epochs": [1, 2], "batch_size": 8}
    )
    found = variants("GA", entry)
    assert list(found) == [
        "GA (lr=0.1, epochs=1)",
        "GA (lr=0.1, epochs=2)",
        "GA (lr=0.2, epochs=1)",
        "GA (lr=0.2, epochs=2)",
    ]
    made = make_method("gradient_ascent", {"lr": 0.2, "epochs": 1, "batch_size": 8})
    assert found["GA (lr=0.2, epochs=1)"] == {
        "method": "gradient_ascent",
        "settings": made.model_dump(mode="json"),
    }
    assert list(variants("plain", Entry(method="unsir:notebook"))) == ["plain"]


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
        *YARDSTICKS,
        *(name for label, e in study.methods.items() for name in variants(label, e)),
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
