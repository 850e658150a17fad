"""Serve /admin/v1/keys. A key itself is in two answers only: when it is created, and when it is rotated."""

import time
from typing import Any

from fastapi import Request, Response
from pydantic import Field

from app.administration.views import resources
from app.api.admin.answers import answer, page
from app.api.admin.forms import LONGEST_ID, Body, Edit, PageQuery, read_form, read_nothing, read_query
from app.api.dependencies import Administrator
from app.api.services import ServicesOf
from app.state.records import ApiKey


class KeysQuery(PageQuery):
    """Select the keys of a project, or all."""

    project: str | None = Field(None, max_length=LONGEST_ID)


class NewKey(Body):
    """Parse the members of a new key."""

    project_id: str
    name: str
    owner: str | None = None
    tags: list[str] = Field([])
    policy: dict[str, Any] = Field({})
    expires_at: int | None = None


class KeyEdit(Edit):
    """Parse the members of a key to change."""

    name: str = ""
    owner: str | None = None
    tags: list[str] = Field([])
    policy: dict[str, Any] = Field({})
    expires_at: int | None = None


class Rotation(Body):
    """Parse a rotation: for how long the replaced key stays valid."""

    overlap_seconds: int


async def list_keys(request: Request, services: ServicesOf) -> Response:
    """List the keys of a project or of all, the newest first."""
    query = read_query(KeysQuery, request)
    found = await services.keys.list(project_id=query.project, after=query.after, limit=query.limit + 1)
    now = int(time.time())
    return page([resources.api_key(key, now) for key in found], query.limit)


async def create_key(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create a key. Its answer has it in `key`, this once."""
    form = await read_form(NewKey, request, services.body_reader)
    made, key = await services.keys.create(actor, **form.given())
    return _key_answer(made, key=key, status=201)


async def retrieve_key(key_id: str, services: ServicesOf) -> Response:
    """Return what is known of one key."""
    return _key_answer(await services.keys.get(key_id))


async def update_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change a key; what is left out stays as it is."""
    form = await read_form(KeyEdit, request, services.body_reader)
    return _key_answer(await services.keys.update(actor, key_id, form.changes(), version=form.version))


async def rotate_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Put another key in its place. The answer has it in `key`, this once."""
    form = await read_form(Rotation, request, services.body_reader)
    changed, key = await services.keys.rotate(actor, key_id, overlap_seconds=form.overlap_seconds)
    return _key_answer(changed, key=key)


async def block_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Refuse a key until it is unblocked."""
    await read_nothing(request, services.body_reader)
    return _key_answer(await services.keys.block(actor, key_id))


async def unblock_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Take a blocked key again."""
    await read_nothing(request, services.body_reader)
    return _key_answer(await services.keys.unblock(actor, key_id))


async def revoke_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Refuse a key for ever."""
    await read_nothing(request, services.body_reader)
    return _key_answer(await services.keys.revoke(actor, key_id))


def _key_answer(record: ApiKey, *, key: str | None = None, status: int = 200) -> Response:
    members = resources.api_key(record, int(time.time()))
    return answer(members if key is None else {**members, "key": key}, status=status)
