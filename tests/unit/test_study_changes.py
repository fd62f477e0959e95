"""`--set` for studies: a dotted path into the file, and what follows of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from commands import refused

from expunge.cli.arguments import read_pairs
from expunge.errors import ConfigError
from expunge.study.file import read_study
from expunge.study.launch import planned

TEXT = """\
name: small
data: ["digits:100"]
models: [mlp]
recipes:
  quick: {epochs: 1, lr: 0.05, batch_size: 64}
densities: [{}, {pruner: omp, sparsity: 0.5}]
scenarios: ["random:0.1"]
methods:
  finetune: {epochs: 1}
  gradient_ascent:
  a.b: {method: neggrad_plus, settings: {epochs: 1}}
seeds: [0, 1]
scales: {small: , large: {seeds: [0, 1, 2]}}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "study.yaml"
    path.write_text(TEXT, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("change", "old", "new"),
    [
        ("methods.finetune.lr=0.1", "finetune: {epochs: 1}", "finetune: {epochs: 1, lr: 0.1}"),
        ("methods.finetune.epochs=2", "finetune: {epochs: 1}", "finetune: {epochs: 2}"),
        ("methods.finetune.lr=[0.1,0.2]", "{epochs: 1}\n", "{epochs: 1, lr: [0.1, 0.2]}\n"),
        ("methods.gradient_ascent.lr=1e-3", "ascent:\n", "ascent: {lr: 0.001}\n"),
        ("methods.a.b.alpha=0.5", "settings: {epochs: 1}", "settings: {epochs: 1, alpha: 0.5}"),
        ("methods.a.b.method=finetune", "method: neggrad_plus", "method: finetune"),
        ("recipes.quick.lr=0.1", "lr: 0.05", "lr: 0.1"),
        ("densities.1.sparsity=0.75", "sparsity: 0.5", "sparsity: 0.75"),
        ("seeds=[3]", "seeds: [0, 1]", "seeds: [3]"),
        ("data.0=digits:200", "digits:100", "digits:200"),
        ("floor=false", "seeds: [0, 1]\n", "seeds: [0, 1]\nfloor: false\n"),
        ("margins.UA=2", "seeds: [0, 1]\n", "seeds: [0, 1]\nmargins: {UA: 2}\n"),
        (
            "until_decided.max_seeds=7",
            "seeds: [0, 1]\n",
            "seeds: [0, 1]\nuntil_decided: {max_seeds: 7}\n",
        ),
    ],
)
def test_a_change_is_as_an_edit_of_the_file(change: str, old: str, new: str, file: Path) -> None:
    typed = read_study(file, changes=read_pairs([change]))
    assert TEXT.count(old) >= 1
    file.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    edited = read_study(file)
    assert typed == edited and typed.to_yaml() == edited.to_yaml()


def test_a_change_goes_before_the_scale(file: Path) -> None:
    assert read_study(file, scale="large", changes={"seeds": [5]}).seeds == (5,)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("metods.finetune.lr=1", ["'metods'", "did you mean 'methods'"]),
        ("methods.finetun.lr=1", ["'finetun' in methods", "did you mean 'finetune'"]),
        ("recipes.quik.lr=1", ["'quik' in recipes", "did you mean 'quick'"]),
        ("methods.finetune.lrr=1", ["no setting 'lrr'", "did you mean 'lr'"]),
        ("recipes.quick.epoch=1", ["no setting 'epoch'", "did you mean 'epochs'"]),
        ("densities.2.sparsity=1", ["no '2' in densities", "0, 1"]),
        ("name.x=1", ["name is a value, 'small'"]),
        ("scale=large", ["no 'scale'"]),
        ("seeds=x", ["seeds", "tuple"]),
        ("validation=2", ["validation = 2", "less than 1"]),
        ("methods.finetune.lr=-1", ["lr = -1"]),
        ("methods.finetune.lr=fast", ["lr = 'fast'"]),
        ("margins.U=1", ["no score 'U'"]),
    ],
)
def test_a_mistake_in_a_change_names_it_not_a_line_of_the_file(
    change: str, words: list[str], file: Path
) -> None:
    with pytest.raises(ConfigError) as caught:
        read_study(file, changes=read_pairs([change]))
    told = str(caught.value)
    assert told.startswith(f"--set {change.partition('=')[0]}: "), told
    assert all(word in told for word in words), told


def test_a_mistake_of_the_file_keeps_its_line(file: Path) -> None:
    file.write_text(TEXT.replace("epochs: 1}", "epoch: 1}", 1), encoding="utf-8")
    with pytest.raises(ConfigError, match=r"study.yaml, line 9: .*'epoch'"):
        read_study(file, changes={"seeds": [5]})


def test_only_cells_that_a_change_concerns_are_others(file: Path, tmp_path: Path) -> None:
    """Keys follow from what is run, so results of another plan are neither lost nor taken for it."""

    def labels(**changes: Any) -> dict[str, str]:
        study = planned(read_study(file, changes=changes), tmp_path / "out")
        return {cell.key: cell.label for cell in study.cells}

    before, after = labels(), labels(**{"methods.finetune.lr": 0.5})
    gone, new = before.keys() - after.keys(), after.keys() - before.keys()
    assert gone and len(gone) == len(new)
    assert all("finetune" in before[key] for key in gone)
    assert all("finetune" in after[key] for key in new)


def test_consent_is_asked_for_code_that_a_change_names(file: Path) -> None:
    with pytest.raises(ConfigError, match="--allow-code"):
        read_study(file, changes={"methods.finetune": {"method": "evil:Method"}})


@pytest.mark.parametrize("command", ["run", "status", "results", "power"])
def test_every_command_that_reads_the_file_takes_changes(command: str, file: Path) -> None:
    given = ["--set", "methods.finetun.lr=1", "--out", "out"]
    told = refused("study", command, file.name, *given, cwd=file.parent)
    assert "did you mean 'finetune'" in told and not (file.parent / "out").exists()
