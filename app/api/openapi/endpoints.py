"""Serve the API's description: the OpenAPI document, and a page of it that needs no network and runs no script.

Each is written once, when it is first asked for: most gateways never are.
"""

from functools import cache

import orjson
from fastapi import FastAPI, Request, Response

_PAGE_HEADERS = {"x-content-type-options": "nosniff", "referrer-policy": "no-referrer"}


def add_description(app: FastAPI) -> None:
    """Add `/openapi.json` and `/docs`, both of what the app says of itself."""

    @cache
    def document() -> bytes:
        return orjson.dumps(app.openapi())

    @cache
    def page() -> tuple[bytes, str]:
        from app.api.openapi.page import CONTENT_SECURITY_POLICY, page_of  # noqa: PLC0415 - it is seldom asked for

        return page_of(orjson.loads(document())).encode(), CONTENT_SECURITY_POLICY

    async def show_document(_: Request) -> Response:
        return Response(document(), media_type="application/json")

    async def show_page(_: Request) -> Response:
        body, policy = page()
        return Response(body, media_type="text/html", headers={**_PAGE_HEADERS, "content-security-policy": policy})

    app.add_route("/openapi.json", show_document, include_in_schema=False)
    app.add_route("/docs", show_page, include_in_schema=False)
