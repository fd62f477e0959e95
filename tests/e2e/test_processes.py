"""Two processes under torchrun run the same method code as one, and share the reading."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import whole_table
from commands import ENVIRONMENT, expunge, started, train_digits
from safetensors.torch import load_file

from expunge.methods import METHODS
from expunge.testing.ground import original

pytestmark = pytest.mark.thorough
EPOCHS = 3
JOBS = {
    "neggrad": [
        "original",
        "--forget",
        "class:3",
        "--method",
        "neggrad_plus",
        "--set",
        f"epochs={EPOCHS}",
    ],
    "noise": [
        "original",
        "--forget",
        "class:3,8",
        "--method",
        "unsir:text",
        "--set",
        "noise_batch=16",
        "--set",
        "batch_size=64",
    ],
}
# One start for all: the processes stay together until the last command is done. The second is late
# where folders are written, as one on a busy machine is: it must not find there what the first wrote.
# Then every method of the table.
DRIVER = """
import json, os, sys, time
from pathlib import Path

from expunge import cli
from expunge.trained import trained

if os.environ["RANK"] == "1":
    check = trained.check_target

    def late(*given, **options):
        time.sleep(1)
        check(*given, **options)

    trained.check_target = late

_, commands, table, helpers = sys.argv
leave, cli._leave_processes = cli._leave_processes, lambda: None
for command in json.loads(commands):
    sys.argv = ["expunge", *command]
    try:
        cli.main()
    except SystemExit as stop:
        if stop.code:
            raise

sys.path.insert(0, helpers)
import whole_table

whole_table.main(Path(table))
leave()
"""


@pytest.fixture(scope="module")
def work(
    tmp_path_factory: pytest.TempPathFactory, shared: Callable[[str, Callable[[Path], None]], Path]
) -> Path:
    """An original, and what one and two processes made of it."""
    folder = tmp_path_factory.mktemp("processes")
    shutil.copytree(shared("digits-cnn", train_digits), folder, dirs_exist_ok=True)
    for name, job in JOBS.items():
        expunge("unlearn", *job, "--out", f"{name}-one", cwd=folder)
    (folder / "together").mkdir()
    jobs = [["unlearn", *job, "--out", f"{name}-two"] for name, job in JOBS.items()]
    told = by_two_processes(jobs, folder)
    assert told.count(" forgot ") == len(jobs), "one process of the two speaks"
    return folder


def by_two_processes(commands: list[list[str]], cwd: Path) -> str:
    """Commands and the table under torchrun, without a warning; what is printed."""
    (cwd / "driver.py").write_text(DRIVER)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    # torchrun, and what it starts: forks of a process that has imported everything, warnings errors
    torchrun = "from torch.distributed.run import main; main()"
    command = [*started(), "-c", torchrun, "--nproc_per_node=2", "--master_addr=127.0.0.1"]
    command += [f"--master_port={port}", "--no-python", *started(), "driver.py"]
    command += [json.dumps(commands), "together", str(Path(whole_table.__file__).parent)]
    environment = {**os.environ, **ENVIRONMENT}
    done = subprocess.run(
        command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Warning" not in done.stderr, done.stderr
    return done.stdout


def steps(work: Path, name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What the folders of one and of two processes record of the last step."""
    one, two = (
        json.loads((work / f"{name}-{count}/model.json").read_text())["lineage"][-1]
        for count in ("one", "two")
    )
    assert (one["cost"]["processes"], two["cost"]["processes"]) == (1, 2)
    assert two["cost"]["reads"] == one["cost"]["reads"]
    return one, two


def scores(folder: str, cwd: Path) -> dict[str, float]:
    found = json.loads(expunge("audit", folder, "--json", cwd=cwd).stdout)["scores"]
    return {score["name"]: score["value"] for score in found}


def test_two_processes_read_each_sample_once_and_agree_with_one(work: Path) -> None:
    split = json.loads((work / "neggrad-two/split.json").read_text())
    _, two = steps(work, "neggrad")
    # over both processes together, each retain sample once per epoch
    assert two["cost"]["reads"]["retain"] == EPOCHS * len(split["retain"])
    alone, both = scores("neggrad-one", work), scores("neggrad-two", work)
    assert abs(alone["RA"] - both["RA"]) < 3
    assert abs(alone["TA"] - both["TA"]) < 3


def test_two_processes_learn_the_same_noise_as_one(work: Path) -> None:
    one, two = steps(work, "noise")
    assert one["cost"]["reads"]["forget_labels"] == one["forgotten"]
    assert two["log"]["noise_images_added"] == one["log"]["noise_images_added"] == 2 * 16 * 20
    for label, (start, end) in one["log"]["noise_loss"].items():
        assert end > start
        assert two["log"]["noise_loss"][label] == pytest.approx([start, end], rel=0.02)
    assert abs(scores("noise-one", work)["UA"] - scores("noise-two", work)["UA"]) < 5


@pytest.fixture(scope="module")
def tables(work: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """What every method of the table made, alone and by two processes."""
    one = tmp_path_factory.mktemp("alone")
    whole_table.main(one)
    return one, work / "together"


@pytest.mark.parametrize("name", METHODS)
def test_every_method_makes_the_same_of_two_processes(tables: tuple[Path, Path], name: str) -> None:
    facts = [json.loads((folder / f"{name}.json").read_text()) for folder in tables]
    assert [one.get("refused") for one in facts] == [None, None]
    assert [one["processes"] for one in facts] == [1, 2]
    assert facts[0]["reads"] == facts[1]["reads"]
    alone, together = (load_file(folder / f"{name}.safetensors") for folder in tables)
    before = original("mlp", 120).state_dict()
    if (
        before.keys() != alone.keys()
    ):  # of a method that took part in training, which begins elsewhere
        before = {key: value * 0 for key, value in alone.items()}
    # as a whole, for Adam's first steps are as long for gradients of rounding errors as for any other
    apart, moved = (
        sum(float((one[key].double() - other[key].double()).square().sum()) for key in alone) ** 0.5
        for one, other in ((alone, together), (alone, before))
    )
    assert moved > 0 and apart < 0.01 * moved, (apart, moved)
