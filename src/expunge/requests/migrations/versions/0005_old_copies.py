"""Where copies are of what learned from struck samples, and until when."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Make it so."""
    op.create_table(
        "copies",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("batch", sa.Integer(), nullable=False),
        sa.Column("what", sa.Text(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("until", sa.Text(), nullable=True),
        sa.Column("begun_at", sa.Text(), nullable=True),
        sa.Column("purged_at", sa.Text(), nullable=True),
        sa.CheckConstraint(
            "what IN ('old weights', 'bank', 'derived models')", name=op.f("ck_copies_what")
        ),
        sa.ForeignKeyConstraint(["batch"], ["batches.id"], name="fk_copies_batch"),
        sa.PrimaryKeyConstraint("id", name="pk_copies"),
        sa.UniqueConstraint("batch", "folder", name="uq_copies_batch"),
        sqlite_strict=True,
    )
