"""What audits found of a study's rows, one by one and together, from the cells; nothing is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from expunge.audits import AUDITS
from expunge.scores.finding import Finding
from expunge.scores.joint import OUTPUTS, JudgedScore, found_together
from expunge.scores.rows import FINDINGS_FILE, NAMED, SETTING
from expunge.scores.score import Score
from expunge.study.cells import Row
from expunge.study.results import table_names
from expunge.study.store import CellStore

AUDIT_OF = {info.name: audit for audit in AUDITS.values() for info in audit.info}
"""Score -> the audit of this package that gives it."""


def findings_of(rows: Sequence[Row], store: CellStore, frame: pd.DataFrame) -> pd.DataFrame | None:
    """A row per setting, method, seed and score with a finding; None where no cell has any, as in
    studies of earlier versions, and in those that ask for no further audit.

    finding, why, p: as the audit found it by itself. among_all: the word as it stands among all findings
    of the model. together: what these say of the model, by `found_together` and the stated margins.
    references: retrained models that it was read against. `NAMED`: what tables call the scenario.

    frame: of all rows, as `results` has it.
    """
    found = [line for row in rows if store.done(row.cell) for line in _lines(row, store)]
    if not found:
        return None
    made = pd.DataFrame(found, columns=[*FINDINGS_FILE])
    made["p"] = made["p"].astype(float)
    return made.assign(**{NAMED: table_names(made, frame)})


def _lines(row: Row, store: CellStore) -> Iterator[dict[str, Any]]:
    content = store.read(row.cell)
    told = [score for score in content["scores"] if score.get("finding")]
    if not told:
        return
    judged = [_judged(score) for score in told]
    # an earlier version said no more than which classes are gone
    whole = content.get("whole_classes", bool(content.get("forgotten_classes")))
    together = found_together(
        judged,
        references=max(len(one.score.retrained) for one in judged),
        whole_classes=whole,
    )
    for plain, one in zip(told, together.judged, strict=True):
        alone = _finding(plain)
        yield {
            **dict(zip(SETTING, row.setting, strict=True)),
            "method": row.method,
            "seed": row.seed,
            "score": one.score.name,
            "finding": alone.word,
            "why": alone.why,
            "p": alone.p,
            "among_all": one.word,
            "together": together.word,
            "references": together.references,
            "cell": row.cell,
        }


def _judged(plain: Mapping[str, Any]) -> JudgedScore:
    """A score of a cell with its audit; one of others' code counts as one that looks at outputs, for
    those alone are no reason to say that a model forgot.
    """
    name = str(plain["name"])
    audit = AUDIT_OF.get(name)
    told = (name, OUTPUTS) if audit is None else (audit.name, audit.family)
    return JudgedScore(*told, _score(plain))


def _score(plain: Mapping[str, Any]) -> Score:
    """A score as `Score.to_dict` wrote it into a cell.

    The detail is what some audit put there: what is no number where one is expected is left out.
    """
    detail = dict(plain.get("detail") or {})
    detail["original"] = _number(detail.get("original"))
    references = detail.get("references")
    detail["references"] = (
        [_number(one) for one in references] if isinstance(references, list) else None
    )
    value = plain["value"]
    return Score(
        name=plain["name"],
        value=math.nan if value is None else float(value),
        n=plain["n"],
        low=plain.get("low"),
        high=plain.get("high"),
        unit=plain.get("unit") or "",
        target=plain.get("target") or "retrained",
        detail=detail,
        reference=plain.get("reference"),
        bound=plain.get("bound"),
        reference_bound=plain.get("reference_bound"),
        finding=_finding(plain),
    )


def _finding(plain: Mapping[str, Any]) -> Finding:
    """What was found of a score by itself."""
    found = plain["finding"]
    return Finding(
        **{name: found[name] for name in ("word", "why", "p", "decidable") if name in found}
    )


def _number(value: Any) -> float | None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return float(value) if number else None
