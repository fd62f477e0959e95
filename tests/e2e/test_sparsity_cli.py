"""`prune`, unlearning a sparse model, and `diagnose sparsity`, each as a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from commands import expunge, refused
from safetensors.torch import load_file, save_file

QUICK = ["--data", "digits:400", "--model", "cnn", "--epochs", "3", "--lr", "0.05"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a sparse original that was judged on forgetting class 3."""
    folder = tmp_path_factory.mktemp("sparsity")
    done = expunge(
        "prune",
        *QUICK,
        "--pruner",
        "omp",
        "--sparsity",
        "0.9",
        "--criteria",
        "class:3",
        "--out",
        "sparse",
        cwd=folder,
    )
    (folder / "printed.txt").write_text(done.stdout)
    return folder


def zero_where_cut(folder: Path) -> None:
    weights, mask = load_file(folder / "model.safetensors"), load_file(folder / "mask.safetensors")
    kept = sum(int(keep.sum()) for keep in mask.values())
    total = sum(keep.numel() for keep in mask.values())
    assert kept == round(0.1 * total)
    for name, keep in mask.items():
        assert not weights[name][~keep].any()
        assert weights[name][keep].all()


def test_prune_reports_sparsity_sight_and_criteria(work: Path) -> None:
    printed = (work / "printed.txt").read_text()
    for words in (
        "features.4.weight",
        "all prunable weights",
        "90.00",
        "has seen the training data",
        "epoch 1",
        "overlap of this mask",
        "points",
        "seconds to find the mask",
        "before pruning: test accuracy",
        "sparse: test accuracy",
    ):
        assert words in printed, words
    zero_where_cut(work / "sparse")
    card = json.loads((work / "sparse/model.json").read_text())
    step = card["lineage"][0]
    assert step["step"] == "prune" and step["settings"]["pruner"] == "omp"
    assert step["log"]["saw_data"] is True and abs(step["log"]["sparsity"] - 0.9) < 1e-3


def test_unlearning_keeps_the_mask_and_says_what_it_saw(work: Path) -> None:
    done = expunge(
        "unlearn",
        "sparse",
        "--forget",
        "class:3",
        "--method",
        "influence",
        "--set",
        "samples=50",
        "--with-reference",
        "--out",
        "forgot",
        cwd=work,
    )
    assert "90.0% of the prunable weights stay 0" in done.stdout
    assert "while the forgotten samples were there" in done.stdout
    zero_where_cut(work / "forgot")
    zero_where_cut(work / "forgot-retrained")
    card = json.loads((work / "forgot/model.json").read_text())
    assert [step["step"] for step in card["lineage"]] == ["prune", "influence"]
    log = card["lineage"][1]["log"]
    assert log["mask"]["saw_forget_set"] is True and log["top_eigenvalue"] > 0


def test_a_trained_folder_is_pruned_further_or_rewound(work: Path) -> None:
    before = (work / "sparse/model.safetensors").read_bytes()
    done = expunge(
        "prune",
        "sparse",
        "--pruner",
        "synflow",
        "--sparsity",
        "0.95",
        "--epochs",
        "1",
        "--out",
        "sparser",
        cwd=work,
    )
    assert "the cut weights of the trained model, fine-tuned" in done.stdout
    one, two = (load_file(work / name / "mask.safetensors") for name in ("sparse", "sparser"))
    assert all(not (keep & ~one[name]).any() for name, keep in two.items())
    save_file(load_file(work / "sparse/model.safetensors"), work / "early.safetensors")
    done = expunge(
        "prune",
        "sparse",
        "--rewind",
        "early.safetensors",
        "--rewind-epoch",
        "2",
        "--out",
        "rewound",
        cwd=work,
    )
    assert "weights and buffers of epoch 2" in done.stdout
    assert (work / "sparse/model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--out", "x"], "a MODEL_DIR, or --data and --model"),
        ([*QUICK, "--pruner", "synflw", "--out", "x"], "did you mean 'synflow'"),
        ([*QUICK, "--sparsity", "1.5", "--out", "x"], "sparsity = 1.5"),
        ([*QUICK, "--set-pruner", "rewind_epoch=3", "--out", "x"], "leaves nothing of a recipe"),
        ([*QUICK, "--rewind", "f", "--out", "x"], "--set-pruner rewind_epoch=N"),
        (["sparse", "--sparsity", "0.5", "--out", "x"], "below that of the mask"),
        (["sparse", "--rewind", "none.pt", "--out", "x"], "no weights file"),
        (["sparse", "--rewind-epoch", "1", "--out", "x"], "--rewind FILE"),
        (["sparse", "--criteria", "class:3", "--out", "x"], "leave MODEL_DIR out"),
    ],
)
def test_mistakes_cost_one_line(work: Path, arguments: list[str], told: str) -> None:
    assert told in refused("prune", *arguments, cwd=work)
    assert not (work / "x").exists()


def test_diagnose_sparsity_prints_and_draws_both_series(tmp_path: Path) -> None:
    arguments = [
        "diagnose",
        "sparsity",
        "--data",
        "digits:300",
        "--model",
        "cnn",
        "--epochs",
        "2",
        "--lr",
        "0.05",
        "--forget",
        "random:0.1",
        "--sparsities",
        "0,0.9",
        "--set-method",
        "lr=0.005",
        "--out",
        "theory",
    ]
    done = expunge(*arguments, cwd=tmp_path)
    for words in ("proposition 2", "rank correlation", "eigenvalue", "untouched"):
        assert words in done.stdout, words
    names = {file.name for file in (tmp_path / "theory").iterdir()}
    assert names == {"figure.png", "figure.svg", "table.csv", "table.json", "table.md"}
    assert "theory exists" in refused(*arguments, cwd=tmp_path)
    told = refused(*arguments[:-2], "--sparsities", "0.5,0.9", "--out", "x", cwd=tmp_path)
    assert "relative to sparsity 0" in told


def test_list_shows_pruners_and_one_in_full(tmp_path: Path) -> None:
    shown = expunge("list", "pruners", cwd=tmp_path).stdout
    assert all(name in shown for name in ("omp", "imp", "synflow", "random"))
    shown = expunge("list", "pruners", "imp", cwd=tmp_path).stdout
    assert "rate" in shown and "Frankle" in shown and "0.95" in shown
