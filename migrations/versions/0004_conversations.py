"""Conversations: what stands in them, who holds them, and the responses that were made in them.

Revision 0004; 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    key = sa.BigInteger().with_variant(sa.Integer(), "sqlite")
    op.create_table(
        "conversations",
        sa.Column("key", key, autoincrement=True, nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("holder", sa.Text(), nullable=True),
        sa.Column("held_until", sa.BigInteger(), nullable=True),
        sa.Column("item_count", sa.BigInteger(), nullable=False),
        sa.Column("metadata", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_conversations"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_conversations_project_id"),
        sa.UniqueConstraint("project_id", "id", name="uq_conversations_project_id_id"),
        sqlite_autoincrement=True,
    )
    op.create_table(
        "conversation_turns",
        sa.Column("key", key, autoincrement=True, nullable=False),
        sa.Column("conversation_key", sa.BigInteger(), nullable=False),
        sa.Column("outline", sa.LargeBinary(), nullable=False),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_conversation_turns"),
        sa.ForeignKeyConstraint(
            ["conversation_key"],
            ["conversations.key"],
            name="fk_conversation_turns_conversation_key",
            ondelete="CASCADE",
        ),
        sqlite_autoincrement=True,
    )
    op.create_index("ix_conversation_turns_conversation_key", "conversation_turns", ["conversation_key"])
    op.create_table(
        "conversation_responses",
        sa.Column("response_key", sa.BigInteger(), autoincrement=False, nullable=False),
        sa.Column("conversation_key", sa.BigInteger(), nullable=False),
        sa.Column("last_turn_key", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("response_key", name="pk_conversation_responses"),
        sa.ForeignKeyConstraint(
            ["response_key"],
            ["responses.key"],
            name="fk_conversation_responses_response_key",
            ondelete="CASCADE",
        ),
    )


def downgrade() -> None:
    op.drop_table("conversation_responses")
    op.drop_table("conversation_turns")
    op.drop_table("conversations")
