"""The `models` endpoints."""

import orjson
from fastapi import Response

from app.api.answers import JsonAnswer
from app.api.services import Caller, Held, ServicesOf
from app.wire import wording

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
        raise wording.inaccessible_model(model_id)
    return Response(orjson.dumps(model), media_type=_JSON)
