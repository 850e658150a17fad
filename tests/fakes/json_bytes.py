"""JSON objects taken apart and put together as bytes, so that tests can compare what was sent with what arrived."""

from collections.abc import Mapping

from app.wire import json_body


def members(raw: bytes) -> dict[str, bytes]:
    """The members of a JSON object, each value as it was sent."""
    return {name: bytes(value) for name, value in json_body.members(raw).items()}


def join_object(members: Mapping[str, bytes]) -> bytes:
    """The inverse of `members`."""
    return json_body.join_object({name: json_body.Json(value) for name, value in members.items()})
