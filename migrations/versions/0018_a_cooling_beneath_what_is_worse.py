"""A rate limit goes on beneath what is worse with an account: it has columns of its own.

Revision 0020; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for name in ("cooling_until", "cooling_rest"):
        op.add_column("conditions", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))
    op.add_column("conditions", sa.Column("cooling_reason", sa.Text(), nullable=False, server_default=""))


def downgrade() -> None:
    for name in ("cooling_reason", "cooling_rest", "cooling_until"):
        op.drop_column("conditions", name)
