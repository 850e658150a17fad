"""The API keys over HTTP. A key itself is in two answers only: when it is made, and when it is rotated."""

import time
from typing import Any

from fastapi import Request, Response
from pydantic import Field

from app.administration import shown
from app.api.admin.forms import LONGEST_ID, Body, Edit, PageQuery, read_form, read_nothing, read_query
from app.api.admin.pages import answer, page
from app.api.services import Administrator, ServicesOf
from app.state.records import ApiKey


class KeysQuery(PageQuery):
    """Which keys: those of a project, or all."""

    project: str | None = Field(None, max_length=LONGEST_ID)


class NewKey(Body):
    """A key that is to be made."""

    project_id: str
    name: str
    owner: str | None = None
    tags: list[str] = Field([])
    policy: dict[str, Any] = Field({})
    expires_at: int | None = None


class KeyEdit(Edit):
    """What is to be changed of one."""

    name: str = ""
    owner: str | None = None
    tags: list[str] = Field([])
    policy: dict[str, Any] = Field({})
    expires_at: int | None = None


class Rotation(Body):
    """For how long the key before is good as well."""

    overlap_seconds: int


async def list_keys(request: Request, services: ServicesOf) -> Response:
    """List the keys of a project or of all, the newest first."""
    query = read_query(KeysQuery, request)
    found = await services.keys.list(project_id=query.project, after=query.after, limit=query.limit + 1)
    now = int(time.time())
    return page([shown.api_key(key, now) for key in found], query.limit)


async def create_key(request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Create a key. Its answer has it in `key`, this once."""
    form = await read_form(NewKey, request, services.intake)
    made, key = await services.keys.create(actor, **form.given())
    return _shown(made, key=key, status=201)


async def retrieve_key(key_id: str, services: ServicesOf) -> Response:
    """Return what is known of one key."""
    return _shown(await services.keys.get(key_id))


async def update_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Change a key; what is left out stays as it is."""
    form = await read_form(KeyEdit, request, services.intake)
    return _shown(await services.keys.update(actor, key_id, form.changes(), version=form.version))


async def rotate_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Put another key in its place. The answer has it in `key`, this once."""
    form = await read_form(Rotation, request, services.intake)
    changed, key = await services.keys.rotate(actor, key_id, overlap_seconds=form.overlap_seconds)
    return _shown(changed, key=key)


async def block_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Refuse a key until it is unblocked."""
    await read_nothing(request, services.intake)
    return _shown(await services.keys.block(actor, key_id))


async def unblock_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Take a blocked key again."""
    await read_nothing(request, services.intake)
    return _shown(await services.keys.unblock(actor, key_id))


async def revoke_key(key_id: str, request: Request, actor: Administrator, services: ServicesOf) -> Response:
    """Refuse a key for ever."""
    await read_nothing(request, services.intake)
    return _shown(await services.keys.revoke(actor, key_id))


def _shown(record: ApiKey, *, key: str | None = None, status: int = 200) -> Response:
    members = shown.api_key(record, int(time.time()))
    return answer(members if key is None else {**members, "key": key}, status=status)
