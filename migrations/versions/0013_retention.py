"""Retention of conversations, retention that was shortened, projects that are erased; a purge by its place.

Revision 0013; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

_USED_NOW = {
    "sqlite": "UPDATE conversations SET used_at = CAST(strftime('%s', 'now') AS INTEGER)",
    "postgresql": "UPDATE conversations SET used_at = CAST(extract(epoch FROM now()) AS BIGINT)",
}


def upgrade() -> None:
    op.add_column("conversations", sa.Column("used_at", sa.BigInteger(), nullable=True))
    # When those that there are were used last is not known: the first of their days begins now.
    op.execute(_USED_NOW[op.get_bind().dialect.name])
    op.create_index("ix_conversations_idle", "conversations", [sa.text("(project_id || '')"), "used_at", "created_at"])
    for name, kind in (("conversation_days", sa.Integer()), ("shortened_at", sa.BigInteger())):
        op.add_column("projects", sa.Column(name, kind, nullable=True))
    op.add_column("projects", sa.Column("erasing_at", sa.BigInteger(), nullable=True))
    op.create_index("ix_responses_expires_at_key", "responses", ["expires_at", "key"])
    op.drop_index("ix_responses_expires_at", "responses")


def downgrade() -> None:
    op.create_index("ix_responses_expires_at", "responses", ["expires_at"])
    op.drop_index("ix_responses_expires_at_key", "responses")
    for name in ("erasing_at", "shortened_at", "conversation_days"):
        op.drop_column("projects", name)
    op.drop_index("ix_conversations_idle", "conversations")
    op.drop_column("conversations", "used_at")
