"""The upstream pool: what is known of accounts and made of them; upstreams and keys that are kept in the database.

Revision 0009; 2026-11-23.
"""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "conditions",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("model", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.Column("step", sa.Integer(), nullable=False),
        sa.Column("reason", sa.Text(), nullable=False),
        sa.Column("until", sa.BigInteger(), nullable=False),
        sa.Column("rest", sa.BigInteger(), nullable=False),
        sa.Column("changed_at", sa.BigInteger(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("account", "model", name="pk_conditions"),
    )
    op.create_index("ix_conditions_changed_at", "conditions", ["changed_at"])
    op.create_table(
        "account_controls",
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("state", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("account", name="pk_account_controls"),
    )
    op.create_table(
        "upstreams",
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("version", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("settings", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("name", name="pk_upstreams"),
    )
    op.create_table(
        "upstream_keys",
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("upstream", sa.Text(), nullable=False),
        sa.Column("account", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("hint", sa.Text(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("secret", sa.Text(), nullable=False),
        sa.Column("settings", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_upstream_keys"),
        sa.UniqueConstraint("account", name="uq_upstream_keys_account"),
        sa.UniqueConstraint("upstream", "name", name="uq_upstream_keys_upstream_name"),
    )


def downgrade() -> None:
    op.drop_table("upstream_keys")
    op.drop_table("upstreams")
    op.drop_table("account_controls")
    op.drop_table("conditions")
