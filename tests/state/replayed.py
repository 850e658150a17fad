"""What a chain is replayed as, in short."""

from collections.abc import Sequence
from typing import Any

import orjson

from app.state.items.history_input import replay
from app.state.records import Item, Turn
from app.wire.json_body import elements, join_array
from tests.builders import ACCOUNT, make_item


def sent(turns: list[Turn], *given: dict[str, Any], account: str = ACCOUNT) -> list[str]:
    """What is sent, each item by its text, its call id or its type."""
    return [shown(content) for content in replayed(turns, [make_item(value) for value in given], account)]


def replayed(turns: list[Turn], items: Sequence[Item], account: str = ACCOUNT) -> list[bytes]:
    """What is sent, item by item."""
    return elements(join_array(replay(turns, items, {None, account}, bytes)))


def shown(content: bytes) -> str:
    item = orjson.loads(content)
    text = item.get("content")
    if item["type"] == "message":
        return str(text if isinstance(text, str) else text[0]["text"])
    return f"{item['type']} {item['call_id']}" if "call_id" in item else str(item["type"])
