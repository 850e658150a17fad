"""Whether a run's call named OpenAI's beta.

Revision 0011; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # The release before writes no value.
    op.add_column("runs", sa.Column("is_beta", sa.Boolean(), nullable=False, server_default=sa.false()))


def downgrade() -> None:
    op.drop_column("runs", "is_beta")
