"""Serve /admin/v1/settings: list the settings in effect."""

from fastapi import Response

from app.administration.views import resources
from app.api.admin.answers import answer
from app.api.services import ServicesOf


async def list_settings(services: ServicesOf) -> Response:
    """List every setting with its value, secrets masked, and where the value comes from."""
    return answer(resources.page([resources.setting(setting) for setting in services.settings()]))
