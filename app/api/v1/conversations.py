"""Serve /v1/conversations: create, read, change and delete conversations and their items."""

import time
from collections.abc import Sequence
from functools import partial
from typing import Annotated

import orjson
from fastapi import Depends, Request, Response

from app.api.dependencies import Caller, Held
from app.api.json_answer import for_list, list_answer
from app.api.request_body import headers_of
from app.api.services import ServicesOf
from app.api.v1.idempotency_key import answer_once
from app.api.v1.query_parameters import check_include, read_page_query
from app.ids import new_id
from app.relay.history.base import History, resolve
from app.runtime.byte_budget import Reservation
from app.runtime.compute_thread import ComputeThread
from app.state.items.item_pages import listing
from app.state.items.listed_form import item_as_listed
from app.state.items.references import references
from app.state.items.stored_form import input_items, storable
from app.state.records import Conversation, Item
from app.wire import error_messages
from app.wire.json_body import LARGE_BYTES
from app.wire.requests.conversation_bodies import (
    NewConversation,
    NewItems,
    conversation,
    parse_metadata,
    parse_new_conversation,
    parse_new_items,
)
from app.wire.requests.field_rules import CONVERSATION_ID

_JSON = "application/json"


async def _conversation_id(conversation_id: str) -> str:
    """Check that the id in the path is a conversation's. Raises InvalidRequestError."""
    CONVERSATION_ID(conversation_id, "conversation_id")
    return conversation_id


ConversationId = Annotated[str, Depends(_conversation_id)]


async def create_conversation(request: Request, caller: Caller, services: ServicesOf, held: Held) -> Response:
    """Create a conversation, with up to 20 items in it."""
    parse = partial(parse_new_conversation, is_strict=services.is_strict)

    async def create(given: NewConversation) -> tuple[Response, str]:
        made = Conversation(new_id("conv"), int(time.time()), given.metadata)
        items = await _items_of(given.items, caller.project_id, services.responses, services.compute_thread, held)
        await services.conversations.create(caller.project_id, made, items)
        return _conversation_answer(made), made.id

    return await answer_once(request, services, caller, held, parse, create)


async def retrieve_conversation(conversation_id: ConversationId, caller: Caller, services: ServicesOf) -> Response:
    """Return a conversation, without its items."""
    return _conversation_answer(await services.conversations.read(caller.project_id, conversation_id))


async def update_conversation(
    conversation_id: ConversationId, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Replace a conversation's metadata."""
    metadata = await services.body_reader.read(parse_metadata, headers_of(request.scope), request.receive, held)
    return _conversation_answer(await services.conversations.describe(caller.project_id, conversation_id, metadata))


async def delete_conversation(conversation_id: ConversationId, caller: Caller, services: ServicesOf) -> Response:
    """Delete a conversation and its items; the responses that were made in it stay."""
    await services.conversations.delete(caller.project_id, conversation_id)
    await services.idempotency.store.erase(caller.project_id, conversation_id)
    deleted = {"id": conversation_id, "object": "conversation.deleted", "deleted": True}
    return Response(orjson.dumps(deleted), media_type=_JSON)


async def create_items(
    conversation_id: ConversationId, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Add up to 20 items to a conversation."""
    check_include(request, services.is_strict)
    parse = partial(parse_new_items, is_strict=services.is_strict)

    async def add(given: NewItems) -> tuple[Response, str]:
        history = await services.open_conversations.open(caller.project_id, conversation_id, services.responses)
        items = await _items_of(given, caller.project_id, history, services.compute_thread, held)
        added = await services.conversations.add_items(caller.project_id, conversation_id, items)
        return await _listed(added, services.compute_thread, held, has_more=False), conversation_id

    return await answer_once(request, services, caller, held, parse, add)


async def list_items(
    conversation_id: ConversationId, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """List what stands in a conversation."""
    query = read_page_query(request)
    check_include(request, services.is_strict)
    items, has_more = await services.conversations.read_page(caller.project_id, conversation_id, query, for_list(held))
    return await _listed(items, services.compute_thread, held, has_more=has_more)


async def retrieve_item(  # noqa: PLR0917 - the framework's injection, by name
    conversation_id: ConversationId, item_id: str, request: Request, caller: Caller, services: ServicesOf, held: Held
) -> Response:
    """Return one item of a conversation."""
    check_include(request, services.is_strict)
    found = await services.conversations.read_items(caller.project_id, conversation_id, {item_id}, for_list(held))
    if item_id not in found:
        raise error_messages.item_not_found(item_id)
    item = found[item_id]
    return await list_answer(lambda: item_as_listed(item), len(item.content), services.compute_thread, held)


async def delete_item(conversation_id: ConversationId, item_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Delete one item of a conversation; returns the conversation."""
    left = await services.conversations.delete_item(caller.project_id, conversation_id, item_id)
    await services.idempotency.store.erase(caller.project_id, conversation_id)
    return _conversation_answer(left)


async def _items_of(
    given: NewItems, project_id: str, history: History, compute_thread: ComputeThread, held: Reservation
) -> Sequence[Item]:
    named = references(given.given)
    resolved = await resolve(history, project_id, named, held.add) if named.ids else {}
    size = len(given.raw)
    return storable(
        await compute_thread.run(size, input_items, given.given, given.raw, resolved)
        if size >= LARGE_BYTES
        else input_items(given.given, given.raw, resolved)
    )


async def _listed(
    items: Sequence[Item], compute_thread: ComputeThread, held: Reservation, *, has_more: bool
) -> Response:
    size = sum([len(item.content) for item in items])
    return await list_answer(lambda: listing(items, has_more=has_more), size, compute_thread, held)


def _conversation_answer(kept: Conversation) -> Response:
    return Response(conversation(kept.id, kept.created_at, kept.metadata), media_type=_JSON)
