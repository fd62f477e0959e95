"""The tables of a ledger, alike in SQLite and in PostgreSQL.

Times are texts, ISO 8601 in UTC, which sort as they follow each other. No table holds an id of a sample:
HMACs under the ledger's key stand for them.
"""

from __future__ import annotations

from typing import Any, get_args

from sqlalchemy import (
    REAL,
    CheckConstraint,
    Column,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from expunge.requests.states import BATCH, RELEASE, REQUEST
from expunge.scores.words import GateWord

NAMES = {
    "ix": "ix_%(table_name)s_%(column_0_name)s",
    "uq": "uq_%(table_name)s_%(column_0_name)s",
    "ck": "ck_%(table_name)s_%(constraint_name)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s",
    "pk": "pk_%(table_name)s",
}
metadata = MetaData(naming_convention=NAMES)


def _table(name: str, *parts: Any) -> Table:
    return Table(name, metadata, *parts, sqlite_strict=True)


def _text(name: str, *more: Any, **options: Any) -> Column[str]:
    return Column(name, Text, *more, nullable=options.pop("nullable", False), **options)


def _state(states: Any) -> CheckConstraint:
    return CheckConstraint(f"state IN ({', '.join(repr(s) for s in states)})", name="state")


def _verdict() -> CheckConstraint:
    words = ", ".join(map(repr, get_args(GateWord)))
    return CheckConstraint(f"verdict IN ({words})", name="verdict")


settings = _table("settings", _text("name", primary_key=True), _text("value"))
requests = _table(
    "requests",
    Column("id", Integer, primary_key=True),
    _text("source"),
    _text("idempotency_key", unique=True),
    _text("body_digest"),
    _text("received_at"),
    _text("law", nullable=True),
    _text("due_at"),
    _text("confirm_by", nullable=True),
    _text("extended_reason", nullable=True),
    _text("state"),
    _text("reason", nullable=True),
    _text("held", nullable=True),
    Column("duplicate_of", Integer, ForeignKey("requests.id"), nullable=True),
    _state(REQUEST),
)
request_items = _table(
    "items",
    Column("id", Integer, primary_key=True),
    Column("request", Integer, ForeignKey("requests.id"), nullable=False),
    _text("id_hmac"),
    _text("content_hash", nullable=True),
    _text("state"),
    UniqueConstraint("request", "id_hmac"),
    _state(("asked", "learned", "validation", "test", "struck before", "unknown")),
)
struck = _table(
    "struck",
    Column("id", Integer, primary_key=True),
    _text("data_set"),
    _text("id_hmac", nullable=True),
    _text("content_hash", nullable=True),
    _text("since"),
    Column("request", Integer, ForeignKey("requests.id"), nullable=False),
    UniqueConstraint("request", "id_hmac", "content_hash", name="uq_struck_request"),
    Index("ix_struck_data_set", "data_set"),
)
duplicates = _table(
    "duplicates",
    Column("item", Integer, ForeignKey("items.id"), primary_key=True),
    _text("other_hmac", primary_key=True),
    _text("layer", primary_key=True),
    Column("score", REAL, nullable=False),
    _text("decision"),
    CheckConstraint("decision IN ('open', 'add', 'keep', 'disclose')", name="decision"),
)
copy_layers = _table(
    "copy_layers",
    Column("request", Integer, ForeignKey("requests.id"), primary_key=True),
    _text("layer", primary_key=True),
    Column("threshold", REAL, nullable=True),
    Column("one_in", Integer, nullable=True),
    Column("pairs", Integer, nullable=True),
    _text("at"),
)
models = _table(
    "models",
    _text("digest", primary_key=True),
    _text("parent", ForeignKey("models.digest"), nullable=True),
    _text("folder"),
    _text("card_digest"),
    _text("made_at"),
)
batches = _table(
    "batches",
    Column("id", Integer, primary_key=True),
    _text("state"),
    _text("method"),
    _text("settings"),
    _text("created_at"),
    _text("frozen_at", nullable=True),
    _text("model_before", ForeignKey("models.digest")),
    _text("model_after", ForeignKey("models.digest"), nullable=True),
    _text("verdict", nullable=True),
    _text("fallback", nullable=True),
    _state(BATCH),
)
batch_requests = _table(
    "batch_requests",
    Column("batch", Integer, ForeignKey("batches.id"), primary_key=True),
    Column("request", Integer, ForeignKey("requests.id"), primary_key=True),
)
gates = _table(
    "gates",
    _text("digest", primary_key=True),
    _text("spec"),
    _text("committed_at"),
    Column("event", Integer, ForeignKey("events.seq"), nullable=False),
)
qualifications = _table(
    "qualifications",
    Column("id", Integer, primary_key=True),
    _text("gate", ForeignKey("gates.digest")),
    _text("method"),
    _text("settings"),
    _text("recipe"),
    _text("data_version"),
    _text("model", ForeignKey("models.digest")),
    _text("kind"),
    Column("size", Integer, nullable=False),
    Column("learned", Integer, nullable=False),
    Column("struck_before", Integer, nullable=False),
    _text("begun_at"),
    _text("made_at", nullable=True),
    _text("verdict", nullable=True),
    _text("results", nullable=True),
    UniqueConstraint(
        *("gate", "method", "settings", "recipe", "data_version", "model", "kind", "size"),
        name="uq_qualifications_gate",
    ),
    _verdict(),
)
gate_results = _table(
    "gate_results",
    Column("id", Integer, primary_key=True),
    Column("qualification", Integer, ForeignKey("qualifications.id"), nullable=False),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=True),
    _text("model"),
    _text("at"),
    _text("verdict"),
    _text("results"),
    _verdict(),
)
steps = _table(
    "steps",
    Column("id", Integer, primary_key=True),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=True),
    Column("qualification", Integer, ForeignKey("qualifications.id"), nullable=True),
    _text("name"),
    _text("input_digest"),
    Column("attempt", Integer, nullable=False),
    _text("lease_until"),
    Column("fencing", Integer, nullable=False),
    _text("worker"),
    _text("output", nullable=True),
    _text("error", nullable=True),
    Column("seconds_ms", Integer, nullable=True),
    UniqueConstraint("batch", "name", "input_digest", name="uq_steps_batch"),
    UniqueConstraint("qualification", "name", "input_digest", name="uq_steps_qualification"),
    CheckConstraint("(batch IS NULL) <> (qualification IS NULL)", name="owner"),
)
releases = _table(
    "releases",
    Column("id", Integer, primary_key=True),
    _text("model", ForeignKey("models.digest")),
    _text("state"),
    _text("since"),
    _text("actor"),
    _text("reason", nullable=True),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=True),
    _state(RELEASE),
)
copies = _table(
    "copies",
    Column("id", Integer, primary_key=True),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=False),
    _text("what"),
    _text("folder"),
    _text("until", nullable=True),
    _text("begun_at", nullable=True),
    _text("purged_at", nullable=True),
    UniqueConstraint("batch", "folder"),
    CheckConstraint("what IN ('old weights', 'bank', 'derived models')", name="what"),
)
certificates = _table(
    "certificates",
    Column("id", Integer, primary_key=True),
    Column("batch", Integer, ForeignKey("batches.id"), nullable=False, unique=True),
    _text("payload_digest"),
    _text("file"),
    _text("issued_at"),
    _text("revoked_at", nullable=True),
    _text("revoked_reason", nullable=True),
)
nonces = _table(
    "nonces",
    Column("item", Integer, ForeignKey("items.id"), primary_key=True),
    _text("nonce", nullable=True),
    _text("leaf"),
)
tokens = _table(
    "tokens",
    _text("name", primary_key=True),
    _text("role"),
    _text("digest", unique=True),
    _text("added_at"),
    _text("revoked_at", nullable=True),
    CheckConstraint("role IN ('submitter', 'approver', 'reader')", name="role"),
)
events = _table(
    "events",
    Column("seq", Integer, primary_key=True, autoincrement=False),
    _text("at"),
    _text("actor"),
    _text("kind"),
    _text("payload"),
    _text("previous_hash"),
    _text("hash"),
)
