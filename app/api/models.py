"""The `models` endpoints."""

import orjson
from fastapi import Response

from app.api.services import ServicesOf
from app.errors import NotFoundError

_JSON = "application/json"


async def list_models(services: ServicesOf) -> Response:
    """List the models of all upstreams."""
    models = await services.catalogue.list()
    return Response(orjson.dumps({"object": "list", "data": models}), media_type=_JSON)


async def retrieve_model(model_id: str, services: ServicesOf) -> Response:
    """Return one model."""
    model = await services.catalogue.get(model_id)
    if model is None:
        raise NotFoundError(
            f"The model '{model_id[:512]}' does not exist or you do not have access to it.",
            code="model_not_found",
            param="model",
        )
    return Response(orjson.dumps(model), media_type=_JSON)
