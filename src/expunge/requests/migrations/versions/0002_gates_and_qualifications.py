"""Gates, what they found, and steps that a qualification owns as a batch does."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

VERDICT = "verdict IN ('equivalent', 'not equivalent', 'undecided', 'invalid')"


def upgrade() -> None:
    """Make it so."""
    op.create_table(
        "gates",
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("spec", sa.Text(), nullable=False),
        sa.Column("committed_at", sa.Text(), nullable=False),
        sa.Column("event", sa.Integer(), nullable=False),
        sa.ForeignKeyConstraint(["event"], ["events.seq"], name="fk_gates_event"),
        sa.PrimaryKeyConstraint("digest", name="pk_gates"),
        sqlite_strict=True,
    )
    texts = ("gate", "method", "settings", "recipe", "data_version", "model", "kind")
    op.create_table(
        "qualifications",
        sa.Column("id", sa.Integer(), nullable=False),
        *(sa.Column(name, sa.Text(), nullable=False) for name in texts),
        sa.Column("size", sa.Integer(), nullable=False),
        sa.Column("learned", sa.Integer(), nullable=False),
        sa.Column("struck_before", sa.Integer(), nullable=False),
        sa.Column("begun_at", sa.Text(), nullable=False),
        sa.Column("made_at", sa.Text(), nullable=True),
        sa.Column("verdict", sa.Text(), nullable=True),
        sa.Column("results", sa.Text(), nullable=True),
        sa.CheckConstraint(VERDICT, name="verdict"),
        sa.ForeignKeyConstraint(["gate"], ["gates.digest"], name="fk_qualifications_gate"),
        sa.ForeignKeyConstraint(["model"], ["models.digest"], name="fk_qualifications_model"),
        sa.PrimaryKeyConstraint("id", name="pk_qualifications"),
        sa.UniqueConstraint(*texts, "size", name="uq_qualifications_gate"),
        sqlite_strict=True,
    )
    op.create_table(
        "gate_results",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("qualification", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=True),
        *(
            sa.Column(name, sa.Text(), nullable=False)
            for name in ("model", "at", "verdict", "results")
        ),
        sa.CheckConstraint(VERDICT, name="verdict"),
        sa.ForeignKeyConstraint(
            ["qualification"], ["qualifications.id"], name="fk_gate_results_qualification"
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_gate_results_batch"),
        sa.PrimaryKeyConstraint("id", name="pk_gate_results"),
        sqlite_strict=True,
    )
    with op.batch_alter_table("steps", table_kwargs={"sqlite_strict": True}) as changed:
        changed.alter_column("batch", existing_type=sa.Integer(), nullable=True)
        changed.add_column(sa.Column("qualification", sa.Integer(), nullable=True))
        changed.create_foreign_key(
            "fk_steps_qualification", "qualifications", ["qualification"], ["id"]
        )
        changed.create_unique_constraint(
            "uq_steps_qualification", ["qualification", "name", "input_digest"]
        )
        changed.create_check_constraint("owner", "(batch IS NULL) <> (qualification IS NULL)")
