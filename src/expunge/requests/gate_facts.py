"""What a certificate tells of the gate that an approximate method passed."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from sqlalchemy import Connection, select

from expunge.requests.facts import GateControl, GateOutcome, GateResult
from expunge.requests.gate_file import gate_of
from expunge.requests.tables import gates, qualifications
from expunge.scores.table import SCORES


def gate_facts(
    connection: Connection, gated: Mapping[str, Any], sanity: GateOutcome
) -> GateOutcome:
    """The outcome of a gate that was passed, with the sanity check of the same model.

    gated: what stands of it in a batch's verdict, under "gate".
    """
    chosen = select(qualifications, gates.c.committed_at).join(
        gates, gates.c.digest == qualifications.c.gate
    )
    number = gated["qualification"]
    row = connection.execute(chosen.where(qualifications.c.id == number)).mappings().one()
    results = json.loads(row["results"])
    compared = [
        GateResult(
            score=name,
            check="qualification",
            value=one["apart"],
            low=one["low"],
            high=one["high"],
            margin=one["margin"],
            unit=SCORES[name].unit,
            passed=one["word"] == "within",
        )
        for name, one in results["scores"].items()
    ]
    return GateOutcome(
        digest=row["gate"],
        fixed_at=row["committed_at"],
        verdict=gated["verdict"],
        alpha=gate_of(connection, row["gate"]).alpha,
        joint_pass_rate=results["pass_rate"],
        results=(*compared, *sanity.results),
        controls=(  # acceptance would have been invalid otherwise
            GateControl(name="a stored retrained model", must_pass=True, passed=True),
            GateControl(name="the original", must_pass=False, passed=False),
        ),
        bank_models=gated.get("shadows"),
    )
