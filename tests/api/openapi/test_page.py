"""The page that shows the document: whole, and with nothing that a browser would have to fetch or run."""

import re
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from app.api.application import Application
from app.api.openapi.page import page_of


class _Seen(HTMLParser):
    """What a page is made of."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.unclosed: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag != "meta":
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if self._open.pop() != tag:
            self.unclosed.append(tag)


@pytest.fixture
async def answer(gateway: Application) -> httpx2.Response:
    transport = httpx2.ASGITransport(gateway)
    async with httpx2.AsyncClient(transport=transport, base_url="http://gateway") as client:
        shown = await client.get("/docs")
        assert (await client.get("/docs")).content == shown.content
        return shown


async def test_it_is_shown_to_anybody_and_may_load_and_run_nothing(answer: httpx2.Response) -> None:
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    seen = _Seen(answer.text)
    assert seen.unclosed == []
    assert {*seen.tags}.isdisjoint({"script", "link", "img", "iframe", "form"})
    assert {name for name, _ in seen.attributes}.isdisjoint({"src", "style", "onclick", "onload"})
    links = {value for name, value in seen.attributes if name == "href"}
    assert {link for link in links if link and not link.startswith("#")} == {"openapi.json"}


async def test_it_has_every_call_and_its_links_lead_somewhere(answer: httpx2.Response, told: dict[str, Any]) -> None:
    seen = _Seen(answer.text)
    places = [value for name, value in seen.attributes if name == "id"]
    assert len(places) == len({*places})
    links = {str(value) for name, value in seen.attributes if name == "href"} - {"openapi.json"}
    assert {link.removeprefix("#") for link in links} <= {*places}
    called = {operation["operationId"] for methods in told["paths"].values() for operation in methods.values()}
    assert called <= {*places}
    assert re.findall(r">(?:None|True|False)<", answer.text) == []


def test_what_the_document_says_is_shown_as_text(told: dict[str, Any]) -> None:
    page = page_of({**told, "info": {**told["info"], "description": "<script>alert(1)</script> `<b>`"}})
    assert "<script" not in page
    assert "<code>&lt;b&gt;</code>" in page
