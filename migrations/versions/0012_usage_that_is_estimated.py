"""The ledger says what is estimated, in which tier a call was served, and what was written to caches and searched.

Revision 0012; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    # With defaults: the release before writes rows without these.
    op.add_column("usage", sa.Column("service_tier", sa.Text(), nullable=True))
    for name in ("cache_write_tokens", "web_searches", "file_searches"):
        op.add_column("usage", sa.Column(name, sa.BigInteger(), nullable=True))
    op.add_column("usage", sa.Column("is_estimated", sa.Boolean(), nullable=False, server_default=sa.false()))
    for name in ("cache_write_tokens", "estimated_requests"):
        op.add_column("usage_hours", sa.Column(name, sa.BigInteger(), nullable=False, server_default="0"))


def downgrade() -> None:
    for name in ("estimated_requests", "cache_write_tokens"):
        op.drop_column("usage_hours", name)
    for name in ("is_estimated", "file_searches", "web_searches", "cache_write_tokens", "service_tier"):
        op.drop_column("usage", name)
