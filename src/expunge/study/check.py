"""Faults of a study file as a whole: names that collide, claims about what is not there, code."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from expunge.data.spec import DataSpec
from expunge.errors import ConfigError, ModelError, nearest
from expunge.models.table import check_model
from expunge.scores.table import CRITERIA, OF_AUDITS, TRANSFERRED
from expunge.study.claims import Claim, Side, parse_claim
from expunge.study.scenarios import scenario_of

if TYPE_CHECKING:
    from expunge.study.schema import Study


class ClaimError(ConfigError):
    """A claim about what the study does not have. row: of the claim, from 0."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def check_distinct(study: Study, methods: Iterable[str]) -> None:
    """Raise ConfigError for settings that tables could not tell apart, and models that there are not.

    methods: labels of the rows that methods make.
    """
    for name, values in (
        ("data", study.data),
        ("models", study.models),
        ("seeds", study.seeds),
        ("also", study.also),
        ("densities", [density.label for density in study.densities]),
        ("scenarios", [scenario_of(text).told(text) for text in study.scenarios]),
    ):
        twice = _twice(values)
        if twice is not None:
            raise ConfigError(f"{name} lists {twice!r} twice; a table could not tell them apart")
    twice = _twice(methods)
    if twice is not None:
        raise ConfigError(f"methods: two rows are called {twice!r}; give values that differ more")
    for model in study.models:
        try:
            check_model(model)
        except ModelError as error:
            raise ConfigError(f"models: {error}") from error


def _twice(values: Iterable[Any]) -> Any:
    found = list(values)
    return next((value for value in found if found.count(value) > 1), None)


def check_claims(study: Study, methods: Iterable[str]) -> None:
    """Raise ClaimError for a claim about a score, a row or a setting that the study does not have."""
    rows = ["original", "retrain", *(["floor"] if study.floor else []), *methods]
    known = {
        "data": list(study.data),
        "model": list(study.models),
        "recipe": list(study.recipes),
        "density": [density.label for density in study.densities],
        "scenario": list(study.scenarios),
    }
    scores = ["average gap", *OF_AUDITS]
    scores += [*(TRANSFERRED if study.transfer else ()), *(CRITERIA if study.criteria else ())]
    cut = [density.sparsity for density in study.densities]
    for row, text in enumerate(study.claims):
        try:
            for side in _sides(parse_claim(text)):
                _among(text, "score", side.score, scores)
                _among(text, "row", side.method, rows)
                if side.score in CRITERIA:
                    _check_mask(text, side)
                for key, value in side.at.items():
                    if key == "sparsity":
                        _check_sparsity(text, side, cut)
                    else:
                        _among(text, key, value, known[key])
        except ConfigError as error:
            raise ClaimError(str(error), row) from None


def _sides(claim: Claim) -> tuple[Side, Side]:
    return claim.less, claim.more


def _among(text: str, what: str, value: str, known: list[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"claim {text!r}: no {what} {value!r}{nearest(value, known)}; there are: {', '.join(known)}"
        )


def _check_mask(text: str, side: Side) -> None:
    """Masks are judged in the rows of sparse originals alone."""
    if side.method != "original" or side.at.get("density") == "dense" or side.sparsity == 0:
        raise ConfigError(
            f"claim {text!r}: {side.score} is known of `original` at a sparse density alone"
        )


def _check_sparsity(text: str, side: Side, known: list[float]) -> None:
    if not any(math.isclose(side.sparsity or 0.0, one, abs_tol=1e-9) for one in known):
        raise ConfigError(
            f"claim {text!r}: no density of sparsity {side.at['sparsity']}; there are: "
            + ", ".join(f"{one:g}" for one in known)
        )


def check_consent(study: Study, *, allow_code: bool) -> None:
    """Raise ConfigError for names of code in a file, unless the person has looked at them."""
    if allow_code:
        return
    for name in (*study.models, *(DataSpec.parse(spec).base for spec in study.specs)):
        if ":" in name and not Path(name).exists():
            raise ConfigError(
                f"{name!r} names code to run, and the name comes from a file: look at that code, then "
                "pass --allow-code"
            )


def check_sources(study: Study, data_dir: str | Path | None) -> None:
    """Raise DataError or SplitError for data or lists of ids that are not there."""
    for spec in study.specs:
        DataSpec.parse(spec).check(data_dir)
    for scenario in study.scenarios:
        scenario_of(scenario).content(scenario)


def check_keys(file: Path, node: Any) -> None:
    """Raise ConfigError for a key that a mapping of the YAML document has twice: YAML keeps the last."""
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen and name != "<<":
                raise ConfigError(
                    f"{file}, line {key.start_mark.line + 1}: {name!r} stands here a second time; only "
                    "one of the two would count"
                )
            seen.add(name)
            check_keys(file, value)
    if isinstance(node, yaml.SequenceNode):
        for value in node.value:
            check_keys(file, value)
