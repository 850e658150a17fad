"""The settings in effect over HTTP, to be read."""

from fastapi import Response

from app.administration import shown
from app.api.admin.pages import answer
from app.api.services import ServicesOf


async def list_settings(services: ServicesOf) -> Response:
    """List every setting with its value, secrets masked, and where the value comes from."""
    return answer(shown.page([shown.setting(setting) for setting in services.settings()]))
