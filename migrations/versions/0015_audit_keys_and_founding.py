"""Who gave a key the right to administer; that first keys were made; INSERT OR REPLACE rewrites no audit record.

Revision 0015; 2026-11-30.
"""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("api_keys", sa.Column("granted_by", sa.Text(), nullable=True))
    op.create_index("ix_api_keys_granted_by", "api_keys", ["granted_by"])
    # Where there are keys, whoever administers has them: the next start makes no more.
    op.execute("INSERT INTO meta (name, value) SELECT 'founded', 'before 0015' WHERE EXISTS (SELECT 1 FROM api_keys)")
    if op.get_bind().dialect.name == "sqlite":
        # REPLACE deletes the row before without the trigger of DELETE, unless its own connection asks for that. A key
        # that is counted up is -1 here.
        op.execute(
            "CREATE TRIGGER audit_is_kept_from_replace BEFORE INSERT ON audit "
            "WHEN EXISTS (SELECT 1 FROM audit WHERE key = NEW.key OR id = NEW.id) "
            "BEGIN SELECT RAISE(ABORT, 'the audit log is only added to'); END"
        )


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        op.execute("DROP TRIGGER audit_is_kept_from_replace")
    op.execute("DELETE FROM meta WHERE name = 'founded'")
    op.drop_index("ix_api_keys_granted_by", table_name="api_keys")
    op.drop_column("api_keys", "granted_by")
