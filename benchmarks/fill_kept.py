"""Fills a database with what grows: responses that have expired, one long conversation, the usage of a month.

`python -m benchmarks.fill_kept DATA_DIR RESPONSE_ID EXPIRED ITEMS SUMS`, with no gateway running. It prints the sums of
hours that there are: of 1,000 keys, in equal steps over the days before today.
"""

import asyncio
import sys
import time
from pathlib import Path
from typing import Any

from sqlalchemy import Connection, insert

from app.state.records import ApiKey, Conversation, Item
from app.storage.conversations.store import ConversationStore
from app.storage.engine.database import Database
from app.storage.usage.tables import usage_hours
from benchmarks.fill import opened_filler

CONVERSATION = "conv_kept"
KEYS = 1000
DAYS = 30

_ITEMS_OF_TURN = 20
_SUMS_AT_ONCE = 5000
_SECONDS_PER_HOUR, _SECONDS_PER_DAY = 3600, 86_400


def item_id(number: int) -> str:
    """The id of the item with this number in the long conversation."""
    return f"msg_kept_{number}"


async def main(data: Path, original_id: str, expired: int, items: int, sums: int) -> None:
    """Write all of it, in this order."""
    async with opened_filler(data, original_id) as (filler, database, writer, key):
        await filler.fill_expired(expired)
        await _converse(ConversationStore(database, writer), key, items)
        print(await _use(database, key, sums))


async def _converse(store: ConversationStore, key: ApiKey, items: int) -> None:
    await store.create(key.project_id, Conversation(CONVERSATION, int(time.time()), b"{}"), ())
    content = b'{"type":"message","role":"user","content":"Tell me a story about a unicorn."}'
    for first in range(0, items, _ITEMS_OF_TURN):
        said = [
            Item(item_id(first + place), "message", is_output=False, content=content) for place in range(_ITEMS_OF_TURN)
        ]
        await store.add_items(key.project_id, CONVERSATION, said)


async def _use(database: Database, key: ApiKey, sums: int) -> int:
    today = int(time.time()) // _SECONDS_PER_DAY * _SECONDS_PER_DAY
    hours = max(1, min(sums // KEYS, DAYS * 24))
    models = max(1, sums // (KEYS * hours))
    step = DAYS * 24 // hours
    counts = {column.name: 10 for column in usage_hours.columns if not column.primary_key}
    rows: list[dict[str, Any]] = []
    written = 0

    def add(connection: Connection) -> None:
        connection.execute(insert(usage_hours), rows)

    for number in range(hours * KEYS * models):
        hour, rest = divmod(number, KEYS * models)
        named = {"project_id": key.project_id, "api_key_id": f"key_{rest // models}", "model": f"m_{rest % models}"}
        at = today - (1 + hour * step) * _SECONDS_PER_HOUR
        rows.append({"hour": at, **named, "upstream": "main", **counts})
        if len(rows) == _SUMS_AT_ONCE or number == hours * KEYS * models - 1:
            await database.write(lambda session: session.write(add))
            written += len(rows)
            rows.clear()
    return written


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:])))
