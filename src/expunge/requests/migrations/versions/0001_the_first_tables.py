"""The first tables, and triggers that let nobody change what has happened."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

SQLITE = """
CREATE TRIGGER events_{what} BEFORE {what} ON events
BEGIN SELECT RAISE(ABORT, 'events are never changed'); END
"""
POSTGRES = """
CREATE FUNCTION events_stay() RETURNS trigger LANGUAGE plpgsql
AS $$ BEGIN RAISE EXCEPTION 'events are never changed'; END $$;
CREATE TRIGGER events_stay BEFORE UPDATE OR DELETE OR TRUNCATE ON events
FOR EACH STATEMENT EXECUTE FUNCTION events_stay()
"""


def upgrade() -> None:
    """Make it so."""
    op.create_table(
        "events",
        sa.Column("seq", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("at", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("kind", sa.Text(), nullable=False),
        sa.Column("payload", sa.Text(), nullable=False),
        sa.Column("previous_hash", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("seq", name="pk_events"),
        sqlite_strict=True,
    )
    op.create_table(
        "models",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("parent", sa.Text(), nullable=True),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("card_digest", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["parent"], ["models.digest"], name="fk_models_parent"),
        sa.PrimaryKeyConstraint("digest", name="pk_models"),
        sqlite_strict=True,
    )
    op.create_table(
        "requests",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("idempotency_key", sa.Text(), nullable=False),
        sa.Column("body_digest", sa.Text(), nullable=False),
        sa.Column("received_at", sa.Text(), nullable=False),
        sa.Column("law", sa.Text(), nullable=True),
        sa.Column("due_at", sa.Text(), nullable=False),
        sa.Column("confirm_by", sa.Text(), nullable=True),
        sa.Column("extended_reason", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("held", sa.Text(), nullable=True),
        sa.Column("duplicate_of", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "state IN ("
            "'received', 'verified', 'approved', 'struck', 'in_batch', "
            "'released', 'certified', 'closed', 'refused', 'withdrawn', "
            "'duplicate')",
            name=op.f("ck_requests_state"),
        ),
        sa.ForeignKeyConstraint(["duplicate_of"], ["requests.id"], name="fk_requests_duplicate_of"),
        sa.PrimaryKeyConstraint("id", name="pk_requests"),
        sa.UniqueConstraint("idempotency_key", name="uq_requests_idempotency_key"),
        sqlite_strict=True,
    )
    op.create_table(
        "settings",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("value", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_settings"),
        sqlite_strict=True,
    )
    op.create_table(
        "batches",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("settings", sa.Text(), nullable=False),
        sa.Column("created_at", sa.Text(), nullable=False),
        sa.Column("frozen_at", sa.Text(), nullable=True),
        sa.Column("model_before", sa.Text(), nullable=False),
        sa.Column("model_after", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("fallback", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "state IN ("
            "'open', 'frozen', 'unlearning', 'gating', 'failed', "
            "'invalid', 'undecided', 'retraining', 'passed', 'released', "
            "'abandoned')",
            name=op.f("ck_batches_state"),
        ),
        sa.ForeignKeyConstraint(["model_after"], ["models.digest"], name="fk_batches_model_after"),
        sa.ForeignKeyConstraint(
            ["model_before"], ["models.digest"], name="fk_batches_model_before"
        ),
        sa.PrimaryKeyConstraint("id", name="pk_batches"),
        sqlite_strict=True,
    )
    op.create_table(
        "items",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("id_hmac", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("state", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "state IN ('asked', 'learned', 'validation', 'test', 'struck before', 'unknown')",
            name=op.f("ck_items_state"),
        ),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_items_request"),
        sa.PrimaryKeyConstraint("id", name="pk_items"),
        sa.UniqueConstraint("request", "id_hmac", name="uq_items_request"),
        sqlite_strict=True,
    )
    op.create_table(
        "struck",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("data_set", sa.Text(), nullable=False),
        sa.Column("id_hmac", sa.Text(), nullable=True),
        sa.Column("content_hash", sa.Text(), nullable=True),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_struck_request"),
        sa.PrimaryKeyConstraint("id", name="pk_struck"),
        sa.UniqueConstraint("request", "id_hmac", "content_hash", name="uq_struck_request"),
        sqlite_strict=True,
    )
    with op.batch_alter_table("struck", schema=None) as batch_op:
        batch_op.create_index("ix_struck_data_set", ["data_set"], unique=False)

    op.create_table(
        "batch_requests",
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("request", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_batch_requests_batch"),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_batch_requests_request"),
        sa.PrimaryKeyConstraint("batch", "request", name="pk_batch_requests"),
        sqlite_strict=True,
    )
    op.create_table(
        "certificates",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("payload_digest", sa.Text(), nullable=False),
        sa.Column("file", sa.Text(), nullable=False),
        sa.Column("issued_at", sa.Text(), nullable=False),
        sa.Column("revoked_at", sa.Text(), nullable=True),
        sa.Column("revoked_reason", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_certificates_batch"),
        sa.PrimaryKeyConstraint("id", name="pk_certificates"),
        sa.UniqueConstraint("batch", name="uq_certificates_batch"),
        sqlite_strict=True,
    )
    op.create_table(
        "duplicates",
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("other_hmac", sa.Text(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("score", sa.REAL(), nullable=False),
        sa.Column("decision", sa.Text(), nullable=False),
        sa.CheckConstraint(
            "decision IN ('open', 'add', 'keep', 'disclose')", name=op.f("ck_duplicates_decision")
        ),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_duplicates_item"),
        sa.PrimaryKeyConstraint("item", "other_hmac", "layer", name="pk_duplicates"),
        sqlite_strict=True,
    )
    op.create_table(
        "releases",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("since", sa.Text(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("batch", sa.Integer(), nullable=True),
        sa.CheckConstraint(
            "state IN ('candidate', 'live', 'retired', 'rolled_back')",
            name=op.f("ck_releases_state"),
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_releases_batch"),
        sa.ForeignKeyConstraint(["model"], ["models.digest"], name="fk_releases_model"),
        sa.PrimaryKeyConstraint("id", name="pk_releases"),
        sqlite_strict=True,
    )
    op.create_table(
        "steps",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("input_digest", sa.Text(), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("lease_until", sa.Text(), nullable=False),
        sa.Column("fencing", sa.Integer(), nullable=False),
        sa.Column("worker", sa.Text(), nullable=False),
        sa.Column("output", sa.Text(), nullable=True),
        sa.Column("error", sa.Text(), nullable=True),
        sa.Column("seconds_ms", sa.Integer(), nullable=True),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_steps_batch"),
        sa.PrimaryKeyConstraint("id", name="pk_steps"),
        sa.UniqueConstraint("batch", "name", "input_digest", name="uq_steps_batch"),
        sqlite_strict=True,
    )
    op.create_table(
        "nonces",
        sa.Column("item", sa.Integer(), nullable=False),
        sa.Column("nonce", sa.Text(), nullable=True),
        sa.Column("leaf", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["item"], ["items.id"], name="fk_nonces_item"),
        sa.PrimaryKeyConstraint("item", name="pk_nonces"),
        sqlite_strict=True,
    )
    if op.get_bind().dialect.name == "sqlite":
        for what in ("UPDATE", "DELETE"):
            op.execute(SQLITE.format(what=what))
    else:
        op.execute(POSTGRES)
