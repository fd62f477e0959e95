"""Each command, the way people run it; a few of them as processes of their own."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from commands import RECORDS, expunge, process, refused, started
from thorough import but_first

from expunge.report.data_files import SCORES_FILE
from expunge.study.catalogue import study_file
from expunge.study.demo import demo_study
from expunge.study.schema import Study

QUICK = ["--data", "digits:400", "--model", "cnn", "--epochs", "2", "--lr", "0.05"]


@pytest.fixture(scope="module")
def work(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with an original, a model without class 3, and its retrained reference."""
    folder = tmp_path_factory.mktemp("cli")
    process("train", *QUICK, "--out", "original", cwd=folder, afresh=True)
    expunge(
        "unlearn",
        "original",
        "--forget",
        "class:3",
        "--method",
        "neggrad_plus",
        "--set",
        "epochs=1",
        "--with-reference",
        "--out",
        "forgot",
        cwd=folder,
    )
    return folder


def test_train_writes_a_model_folder(work: Path) -> None:
    names = {file.name for file in (work / "original").iterdir()}
    assert names == {"model.safetensors", "model.json", "split.json"}
    card = json.loads((work / "original/model.json").read_text())
    assert card["architecture"] == "cnn" and card["recipe"]["epochs"] == 2
    assert [step["step"] for step in card["lineage"]] == ["train"]


def test_unlearn_keeps_the_original_and_records_its_lineage(work: Path) -> None:
    card = json.loads((work / "forgot/model.json").read_text())
    original = json.loads((work / "original/model.json").read_text())
    assert [step["step"] for step in card["lineage"]] == ["train", "neggrad_plus"]
    assert card["lineage"][1]["parent"] == original["weights"]
    split = json.loads((work / "forgot/split.json").read_text())
    assert len(split["forget"]) == card["lineage"][1]["forgotten"] > 0
    retrained = json.loads((work / "forgot-retrained/model.json").read_text())
    assert retrained["lineage"][1]["cost"]["reads"]["forget"] == 0


def test_audit_prints_scores_beside_original_and_retrained(work: Path) -> None:
    done = expunge(
        "audit", "forgot", "--original", "original", "--retrained", "forgot-retrained", cwd=work
    )
    for word in ("UA", "RA", "TA", "TA_forget", "MIA", "RTE", "gap", "no formal guarantee"):
        assert word in done.stdout


def test_audit_json_is_json_alone(work: Path) -> None:
    done = expunge(
        "audit",
        "forgot",
        "--retrained",
        "forgot-retrained",
        "--features",
        "all",
        "--json",
        cwd=work,
    )
    scores = {score["name"]: score for score in json.loads(done.stdout)["scores"]}
    assert {"UA", "MIA", "MIA-entropy", "MIA-probabilities"} <= set(scores)
    ua = scores["UA"]
    assert ua["gap"] == pytest.approx(abs(ua["value"] - ua["reference"]))


def test_options_of_the_attack_win_over_its_name(work: Path) -> None:
    for also in ([], ["--also", "membership"]):
        done = expunge("audit", "forgot", "--mia-samples", "20", *also, "--json", cwd=work)
        found = {score["name"]: score for score in json.loads(done.stdout)["scores"]}
        assert found["MIA"]["detail"]["m"] == 20


def test_audit_of_an_original_asks_what_it_would_forget(work: Path) -> None:
    message = refused("audit", "original", cwd=work)
    assert "--forget" in message
    expunge("audit", "original", "--forget", "random:0.2", cwd=work)


def test_audit_refuses_a_reference_of_another_split(work: Path) -> None:
    message = refused("audit", "forgot", "--retrained", "original", cwd=work)
    assert "learned from other samples" in message


def test_a_second_deletion_keeps_what_the_first_one_struck(work: Path) -> None:
    expunge(
        "unlearn",
        "forgot",
        "--forget",
        "random:0.05",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--out",
        "again",
        cwd=work,
    )
    first = json.loads((work / "forgot/split.json").read_text())
    second = json.loads((work / "again/split.json").read_text())
    assert set(first["forget"]) <= set(second["excluded"])
    assert not set(first["forget"]) & {*second["retain"], *second["forget"], *second["validation"]}
    struck = first["forget"][0]
    (work / "ids.txt").write_text(f"{struck}\n")
    message = refused(
        "unlearn",
        "again",
        "--forget",
        "ids:ids.txt",
        "--method",
        "finetune",
        "--out",
        "third",
        cwd=work,
    )
    assert repr(struck) in message


def test_redacted_ids_stay_out_of_the_folder(work: Path) -> None:
    expunge(
        "unlearn",
        "original",
        "--forget",
        "class:7",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--redact-ids",
        "--out",
        "redacted",
        cwd=work,
    )
    split = json.loads((work / "redacted/split.json").read_text())
    assert all(len(key) == 32 for key in split["forget"])
    assert "UA" in expunge("audit", "redacted", cwd=work).stdout
    assert "is not what" in refused("audit", "redacted", "--forget", "class:6", cwd=work)
    assert "UA" in expunge("audit", "redacted", "--forget", "class:7", cwd=work).stdout
    expunge(
        "unlearn",
        "redacted",
        "--forget",
        "class:1",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--out",
        "redacted-again",
        cwd=work,
    )
    assert "pseudonyms" in json.loads((work / "redacted-again/split.json").read_text())


def test_list_shows_a_method_in_full(tmp_path: Path) -> None:
    text = expunge("list", "methods", "neggrad_plus", cwd=tmp_path).stdout
    for word in ("alpha", "0.95", "reads: retain, forget", "paper:", ">= 0, <= 1"):
        assert word in text


def test_no_command_shows_help(tmp_path: Path) -> None:
    assert "Usage" in process(cwd=tmp_path, afresh=True).stdout


def test_ids_from_a_pipe_are_read_once(work: Path) -> None:
    """As a shell hands them over for `ids:<(...)`."""
    split = json.loads((work / "original/split.json").read_text())
    reader, writer = os.pipe()
    os.write(writer, "\n".join(split["retain"][:7]).encode())
    os.close(writer)
    done = expunge(
        "unlearn",
        "original",
        "--forget",
        f"ids:/dev/fd/{reader}",
        "--method",
        "finetune",
        "--set",
        "epochs=1",
        "--out",
        "piped",
        cwd=work,
    )
    os.close(reader)
    assert "forgot 7 samples" in done.stdout


def test_an_unknown_class_is_refused_by_name(work: Path) -> None:
    message = refused(
        "unlearn",
        "original",
        "--forget",
        "class:eleven",
        "--method",
        "finetune",
        "--out",
        "x",
        cwd=work,
    )
    assert "'eleven'" in message and not (work / "x").exists()


def test_divergence_writes_nothing(work: Path) -> None:
    message = refused(
        "unlearn",
        "original",
        "--forget",
        "class:2",
        "--method",
        "gradient_ascent",
        "--set",
        "lr=1e6",
        "--out",
        "diverged",
        cwd=work,
    )
    assert "gradient_ascent diverged" in message and "lr" in message
    assert not list(work.glob("*diverged*")) and not list(work.glob(".diverged*"))


def test_an_existing_folder_is_refused_without_overwrite(work: Path, tmp_path: Path) -> None:
    expunge("train", *QUICK, "--out", "m", cwd=tmp_path)
    before = (tmp_path / "m/model.json").read_bytes()
    assert "--overwrite" in refused("train", *QUICK, "--out", "m", cwd=tmp_path)
    assert (tmp_path / "m/model.json").read_bytes() == before
    expunge("train", *QUICK, "--seed", "1", "--out", "m", "--overwrite", cwd=tmp_path)
    assert (tmp_path / "m/model.json").read_bytes() != before
    assert [file.name for file in tmp_path.iterdir()] == ["m"]
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/thesis.txt").write_text("mine")
    refused("train", *QUICK, "--out", "precious", "--overwrite", cwd=tmp_path)
    assert (tmp_path / "precious/thesis.txt").read_text() == "mine"


SLOW = (
    RECORDS
    + """

_load = load


def load():
    train, test = _load()
    read = Records.__getitem__

    def told(self, row):
        Records.reads = getattr(Records, "reads", 0) + 1
        if Records.reads == 3000:  # epochs into the training
            open(os.environ["TOLD"], "w").close()
        return read(self, row)

    Records.__getitem__ = told
    return train, test
"""
)


@pytest.mark.parametrize(
    ("number", "code"), but_first(1, [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
)
def test_interrupt_leaves_nothing_half_written(
    tmp_path: Path, number: signal.Signals, code: int
) -> None:
    """In the middle of a training: its data say when that is."""
    told, folder = tmp_path / "told", tmp_path / "here"
    folder.mkdir()
    (folder / "mine.py").write_text(SLOW)
    command = subprocess.Popen(
        [
            *started(),
            "train",
            "--data",
            "mine:load",
            "--model",
            "mlp",
            "--epochs",
            "100000",
            "--out",
            "m",
        ],
        cwd=folder,
        env={
            **os.environ,
            "OMP_NUM_THREADS": "1",
            "TOLD": str(told),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        stderr=subprocess.PIPE,
        text=True,
        # where these tests run in the background, a shell has told them to ignore it
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    end = time.monotonic() + 120
    while not told.exists():
        assert time.monotonic() < end and command.poll() is None, "it never began to train"
        time.sleep(0.05)
    command.send_signal(number)
    _, message = command.communicate(timeout=60)
    assert command.returncode == code
    assert message.strip().splitlines()[-1].startswith("error: interrupted")
    assert "Traceback" not in message
    assert [file.name for file in folder.iterdir()] == ["mine.py"]


def test_a_model_and_data_of_a_users_own(tmp_path: Path) -> None:
    """Import, unlearn, audit: a module and a dataset class of the user's, string ids, no wrapper."""
    (tmp_path / "mine.py").write_text(RECORDS)
    mine: dict[str, Any] = {}
    exec(RECORDS, mine)
    torch.manual_seed(0)
    net, (data, _) = mine["build"](), mine["load"]()
    inputs = torch.stack([data[row][0] for row in range(len(data))])
    labels = torch.as_tensor(data.labels)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(60):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(net(inputs), labels).backward()
        optimizer.step()
    torch.save(net.state_dict(), tmp_path / "net.pt")
    (tmp_path / "recipe.yaml").write_text(
        "epochs: 5\nlr: 1e-2\noptimizer: adam\nschedule: constant\n"
    )
    done = process(
        "import",
        "--model",
        "mine:build",
        "--weights",
        "net.pt",
        "--data",
        "mine:load",
        "--recipe",
        "recipe.yaml",
        "--out",
        "original",
        cwd=tmp_path,
    )
    assert "500 samples" in done.stdout
    (tmp_path / "ids.txt").write_text("".join(f"patient-{row}\n" for row in range(0, 500, 10)))
    request = ["--forget", "ids:ids.txt", "--method", "neggrad_plus", "--set", "epochs=2"]
    assert "--allow-code" in refused("unlearn", "original", *request, "--out", "f", cwd=tmp_path)
    done = expunge(
        "unlearn",
        "original",
        *request,
        "--with-reference",
        "--allow-code",
        "--out",
        "f",
        cwd=tmp_path,
    )
    assert "forgot 50 samples, 450 retained" in done.stdout
    split = json.loads((tmp_path / "f/split.json").read_text())
    assert split["forget"][:2] == ["patient-0", "patient-10"]
    done = expunge(
        "audit",
        "f",
        "--original",
        "original",
        "--retrained",
        "f-retrained",
        "--allow-code",
        "--json",
        cwd=tmp_path,
    )
    assert {score["name"] for score in json.loads(done.stdout)["scores"]} >= {
        "UA",
        "RA",
        "TA",
        "MIA",
    }


def test_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The demonstration ends with its files, its explanation and a command ready to paste.

    On less than a quarter of its data and passes; `make demo` runs the whole of it.
    """
    less = demo_study().model_dump() | {"data": ["digits:300"], "seeds": [0, 1]}
    less["recipes"]["demo"] |= {"epochs": 4, "batch_size": 64}
    less["methods"]["neggrad_plus"]["settings"] = {"epochs": 4, "alpha": 0.8}
    monkeypatch.setattr("expunge.study.demo.demo_study", lambda: Study.model_validate(less))
    done = expunge("demo", "--out", "out", cwd=tmp_path)
    names = {file.name for file in (tmp_path / "out").iterdir()}
    assert names == {
        "table.md",
        "table.csv",
        "table.json",
        "scores.csv",
        "figure.png",
        "figure.svg",
    }
    scores = pd.read_csv(tmp_path / "out/scores.csv")
    assert [name for name in scores if name in SCORES_FILE] == [*SCORES_FILE]
    assert set(scores["data"]) == {"digits:300"} and set(scores["scenario"]) >= {"class"}
    text = " ".join(done.stdout.split())
    for word in ("retrain", "floor", "gradient_ascent", "TA_", "did not forget", "Did not forget"):
        assert word.lower() in text.lower()
    assert "expunge train --data digits" in done.stdout
    assert "--overwrite" in refused("demo", "--out", "out", cwd=tmp_path)


TASK = """
from torch import nn

class Regression:
    def losses(self, model, batch):
        return (model(batch.inputs)[:, 0] - batch.labels).square()

    def observe(self, model, batch):
        return {"number": model(batch.inputs)[:, 0]}

class Half:
    def losses(self, model, batch):
        return model(batch.inputs)[:, 0]

def build():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 1))
"""


def test_a_task_of_ones_own_is_named_on_the_command_line_and_in_the_folder(tmp_path: Path) -> None:
    """Losses alone are judged; the folder names the task, which is code and wants consent."""
    (tmp_path / "ownnumbers.py").write_text(TASK)
    asked = (
        "--data",
        "digits:300",
        "--model",
        "ownnumbers:build",
        "--epochs",
        "2",
        "--lr",
        "0.001",
    )
    train = ("train", *asked, "--task", "ownnumbers:Regression", "--out", "original")
    assert "no test accuracy" in expunge(*train, cwd=tmp_path).stdout
    card = json.loads((tmp_path / "original/model.json").read_text())
    assert card["data"]["task"] == "ownnumbers:Regression"
    forget = ("unlearn", "original", "--forget", "random:0.2", "--method", "finetune")
    assert "--allow-code" in refused(*forget, "--out", "x", cwd=tmp_path)
    done = (*forget, "--set", "lr=0.0001", "--with-reference", "--out", "forgot", "--allow-code")
    said = expunge(*done, cwd=tmp_path).stdout
    assert "judged by losses alone" in said and "loss_forget" in said
    both = ("forgot", "--original", "original", "--retrained", "forgot-retrained", "--allow-code")
    scores = json.loads(expunge("audit", *both, "--json", cwd=tmp_path).stdout)["scores"]
    assert [one["name"] for one in scores] == ["loss_forget", "loss_retain", "loss_test", "RTE"]
    assert all(one["gap"] is not None for one in scores[:3])
    said = refused("audit", *both, "--also", "prediction_distribution", cwd=tmp_path)
    assert "what looks at classes needs 'logits'" in said
    said = refused("train", *asked, "--task", "ownnumbers:Half", "--out", "y", cwd=tmp_path)
    assert "task 'ownnumbers:Half' has no function observe" in said


# --- the shipped study `smoke`, as the README has it but for its further seeds


@pytest.mark.thorough
def test_the_smoke_study_runs_and_tells(tmp_path: Path) -> None:
    text = study_file("smoke").read_text(encoding="utf-8")
    assert "seeds: [0, 1, 2]" in text
    (tmp_path / "smoke.yaml").write_text(
        text.replace("seeds: [0, 1, 2]", "seeds: [0]").replace('[class, "random:0.1"]', "[class]")
    )
    where = ["smoke.yaml", "--out", "smoke", "--workers", "2"]
    assert "9 of 9 cells done" in process("study", "run", *where, cwd=tmp_path).stdout
    scores = pd.read_csv(tmp_path / "smoke/results/scores.csv")
    means = scores.groupby(["scenario", "method", "score"])["value"].mean()
    # what must hold whatever the numbers: a class that was never seen is never recognised
    assert means["class", "retrain", "UA"] == means["class", "floor", "UA"] == 100
    assert means["class", "original", "UA"] < 20 and means["class", "retrain", "TA"] > 80
    assert means["class", "neggrad_plus", "UA"] > means["class", "finetune", "UA"]
    text = (tmp_path / "smoke/results/table.md").read_text(encoding="utf-8")
    assert "average gap of neggrad_plus at scenario class < average gap of finetune: " in text


# --- what a log shows while a study is busy with one long cell


STUDY = """\
name: slow
data: [digits]
models: [resnet20]
recipes:
  long: {epochs: 500, lr: 0.05, batch_size: 32}
methods:
  finetune: {}
seeds: [0]
"""


def test_a_study_of_a_long_cell_speaks_early_and_names_it(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text(STUDY)
    start = time.monotonic()
    process = subprocess.Popen(
        [
            *started(),
            "study",
            "run",
            "study.yaml",
            "--out",
            "out",
        ],
        cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    assert process.stderr is not None
    limit = threading.Timer(60, process.kill)  # a command that says nothing ends the test, too
    limit.start()
    try:
        told = process.stderr.readline()
        early = time.monotonic() - start
        while "training: " not in told and (more := process.stderr.readline()):
            told = more
        process.send_signal(signal.SIGINT)
        _, left = process.communicate(timeout=60)
    finally:
        limit.cancel()
        process.kill()
        process.communicate()
    assert early < 20, "long before anything is trained, on a busy machine too"
    assert re.match(
        r"study slow: 0 of 12 cells; original, seed 0; training: [\d,]+ of [\d,]+ steps", told
    )
    assert left.splitlines()[-1].startswith("error: interrupted"), left
    assert "Traceback" not in left
