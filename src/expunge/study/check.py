"""Faults of a study file as a whole: names that collide, claims about what is not there, code."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from expunge.data.spec import DataSpec, is_code
from expunge.errors import ConfigError, ModelError, nearest
from expunge.models.table import check_model
from expunge.names.libraries import names_code
from expunge.scores.rows import ORIGINAL
from expunge.scores.table import CHANGES, CRITERIA, DERIVED, OF_AUDITS, TRANSFERRED, score_info
from expunge.study.claims import Claim, Side, parse_claim
from expunge.study.scenarios import scenario_of


class ClaimError(ConfigError):
    """A claim about what the study does not have. row: of the claim, from 0."""

    def __init__(self, message: str, row: int) -> None:
        super().__init__(message)
        self.row = row


def check_distinct(settings: Mapping[str, Sequence[Any]], methods: Iterable[str]) -> None:
    """Raise ConfigError for settings that tables could not tell apart.

    settings: key of the file -> its values, as tables show them. methods: labels of the rows that
    methods make.
    """
    for name, values in settings.items():
        twice = _twice(values)
        if twice is not None:
            raise ConfigError(f"{name} lists {twice!r} twice; a table could not tell them apart")
    twice = _twice(methods)
    if twice is not None:
        raise ConfigError(f"methods: two rows are called {twice!r}; give values that differ more")


def check_models(models: Iterable[str]) -> None:
    """Raise ConfigError for architectures that there are not; `check_consent` asks about code."""
    for model in models:
        try:
            check_model(model, allow_code=True)
        except ModelError as error:
            raise ConfigError(f"models: {error}") from error


def _twice(values: Iterable[Any]) -> Any:
    found = list(values)
    return next((value for value in found if found.count(value) > 1), None)


def check_claims(
    claims: Iterable[str],
    *,
    rows: Sequence[str],
    settings: Mapping[str, Sequence[str]],
    sparsities: Sequence[float],
    transfer: bool,
    criteria: bool,
    foreign: bool,
) -> None:
    """Raise ClaimError for a claim about a score, a row or a setting that the study does not have.

    settings: key of a claim -> its values in the study. sparsities: of its densities, in [0, 1).
    transfer, criteria: whether it has these scores. foreign: whether audits of other packages are
    made, whose scores nobody here knows.
    """
    scores = [*DERIVED, *OF_AUDITS]
    scores += [*(TRANSFERRED if transfer else ()), *(CRITERIA if criteria else ())]
    for row, text in enumerate(claims):
        try:
            sides = _sides(parse_claim(text))
            _check_units(text, *(side.score for side in sides))
            for side in sides:
                if not foreign:
                    _among(text, "score", side.score, scores)
                _among(text, "row", side.method, rows)
                if side.score in CRITERIA:
                    _check_mask(text, side)
                if side.score in CHANGES and side.method == ORIGINAL:
                    raise ConfigError(
                        f"claim {text!r}: {side.score} is read against the original, which has none"
                    )
                for key, value in side.at.items():
                    if key == "sparsity":
                        _check_sparsity(text, side, sparsities)
                    else:
                        _among(text, key, value, settings[key])
        except ConfigError as error:
            raise ClaimError(str(error), row) from None


def _sides(claim: Claim) -> tuple[Side, Side]:
    return claim.less, claim.more


def _among(text: str, what: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(
            f"claim {text!r}: no {what} {value!r}{nearest(value, known)}; there are: {', '.join(known)}"
        )


def _check_units(text: str, less: str, more: str) -> None:
    """Scores of another unit cannot be compared; of those of other packages nobody knows it here."""
    units = ["percent" if one in DERIVED else score_info(one).unit for one in (less, more)]
    if all(units) and len(set(units)) > 1:
        raise ConfigError(
            f"claim {text!r}: {less} is in {units[0]} and {more} in {units[1]}; compare like with like"
        )


def _check_mask(text: str, side: Side) -> None:
    """Masks are judged in the rows of sparse originals alone."""
    if side.method != "original" or side.at.get("density") == "dense" or side.sparsity == 0:
        raise ConfigError(
            f"claim {text!r}: {side.score} is known of `original` at a sparse density alone"
        )


def _check_sparsity(text: str, side: Side, known: Sequence[float]) -> None:
    if not any(math.isclose(side.sparsity or 0.0, one, abs_tol=1e-9) for one in known):
        raise ConfigError(
            f"claim {text!r}: no density of sparsity {side.at['sparsity']}; there are: "
            + ", ".join(f"{one:g}" for one in known)
        )


def check_consent(
    models: Iterable[str], specs: Iterable[str], audits: Iterable[str], *, allow_code: bool
) -> None:
    """Raise ConfigError for names of code in a file, unless the person has looked at them.

    models: architectures. specs: of data. audits: further ones. Methods and pruners are asked for
    where a file is read.
    """
    if allow_code:
        return
    bases = (DataSpec.parse(spec).base for spec in specs)
    for name in (
        *(name for name in (*models, *audits) if names_code(name)),
        *(base for base in bases if is_code(base)),
    ):
        raise ConfigError(
            f"{name!r} names code to run, and the name comes from a file: look at that code, then "
            "pass --allow-code"
        )


def check_there(
    specs: Iterable[str],
    scenarios: Iterable[str],
    data_dir: str | Path | None,
    *,
    allow_code: bool,
) -> None:
    """Raise DataError or SplitError for data or lists of ids that are not there."""
    for spec in specs:
        DataSpec.parse(spec).check(data_dir, allow_code=allow_code)
    for scenario in scenarios:
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
