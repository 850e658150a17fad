"""What is used of limits, and the streams that they count.

Revision 0007; 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "limit_counts",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("used", sa.BigInteger(), nullable=False),
        sa.Column("began_at", sa.BigInteger(), nullable=False),
        sa.Column("ends_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "name", name="pk_limit_counts"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_limit_counts_ends_at", "limit_counts", ["ends_at"])
    op.create_table(
        "limit_streams",
        sa.Column("owner", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("held_until", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("owner", "id", name="pk_limit_streams"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_limit_streams_held_until", "limit_streams", ["held_until"])
    op.create_index("ix_limit_streams_id", "limit_streams", ["id"])


def downgrade() -> None:
    op.drop_table("limit_streams")
    op.drop_table("limit_counts")
