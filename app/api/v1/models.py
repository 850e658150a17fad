"""Serve /v1/models: the models that the caller may use."""

import orjson
from fastapi import Response

from app.api.dependencies import Caller, Held
from app.api.json_answer import JsonAnswer
from app.api.services import ServicesOf
from app.wire import error_messages

_JSON = "application/json"


async def list_models(caller: Caller, services: ServicesOf, held: Held) -> Response:
    """List the models of all upstreams, of them those that the caller may use."""
    models = [model for model in await services.catalogue.list() if caller.may_use(model["id"])]
    body = orjson.dumps({"object": "list", "data": models})
    await held.add(len(body))
    return JsonAnswer(body)


async def retrieve_model(model_id: str, caller: Caller, services: ServicesOf) -> Response:
    """Return one model."""
    model = await services.catalogue.get(model_id) if caller.may_use(model_id) else None
    if model is None:
        raise error_messages.inaccessible_model(model_id)
    return Response(orjson.dumps(model), media_type=_JSON)
