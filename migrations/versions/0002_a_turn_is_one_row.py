"""A turn keeps its items in its own row; `items` becomes the index that finds them by id.

Revision 0002; 2026-11-23.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

_TURNS_AT_ONCE = 500
_NEW = ("outline", "content")
# The account of an item that nobody can be given again, and the reader of a turn that has to be looked at.
_NO_ACCOUNT = ""

_responses = sa.table(
    "responses",
    *(sa.column(name) for name in ("key", "project_id", "status", "account")),
    *(sa.column(name, sa.LargeBinary()) for name in _NEW),
)
_old_items = sa.table(
    "items",
    *(sa.column(name) for name in ("response_key", "project_id", "id", "position", "type", "call_id", "account")),
    sa.column("is_output", sa.Boolean()),
    sa.column("content", sa.LargeBinary()),
)


def upgrade() -> None:
    with _responses_altered() as (table, before_body):
        for name in _NEW:
            table.add_column(sa.Column(name, sa.LargeBinary(), nullable=True), **before_body)
    connection = op.get_bind()
    for turn in _turns():
        items = connection.execute(
            sa.select(_old_items).where(_old_items.c.response_key == turn.key).order_by(_old_items.c.position)
        )
        connection.execute(sa.update(_responses).where(_responses.c.key == turn.key).values(_pack(turn, items.all())))
    with _responses_altered() as (table, _):
        for name in _NEW:
            table.alter_column(name, existing_type=sa.LargeBinary(), nullable=False)

    op.execute("CREATE TABLE old_items AS SELECT response_key, position, project_id, id FROM items")
    op.drop_table("items")
    op.create_table(
        "items",
        sa.Column("response_key", sa.BigInteger(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("response_key", "position", name="pk_items"),
        sa.ForeignKeyConstraint(["response_key"], ["responses.key"], name="fk_items_response_key", ondelete="CASCADE"),
        sqlite_with_rowid=False,
    )
    op.execute(
        "INSERT INTO items (response_key, position, project_id, id)"
        " SELECT response_key, position, project_id, id FROM old_items"
    )
    op.drop_table("old_items")
    op.create_index("ix_items_project_id_id", "items", ["project_id", "id"])


def downgrade() -> None:
    op.drop_table("items")
    op.create_table(
        "items",
        sa.Column("key", sa.BigInteger().with_variant(sa.Integer(), "sqlite"), autoincrement=True, nullable=False),
        sa.Column("response_key", sa.BigInteger(), nullable=False),
        sa.Column("project_id", sa.Text(), nullable=False),
        sa.Column("id", sa.Text(), nullable=False),
        sa.Column("position", sa.Integer(), nullable=False),
        sa.Column("is_output", sa.Boolean(), nullable=False),
        sa.Column("type", sa.Text(), nullable=False),
        sa.Column("call_id", sa.Text(), nullable=True),
        sa.Column("account", sa.Text(), nullable=True),
        sa.Column("content", sa.LargeBinary(), nullable=False),
        sa.PrimaryKeyConstraint("key", name="pk_items"),
        sa.ForeignKeyConstraint(["response_key"], ["responses.key"], name="fk_items_response_key", ondelete="CASCADE"),
        sa.UniqueConstraint("response_key", "position", name="uq_items_response_key_position"),
        sqlite_autoincrement=True,
    )
    connection = op.get_bind()
    for turn in _turns():
        if rows := _unpack(turn):
            connection.execute(sa.insert(_old_items), rows)
    op.create_index("ix_items_project_id_id", "items", ["project_id", "id"])
    with _responses_altered() as (table, _):
        for name in _NEW:
            table.drop_column(name)


@contextmanager
def _responses_altered() -> Iterator[tuple[Any, dict[str, str]]]:
    """Alters `responses`; yields the operations, and what places a new column before the large `body`.

    SQLite makes the table anew, and must not forget which keys were used for what is deleted now.
    """
    connection = op.get_bind()
    if connection.dialect.name != "sqlite":
        with op.batch_alter_table("responses", recreate="never") as table:
            yield table, {}
        return
    highest = connection.scalar(sa.text("SELECT seq FROM sqlite_sequence WHERE name = 'responses'"))
    with op.batch_alter_table("responses", recreate="always", table_kwargs={"sqlite_autoincrement": True}) as table:
        yield table, {"insert_before": "body"}
    connection.execute(sa.text("DELETE FROM sqlite_sequence WHERE name = 'responses'"))
    if highest is not None:
        connection.execute(sa.text("INSERT INTO sqlite_sequence VALUES ('responses', :seq)"), {"seq": highest})


def _turns() -> Iterator[Any]:
    """Every row of `responses`, a few at a time: what is read may be changed meanwhile."""
    last = -1
    while rows := (
        op.get_bind()
        .execute(sa.select(_responses).where(_responses.c.key > last).order_by(_responses.c.key).limit(_TURNS_AT_ONCE))
        .all()
    ):
        yield from rows
        last = rows[-1].key


def _pack(turn: Any, items: Sequence[Any]) -> dict[str, Any]:
    is_plain = all(item.type == "message" and item.account is None for item in items)
    outline = (
        turn.status,
        turn.account,
        None if is_plain else _NO_ACCOUNT,
        [item.id for item in items],
        [(item.type, item.is_output, len(item.content), item.account, item.call_id) for item in items],
        b",".join([item.content for item in items if item.account == _NO_ACCOUNT]),
    )
    return {
        "outline": msgspec.msgpack.encode(outline),
        "content": b",".join([item.content for item in items if item.account != _NO_ACCOUNT]),
    }


def _unpack(turn: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    content = turn.content
    *_, ids, facts, withheld = msgspec.msgpack.decode(turn.outline)
    outline = zip(ids, facts, strict=True)
    for position, (item_id, (named, is_output, length, account, call_id)) in enumerate(outline):
        if account == _NO_ACCOUNT:
            kept, withheld = withheld[:length], withheld[length + 1 :]
        else:
            kept, content = content[:length], content[length + 1 :]
        rows.append(
            {
                "response_key": turn.key,
                "project_id": turn.project_id,
                "id": item_id,
                "position": position,
                "is_output": is_output,
                "type": named,
                "call_id": call_id,
                "account": account,
                "content": kept,
            }
        )
    return rows
