"""The model and the conversation of a run, and the indexes by which runs are claimed by turn.

Revision 0017; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"
branch_labels = None
depends_on = None

_INDEXES = (
    ("ix_runs_unfinished", ["project_id", "key"], "request IS NOT NULL"),
    (
        "ix_runs_in_conversations",
        ["project_id", "conversation_id", "key"],
        "conversation_id IS NOT NULL AND expires_at IS NULL",
    ),
    ("ix_runs_owned", ["owner"], "owner IS NOT NULL"),
    ("ix_runs_cancelling", ["lease_until"], "cancel_requested AND request IS NOT NULL"),
)


def upgrade() -> None:
    # The release before writes neither: its runs are claimed as they were.
    op.add_column("runs", sa.Column("model", sa.Text(), nullable=True))
    op.add_column("runs", sa.Column("conversation_id", sa.Text(), nullable=True))
    for name, columns, where in _INDEXES:
        op.create_index(name, "runs", columns, postgresql_where=sa.text(where), sqlite_where=sa.text(where))


def downgrade() -> None:
    for name, _, _ in _INDEXES:
        op.drop_index(name, table_name="runs")
    op.drop_column("runs", "conversation_id")
    op.drop_column("runs", "model")
