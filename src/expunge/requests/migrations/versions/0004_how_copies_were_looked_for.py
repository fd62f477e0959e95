"""How copies of a request's samples were looked for: layer by layer, with its threshold."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make it so."""
    op.create_table(
        "copy_layers",
        sa.Column("request", sa.Integer(), nullable=False),
        sa.Column("layer", sa.Text(), nullable=False),
        sa.Column("threshold", sa.REAL(), nullable=True),
        sa.Column("one_in", sa.Integer(), nullable=True),
        sa.Column("pairs", sa.Integer(), nullable=True),
        sa.Column("at", sa.Text(), nullable=False),
        sa.ForeignKeyConstraint(["request"], ["requests.id"], name="fk_copy_layers_request"),
        sa.PrimaryKeyConstraint("request", "layer", name="pk_copy_layers"),
        sqlite_strict=True,
    )
