"""A turn and the index of its items go in by one statement, through the view `turns`.

Revision 0003; 2026-11-23.

A later migration that alters `responses` or `items` drops the view before, and creates it again after.
"""

from alembic import op

from app.storage.turns import insert_view as turns

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    turns.create(op.get_bind())


def downgrade() -> None:
    turns.drop(op.get_bind())
