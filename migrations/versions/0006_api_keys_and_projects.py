"""What keys and projects may do, who has a key and until when, and the log of what administrators change.

Revision 0006; 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

_OF_PROJECTS = ("version", "policy")
_OF_KEYS = (
    "owner",
    "tags",
    "expires_at",
    "blocked_at",
    "last_used_at",
    "version",
    "policy",
    "previous_hash",
    "previous_until",
)


def upgrade() -> None:
    op.add_column("projects", sa.Column("version", sa.Integer(), nullable=False, server_default="1"))
    op.add_column("projects", sa.Column("policy", sa.LargeBinary(), nullable=True))
    op.create_index("ix_projects_created_at_id", "projects", ["created_at", "id"])
    for column in (
        sa.Column("owner", sa.Text(), nullable=True),
        sa.Column("tags", sa.LargeBinary(), nullable=True),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("blocked_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("version", sa.Integer(), nullable=False, server_default="1"),
        sa.Column("policy", sa.LargeBinary(), nullable=True),
        sa.Column("previous_hash", sa.LargeBinary(), nullable=True),
        sa.Column("previous_until", sa.BigInteger(), nullable=True),
    ):
        op.add_column("api_keys", column)
    op.create_index("ix_api_keys_previous_hash", "api_keys", ["previous_hash"], unique=True)
    op.create_index("ix_api_keys_created_at_id", "api_keys", ["created_at", "id"])
    op.create_index("ix_api_keys_project_id_created_at_id", "api_keys", ["project_id", "created_at", "id"])
    op.create_table(
        "audit",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("at", sa.BigInteger(), nullable=False),
        sa.Column("actor", sa.Text(), nullable=False),
        sa.Column("address", sa.Text(), nullable=True),
        sa.Column("action", sa.Text(), nullable=False),
        sa.Column("subject", sa.Text(), nullable=False),
        sa.Column("details", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_audit"),
        sa.UniqueConstraint("id", name="uq_audit_id"),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_audit_subject_key", "audit", ["subject", "key"])


def downgrade() -> None:
    op.drop_table("audit")
    op.drop_index("ix_api_keys_project_id_created_at_id", "api_keys")
    op.drop_index("ix_api_keys_created_at_id", "api_keys")
    op.drop_index("ix_api_keys_previous_hash", "api_keys")
    op.drop_index("ix_projects_created_at_id", "projects")
    for table, columns in (("api_keys", _OF_KEYS), ("projects", _OF_PROJECTS)):
        for column in columns:
            op.drop_column(table, column)
