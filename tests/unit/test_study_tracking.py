"""Publishing to MLflow: what is asked of its client, here a small one that writes down what it gets."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import pytest
from commands import expunge, refused

from expunge.errors import ConfigError
from expunge.study.file import read_study
from expunge.study.launch import planned, run_study
from expunge.study.store import CellStore
from expunge.study.tracking import tracking_address

TEXT = """\
name: small
data: ["digits:100"]
models: [mlp]
recipes: {quick: {epochs: 1, lr: 0.05, batch_size: 64}}
scenarios: ["random:0.1"]
methods: {finetune: {epochs: 1, lr: 0.02}}
seeds: [0]
floor: false
controls: false
"""


class Client:
    """As far as `mlflow.MlflowClient` is used; one page holds two runs."""

    runs: ClassVar[list[Any]] = []
    addresses: ClassVar[list[Any]] = []
    experiments: ClassVar[list[str]] = []
    broken = False

    def __init__(self, tracking_uri: str | None = None) -> None:
        self.addresses.append(tracking_uri)

    def get_experiment_by_name(self, name: str) -> Any:
        if name not in self.experiments:
            return None
        return SimpleNamespace(experiment_id=str(self.experiments.index(name)))

    def create_experiment(self, name: str) -> str:
        self.experiments.append(name)
        return str(len(self.experiments) - 1)

    def search_runs(self, experiments: list[str], page_token: str | None = None) -> Any:
        start = int(page_token or 0)
        mine = [run for run in self.runs if run.experiment in experiments]

        class Page(list[Any]):
            token = str(start + 2) if len(mine) > start + 2 else None

        return Page(mine[start : start + 2])

    def create_run(self, experiment: str, tags: dict[str, str], run_name: str) -> Any:
        number = len(self.runs)
        run = SimpleNamespace(
            info=SimpleNamespace(run_id=number, status="RUNNING"),
            data=SimpleNamespace(tags=tags),
            experiment=experiment, name=run_name, metrics={}, params={}, files={},
        )  # fmt: skip
        self.runs.append(run)
        return run

    def log_batch(self, run: int, metrics: Any = (), params: Any = ()) -> None:
        if self.broken:
            raise RuntimeError("the server\nis on fire")
        assert len(params) <= 100
        self.runs[run].metrics |= {one.key: one.value for one in metrics}
        self.runs[run].params |= {one.key: one.value for one in params}

    def log_text(self, run: int, text: str, artifact_file: str) -> None:
        self.runs[run].files[artifact_file] = text

    def set_terminated(self, run: int, status: str) -> None:
        self.runs[run].info.status = status


@pytest.fixture
def client(monkeypatch: pytest.MonkeyPatch) -> type[Client]:
    mlflow, entities = ModuleType("mlflow"), ModuleType("mlflow.entities")
    known: Any = (mlflow, entities)
    known[1].Metric = lambda key, value, timestamp, step: SimpleNamespace(key=key, value=value)
    known[1].Param = lambda key, value: SimpleNamespace(key=key, value=value)
    known[0].entities, known[0].MlflowClient = entities, Client
    monkeypatch.setitem(sys.modules, "mlflow", mlflow)
    monkeypatch.setitem(sys.modules, "mlflow.entities", entities)
    for name in ("runs", "addresses", "experiments"):
        monkeypatch.setattr(Client, name, [])
    return Client


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that holds a finished study, `small`."""
    folder = tmp_path_factory.mktemp("tracking")
    (folder / "study.yaml").write_text(TEXT, encoding="utf-8")
    run_study(planned(read_study(folder / "study.yaml"), folder / "small"))
    return folder


def test_a_run_has_the_scores_settings_tags_and_files_of_a_row(
    made: Path, client: type[Client]
) -> None:
    done = expunge("study", "publish", "small", "--to", "mlflow:http://host:1", cwd=made)
    assert done.stdout == "published: 3 new runs\n" and client.addresses == ["http://host:1"]
    assert client.experiments == ["small"]
    assert {run.name for run in client.runs} == {
        f"{method}, seed 0" for method in ("original", "retrain", "finetune")
    }
    (run,) = (run for run in client.runs if run.name.startswith("finetune"))
    key = run.data.tags["expunge.cell"]
    cell = CellStore(made / "small").read(key)
    assert json.loads(run.files["cell.json"]) == json.loads(json.dumps(cell))
    assert run.files["study.yaml"] == (made / "small/study.yaml").read_text(encoding="utf-8")
    scores = {score["name"]: score for score in cell["scores"]}
    for name, score in scores.items():
        assert run.metrics[name] == score["value"]
    assert run.metrics["UA.low"] == scores["UA"]["low"]
    retrain = next(run for run in client.runs if run.name.startswith("retrain"))
    gaps = [abs(run.metrics[name] - retrain.metrics[name]) for name in ("UA", "MIA", "RA", "TA")]
    assert run.metrics["average gap"] == pytest.approx(sum(gaps) / 4)
    assert run.metrics["seconds"] == cell["cost"]["seconds"]
    assert run.params["settings.lr"] == "0.02" and run.info.status == "FINISHED"
    tags = run.data.tags
    assert tags["expunge.method"] == "finetune" and tags["expunge.seed"] == "0"
    assert tags["expunge.scenario"] == "random:0.1" and tags["expunge.data"] == "digits:100"


def test_what_is_there_is_not_logged_again_and_what_broke_off_is(
    made: Path, client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    to = ("study", "publish", "small", "--to", "mlflow:http://host:1", "--experiment", "mine")
    monkeypatch.setattr(Client, "broken", True)
    told = refused(*to, cwd=made)
    assert "took 0 of 3 runs, then said: the server is on fire" in told
    monkeypatch.setattr(Client, "broken", False)
    assert expunge(*to, cwd=made).stdout == "published: 3 new runs\n"
    assert expunge(*to, cwd=made).stdout == "published: 0 new runs\n"
    assert [run.info.status for run in client.runs] == ["RUNNING"] + 3 * ["FINISHED"]


def test_a_failed_row_is_logged_as_such(
    made: Path, client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    failure = SimpleNamespace(error="DivergenceError", message="it\ndiverged")
    done = CellStore.done
    monkeypatch.setattr(CellStore, "failure", lambda *_: failure)
    monkeypatch.setattr(
        CellStore,
        "done",
        lambda self, key: done(self, key) and "settings" not in self.read(key)["config"],
    )
    expunge("study", "publish", "small", "--to", "mlflow:http://host:1", cwd=made)
    failed = [run for run in client.runs if run.info.status == "FAILED"]
    assert failed and all(not run.metrics for run in failed)
    assert failed[0].data.tags["expunge.error"] == "DivergenceError: it diverged"


def test_the_address_and_a_missing_client_cost_one_line(
    made: Path, client: type[Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    assert tracking_address("mlflow:file:///x") == "file:///x"
    with pytest.raises(ConfigError, match="write mlflow:URI"):
        tracking_address("wandb:x")
    with pytest.raises(ConfigError, match="MLFLOW_TRACKING_URI"):
        tracking_address("mlflow")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://host:1")
    assert tracking_address("mlflow") is None
    monkeypatch.setitem(sys.modules, "mlflow", None)
    told = refused("study", "publish", "small", "--to", "mlflow:x", cwd=made)
    assert "pip install 'expunge[mlflow]'" in told
