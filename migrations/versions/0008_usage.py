"""The ledger: a row for each call, and their sums by the hour.

Revision 0008; 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "usage",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("request_id", sa.Text(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("endpoint", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("model_served", sa.Text(), nullable=True),
        sa.Column("upstream", sa.Text(), nullable=True),
        sa.Column("key_fingerprint", sa.Text(), nullable=True),
        sa.Column("status", sa.Integer(), nullable=False),
        sa.Column("response_status", sa.Text(), nullable=True),
        sa.Column("error_code", sa.Text(), nullable=True),
        sa.Column("attempts", sa.Integer(), nullable=False),
        sa.Column("affinity", sa.Text(), nullable=True),
        sa.Column("input_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=True),
        sa.Column("output_tokens", sa.BigInteger(), nullable=True),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=True),
        sa.Column("cost_nano", sa.BigInteger(), nullable=True),
        sa.Column("latency_ms", sa.BigInteger(), nullable=True),
        sa.Column("first_byte_ms", sa.BigInteger(), nullable=True),
        sa.Column("is_stream", sa.Boolean(), nullable=False),
        sa.Column("is_background", sa.Boolean(), nullable=False),
        sa.Column("is_stored", sa.Boolean(), nullable=False),
        sa.Column("response_id", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("key", name="pk_usage"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_usage_at", "usage", ["at"])
    op.create_index("ix_usage_project_id_at", "usage", ["project_id", "at"])
    op.create_index("ix_usage_api_key_id_at", "usage", ["api_key_id", "at"])
    op.create_index(
        "uq_usage_stored",
        "usage",
        ["project_id", "response_id"],
        unique=True,
        sqlite_where=sa.text("is_stored"),
        postgresql_where=sa.text("is_stored"),
    )
    op.create_table(
        "usage_hours",
        sa.Column("hour", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("api_key_id", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("requests", sa.BigInteger(), nullable=False),
        sa.Column("errors", sa.BigInteger(), nullable=False),
        sa.Column("input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("output_tokens", sa.BigInteger(), nullable=False),
        sa.Column("reasoning_tokens", sa.BigInteger(), nullable=False),
        sa.Column("cost_nano", sa.BigInteger(), nullable=False),
        sa.Column("unpriced_requests", sa.BigInteger(), nullable=False),
        sa.Column("kept_requests", sa.BigInteger(), nullable=False),
        sa.Column("kept_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("kept_cached_tokens", sa.BigInteger(), nullable=False),
        sa.Column("moved_requests", sa.BigInteger(), nullable=False),
        sa.Column("moved_input_tokens", sa.BigInteger(), nullable=False),
        sa.Column("moved_cached_tokens", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("hour", "project_id", "api_key_id", "model", "upstream", name="pk_usage_hours"),
        sqlite_with_rowid=False,
    )
    op.create_index("ix_usage_hours_project_id_hour", "usage_hours", ["project_id", "hour"])
    op.create_index("ix_usage_hours_api_key_id_hour", "usage_hours", ["api_key_id", "hour"])


def downgrade() -> None:
    op.drop_table("usage_hours")
    op.drop_table("usage")
