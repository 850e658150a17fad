"""The responses that were made in a conversation are found by it, from a turn on.

Revision 0023; 2026-11-30.
"""

from alembic import op

revision = "0020"
down_revision = "0019"
branch_labels = None
depends_on = None

_INDEX = "ix_conversation_responses_conversation_key_last_turn_key"


def upgrade() -> None:
    op.create_index(_INDEX, "conversation_responses", ["conversation_key", "last_turn_key"])


def downgrade() -> None:
    op.drop_index(_INDEX, "conversation_responses")
