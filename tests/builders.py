"""What the unit tests build again and again: items, turns, chains, requests, and who sends them."""

from typing import Any

import orjson

from app.settings import UpstreamSettings
from app.state.items import input_items, output_items
from app.state.records import ApiKey, Chain, Item, Turn
from app.upstream.account import Account
from app.wire.requests import CreateRequest, parse_create_request

ACCOUNT = "main/one"
OTHER = "main/other"
NOW = 1_800_000_000


def make_item(value: dict[str, Any], *, is_output: bool = False, account: str = ACCOUNT) -> Item:
    """The item as it is kept of this JSON, as the input or the output of a turn that this account served."""
    raw = orjson.dumps(value)
    if is_output:
        return output_items([raw], account)[0]
    return input_items([value], b"[" + raw + b"]", {})[0]


def make_turn(
    given: list[dict[str, Any]], said: list[dict[str, Any]], *, status: str = "completed", account: str = ACCOUNT
) -> Turn:
    items = [make_item(value) for value in given]
    items += [make_item(value, is_output=True, account=account) for value in said]
    return Turn(status, account, tuple(items))


def make_chain(*turns: Turn) -> Chain:
    return Chain(len(turns), turns)


def make_request(**fields: Any) -> CreateRequest:
    """A valid create request; a member that is given as None is left out."""
    members = {"model": "demo", "input": "Hello!", **fields}
    raw = orjson.dumps({name: value for name, value in members.items() if value is not None})
    return parse_create_request(raw, 64)


def make_caller(*, retention_days: int | None = None, revoked_at: int | None = None) -> ApiKey:
    return ApiKey("key_1", "proj_a", "test", "wxyz", NOW, revoked_at, retention_days)


def make_account(name: str = ACCOUNT, **upstream: Any) -> Account:
    return Account(name, UpstreamSettings(**{"name": "main", "base_url": "http://127.0.0.1:9", **upstream}), None)


def user(text: str, item_id: str | None = None) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": text} | ({"id": item_id} if item_id else {})


def says(text: str, item_id: str = "msg_1", status: str = "completed") -> dict[str, Any]:
    """A message as upstream returns it."""
    content = [{"type": "output_text", "text": text, "annotations": []}]
    return {"id": item_id, "type": "message", "role": "assistant", "status": status, "content": content}


def thinks(item_id: str = "rs_1", **members: Any) -> dict[str, Any]:
    return {"id": item_id, "type": "reasoning", "summary": [], "encrypted_content": "sealed", **members}


def calls(call_id: str = "call_1", item_id: str = "fc_1", **members: Any) -> dict[str, Any]:
    call = {"id": item_id, "type": "function_call", "call_id": call_id, "name": "f", "arguments": "{}"}
    return {**call, "status": "completed", **members}


def answers(call_id: str = "call_1") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": "42"}
