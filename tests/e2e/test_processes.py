"""Two processes under torchrun run the same method code as one, and share the reading."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1", "COLUMNS": "160"}


def run(*arguments: str, cwd: Path, processes: int) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launcher = ["-m", "torch.distributed.run", f"--nproc_per_node={processes}",
                "--master_addr=127.0.0.1", f"--master_port={port}"]  # fmt: skip
    done = subprocess.run(
        [sys.executable, *(launcher if processes > 1 else []), "-m", "expunge", *arguments],
        cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr


def scores(folder: str, cwd: Path) -> dict[str, float]:
    done = subprocess.run(
        [sys.executable, "-m", "expunge", "audit", folder, "--json"],
        cwd=cwd, env=ENVIRONMENT, capture_output=True, text=True, timeout=300, check=True,
    )  # fmt: skip
    return {score["name"]: score["value"] for score in json.loads(done.stdout)["scores"]}


def test_two_processes_read_each_sample_once_and_agree_with_one(tmp_path: Path) -> None:
    run("train", "--data", "digits", "--model", "cnn", "--epochs", "5", "--lr", "0.05",
        "--batch-size", "128", "--out", "original", cwd=tmp_path, processes=1)  # fmt: skip
    epochs = 3
    request = ["--forget", "class:3", "--method", "neggrad_plus", "--set", f"epochs={epochs}"]
    run("unlearn", "original", *request, "--out", "one", cwd=tmp_path, processes=1)
    run("unlearn", "original", *request, "--out", "two", cwd=tmp_path, processes=2)

    split = json.loads((tmp_path / "two/split.json").read_text())
    one, two = (
        json.loads((tmp_path / name / "model.json").read_text())["lineage"][-1]["cost"]
        for name in ("one", "two")
    )
    assert (one["processes"], two["processes"]) == (1, 2)
    # over both processes together, each retain sample once per epoch
    assert two["reads"]["retain"] == epochs * len(split["retain"])
    assert two["reads"] == one["reads"]
    alone, together = scores("one", tmp_path), scores("two", tmp_path)
    assert abs(alone["RA"] - together["RA"]) < 3
    assert abs(alone["TA"] - together["TA"]) < 3


def test_two_processes_learn_the_same_noise_as_one(tmp_path: Path) -> None:
    run("train", "--data", "digits", "--model", "cnn", "--epochs", "3", "--lr", "0.05",
        "--batch-size", "128", "--out", "original", cwd=tmp_path, processes=1)  # fmt: skip
    request = ["--forget", "class:3,8", "--method", "unsir:text", "--set", "noise_batch=16",
               "--set", "batch_size=64"]  # fmt: skip
    steps = {}
    for name, processes in (("one", 1), ("two", 2)):
        run("unlearn", "original", *request, "--out", name, cwd=tmp_path, processes=processes)
        card = json.loads((tmp_path / name / "model.json").read_text())
        steps[name] = card["lineage"][-1]
    one, two = steps["one"], steps["two"]
    assert two["cost"]["processes"] == 2
    assert two["cost"]["reads"] == one["cost"]["reads"]
    assert one["cost"]["reads"]["forget_labels"] == one["forgotten"]
    assert two["log"]["noise_images_added"] == one["log"]["noise_images_added"] == 2 * 16 * 20
    for label, (start, end) in one["log"]["noise_loss"].items():
        assert end > start
        assert two["log"]["noise_loss"][label] == pytest.approx([start, end], rel=0.02)
    assert abs(scores("one", tmp_path)["UA"] - scores("two", tmp_path)["UA"]) < 5


def test_two_processes_take_the_same_newton_step_as_one(tmp_path: Path) -> None:
    """Influence by conjugate gradients, and Fisher's diagonal, sum over processes."""
    run("prune", "--data", "digits:400", "--model", "mlp", "--epochs", "3", "--lr", "0.05",
        "--pruner", "omp", "--sparsity", "0.5", "--out", "sparse", cwd=tmp_path,
        processes=1)  # fmt: skip
    for name, settings in (
        ("influence", ["solver=cg", "samples=100", "tolerance=1e-9"]),
        ("fisher", ["alpha=1e-6"]),
    ):
        given = [part for setting in settings for part in ("--set", setting)]
        request = ["--forget", "random:0.1", "--method", name, *given]
        run("unlearn", "sparse", *request, "--out", f"{name}-one", cwd=tmp_path, processes=1)
        run("unlearn", "sparse", *request, "--out", f"{name}-two", cwd=tmp_path, processes=2)
        one, two = (
            load_file(tmp_path / f"{name}-{count}/model.safetensors") for count in ("one", "two")
        )
        before = load_file(tmp_path / "sparse/model.safetensors")
        for key, value in one.items():
            moved = float((value - before[key]).abs().max())
            assert torch.allclose(value, two[key], rtol=0, atol=1e-3 * moved + 1e-7), (name, key)
