"""One page for the person responsible, which says in plain words what a certificate tells."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from typing import Any

import jinja2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from sqlalchemy import RowMapping

from expunge.names.text import clean
from expunge.requests.clocks import LawClocks
from expunge.requests.dsse import key_id
from expunge.requests.facts import UNKNOWN, ForgettingFacts
from expunge.requests.gate_bank import bank_in_words
from expunge.requests.ledger import to_the_minute
from expunge.requests.statement import Statement

PAGE = files("expunge.requests") / "templates" / "certificate.html.j2"
_NOTHING = "it holds of them at most what other records tell, too"
_SCALED = f"{_NOTHING}, and their part in the mean and deviation by which inputs are scaled."
RISK = {
    "retraining": f"The model was trained without these records, so {_SCALED}",
    "sisa": f"The shards that held these records were trained again without them, so {_SCALED}",
    "approximate": "The model was changed and not made anew, so an attack that was not tried here may "
    "still find traces of these records.",
    "epsilon-delta": "How much the model may still tell of these records is bounded, if the assumptions "
    "of the bound hold.",
    "none": f"The model had not learned from these records, so {_NOTHING}, and what was chosen by "
    "measuring on them.",
}
"""Kind of the method -> what may remain in the model."""
COPIES_TELL = "Whoever has an old model, a backup or a copy of the data can still learn of them."


def certificate_page(
    statement: Statement,
    asked: Sequence[RowMapping],
    *,
    clocks: LawClocks,
    undone: str,
    batch: int,
    certificate: str,
    public: str,
    key: Ed25519PublicKey,
) -> str:
    """The page: one HTML text without scripts, which fetches nothing; all texts are escaped.

    asked: rows of the requests, their duplicates among them. clocks: by which their dates are told.
    undone: what holds since somebody went back to an earlier model; empty where nobody did.
    certificate, public: names of the signed file and of the key's. key: that signed.
    """
    environment = jinja2.Environment(
        autoescape=True,
        finalize=_shown,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["due"] = lambda row: clocks.told(row["due_at"], row["law"])
    environment.filters |= {"number": lambda value: f"{value:,}", "minute": to_the_minute}
    told = statement.predicate
    page = environment.from_string(PAGE.read_text(encoding="utf-8"))
    return page.render(
        told=told,
        asked=asked,
        late=any(told.timeline.released_at > one["due_at"] for one in asked),
        undone=undone,
        batch=batch,
        certificate=certificate,
        public=public,
        reads=_reads(told),
        nowhere=("none", UNKNOWN),
        bank=bank_in_words(told.gate.bank_models or 0),
        risk=f"{RISK[told.procedure.kind]} {COPIES_TELL}",
        key=key_id(key),
    )


def _reads(told: ForgettingFacts) -> str:
    """`4,410 of retain (each time it read one counts)`."""
    read = [
        f"{count:,} of {part.replace('_', ' ')}"
        for part, count in told.samples_read.items()
        if count
    ]
    return f"{', '.join(read)} (each time it read one counts)" if read else "no samples"


def _shown(value: Any) -> Any:
    """A text from elsewhere without signs that could show it as another."""
    return clean(value) if type(value) is str else value
