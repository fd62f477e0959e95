"""The finished rows of a study as runs of an MLflow server (https://mlflow.org), by its client."""

from __future__ import annotations

import json
import math
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from expunge.errors import ConfigError, told
from expunge.scores.rows import SETTING
from expunge.scores.table import AVERAGE_GAP
from expunge.study.cells import Row
from expunge.study.launch import FILE, Planned

MLFLOW = "mlflow"
BATCH, LONGEST = 100, 500
"""Parameters and tags of one request, at most, and letters of a value, as every MLflow takes them."""
CELL, METHOD, DATE = "expunge.cell", "expunge.method", "expunge.date"


def tracking_address(target: str) -> str | None:
    """Of `mlflow:URI` the URI; None of `mlflow` alone, which means MLFLOW_TRACKING_URI.

    Raises ConfigError for another word, and where the client is not installed.
    """
    kind, _, address = target.partition(":")
    if kind != MLFLOW:
        raise ConfigError(f"--to {target!r}: write mlflow:URI, as in mlflow:http://localhost:5000")
    if not address and not os.environ.get("MLFLOW_TRACKING_URI"):
        raise ConfigError("--to mlflow: say where, as in mlflow:URI, or set MLFLOW_TRACKING_URI")
    _client_module()
    return address or None


def publish_runs(study: Planned, address: str | None, experiment: str | None = None) -> int:
    """Log a run for each finished or failed row of a study; the number of new ones.

    A run has the row's scores as metrics (with the ends of their intervals as SCORE.low and
    SCORE.high, and, where it was compared, the retrained model's value as SCORE.retrained), its own
    average gap, its configuration as parameters,
    what it is as tags, and its cell.json and the study's file as artifacts. What is there already,
    from the same making of a cell, is not logged again. experiment: by default the study's name.

    Raises ConfigError where no row is finished, and where the server takes no more: what it took is
    there, and a second call goes on.
    """
    rows = list(_rows(study))
    if not rows:
        raise ConfigError("no row is finished yet; go on with `expunge study run`")
    mlflow = _client_module()
    made = 0
    try:
        client = mlflow.MlflowClient(tracking_uri=address)
        place = _experiment(client, experiment or study.study.name)
        known = _logged(client, place)
        for row in rows:
            if row.name not in known:
                _log(client, mlflow.entities, place, row, study)
                made += 1
    except Exception as error:  # MLflow raises its own, and those of whatever it speaks through
        raise ConfigError(
            f"MLflow took {made} of {len(rows)} runs, then said: {told(error)[:LONGEST]}; mend that, "
            "and publish again, which goes on"
        ) from error
    return made


@dataclass(frozen=True)
class _Logged:
    """What is logged of a row. name: of its cell, its method and when it was made."""

    row: Row
    name: tuple[str, str, str]
    content: Mapping[str, Any]
    gap: float = math.nan
    error: str = ""

    @property
    def metrics(self) -> dict[str, float]:
        """Finite numbers by name."""
        found: dict[str, Any] = {AVERAGE_GAP: self.gap}
        for score in self.content.get("scores", ()):
            name = _key(score["name"])
            found[name] = score.get("value")
            found[f"{name}.low"], found[f"{name}.high"] = score.get("low"), score.get("high")
            found[f"{name}.retrained"] = score.get("reference")
        found["seconds"] = (self.content.get("cost") or {}).get("seconds")
        return {
            name: float(value)
            for name, value in found.items()
            if isinstance(value, int | float) and math.isfinite(value)
        }

    @property
    def parameters(self) -> dict[str, str]:
        """The configuration of the cell, keys of nested parts with dots between them."""
        return dict(_flat(self.content.get("config") or {}))

    @property
    def tags(self) -> dict[str, str]:
        """What the row is, and by what it was made."""
        cell, method, date = self.name
        row = self.row
        tags = {CELL: cell, METHOD: method, DATE: date, "expunge.seed": str(row.seed)}
        tags |= {f"expunge.{n}": v for n, v in zip(SETTING, row.setting, strict=True)}
        made = {name: self.content.get(name) for name in ("version", "torch", "machine")}
        tags |= {f"expunge.{name}": str(value) for name, value in made.items() if value}
        tags |= {"expunge.warnings": " | ".join(self.content.get("warnings", ()))}
        tags |= {"expunge.error": self.error}
        return {name: value[:LONGEST] for name, value in tags.items() if value}


def _rows(study: Planned) -> Iterator[_Logged]:
    """What there is of each row, finished or failed."""
    gaps = _gaps(study)
    for row in study.rows:
        if study.store.done(row.cell):
            content = study.store.read(row.cell)
            yield _Logged(
                row, (row.cell, row.method, str(content["date"])), content, gaps.get(row, math.nan)
            )
        elif (failure := study.store.failure(row.cell)) is not None:
            error = f"{failure.error}: {told(failure.message)}"
            yield _Logged(row, (row.cell, row.method, "failed"), {}, error=error)


def _gaps(study: Planned) -> dict[Row, float]:
    """The average gap of each row to the retrained model of its setting and seed, where there is one."""
    from expunge.study.results import results, with_average_gap

    frame = with_average_gap(results(study.rows, study.store))
    frame = frame[frame["score"] == AVERAGE_GAP]
    keys = zip(*(frame[name] for name in (*SETTING, "method", "seed")), strict=True)
    known = dict(zip(keys, frame["value"], strict=True))
    found = {row: known.get((*row.setting, row.method, row.seed)) for row in study.rows}
    return {row: float(value) for row, value in found.items() if value is not None}


def _client_module() -> Any:
    """MLflow's client. Raises ConfigError where it is not installed."""
    try:
        import mlflow
        import mlflow.entities
    except ImportError as error:
        raise ConfigError(
            "publishing to MLflow needs its client; install it with pip install 'expunge[mlflow]'"
        ) from error
    return mlflow


def _experiment(client: Any, name: str) -> str:
    """The id of an experiment, which is made where it is not there."""
    found = client.get_experiment_by_name(name)
    return str(found.experiment_id if found is not None else client.create_experiment(name))


def _logged(client: Any, experiment: str) -> set[tuple[str, str, str]]:
    """Rows of which an experiment has a whole run."""
    found: set[tuple[str, str, str]] = set()
    page = None
    while True:
        runs = client.search_runs([experiment], page_token=page)
        for run in runs:
            if run.info.status in ("FINISHED", "FAILED"):
                tags = run.data.tags
                found.add((tags.get(CELL, ""), tags.get(METHOD, ""), tags.get(DATE, "")))
        page = getattr(runs, "token", None)
        if not page:
            return found


def _log(client: Any, entities: Any, experiment: str, row: _Logged, study: Planned) -> None:
    """Make one run; it counts as whole once it is terminated."""
    when = _milliseconds(row.content.get("date"))
    title = f"{row.row.method}, seed {row.row.seed}"
    made = client.create_run(experiment, tags=row.tags, run_name=title).info.run_id
    metrics = [entities.Metric(name, value, when, 0) for name, value in row.metrics.items()]
    client.log_batch(made, metrics=metrics)
    parameters = [entities.Param(name, value) for name, value in row.parameters.items()]
    for start in range(0, len(parameters), BATCH):
        client.log_batch(made, params=parameters[start : start + BATCH])
    client.log_text(made, study.study.to_yaml(), FILE)
    if row.content:
        client.log_text(made, json.dumps(row.content, indent=1, ensure_ascii=False), "cell.json")
    client.set_terminated(made, status="FAILED" if row.error else "FINISHED")


def _flat(content: Mapping[str, Any], above: str = "") -> Iterator[tuple[str, str]]:
    """Plain values of nested mappings, by their keys with dots between them."""
    for name, value in content.items():
        key = f"{above}{_key(name)}"
        if isinstance(value, Mapping):
            yield from _flat(value, f"{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
            yield key, text[:LONGEST]


def _key(name: str) -> str:
    """A name in the signs that MLflow takes."""
    return re.sub(r"[^\w./ -]", "_", str(name))


def _milliseconds(date: Any) -> int:
    """A date of a cell as MLflow counts; 0 of none."""
    return round(1000 * datetime.fromisoformat(date).timestamp()) if date else 0
