"""What an order in the background took of its caller's limits is kept with it.

Revision 0022; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("runs", sa.Column("drawn", sa.LargeBinary(), nullable=True))


def downgrade() -> None:
    op.drop_column("runs", "drawn")
