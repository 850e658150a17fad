"""What a client may get wrong: each mistake gets a 4xx in OpenAI's shape, and the next request is served."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import quote

import orjson
import pytest
from structlog.testing import capture_logs

from app.observability import logging
from tests.fakes.gateway import LiveGateway
from tests.fakes.raw_http import Answer, RawClient
from tests.fakes.upstream import FakeUpstream

pytestmark = [pytest.mark.live, pytest.mark.slow_on_postgresql]

GOOD = b'{"model": "demo", "input": "Hello."}'
UNKNOWN = "/v1/responses/resp_unknown"
LONG = "x" * 10_000


def nested(depth: int) -> bytes:
    """A body that is good but for its depth."""
    return b'{"model": "demo", "input": "Hello.", "extra": %b1%b}' % (b"[" * (depth - 1), b"]" * (depth - 1))


def with_member(member: bytes) -> bytes:
    return GOOD[:-1] + b", " + member + b"}"


@dataclass(frozen=True)
class Mistake:
    """A request, and the refusal it deserves."""

    status: int = 400
    code: str | None = None
    method: str = "POST"
    target: str = "/v1/responses"
    body: bytes = GOOD
    headers: Mapping[str, str] = field(default_factory=dict)
    says: str = ""


def unparsed(body: bytes) -> Mistake:
    return Mistake(code="invalid_json", body=body, says="Invalid body: failed to parse JSON value.")


BODIES = {
    "nothing": unparsed(b""),
    "text": unparsed(b"Hello."),
    "half an object": unparsed(GOOD[:-1]),
    "an object and more": unparsed(GOOD + b"}"),
    "single quotes": unparsed(b"{'model': 'demo'}"),
    "a trailing comma": unparsed(GOOD[:-1] + b",}"),
    "a byte order mark": unparsed(b"\xef\xbb\xbf" + GOOD),
    "UTF-16": unparsed(GOOD.decode().encode("utf-16")),
    "invalid UTF-8": unparsed(GOOD.replace(b"Hello", b"\xff\xfe")),
    "a raw control character": unparsed(GOOD.replace(b"Hello", b"\x00")),
    "a lone high surrogate": unparsed(GOOD.replace(b"Hello", rb"\ud800")),
    "a lone low surrogate": unparsed(GOOD.replace(b"Hello", rb"\udc00")),
    "a surrogate in UTF-8": unparsed(GOOD.replace(b"Hello", b"\xed\xa0\x80")),
    "NaN": unparsed(with_member(b'"temperature": NaN')),
    "Infinity": unparsed(with_member(b'"temperature": Infinity')),
    "a number past all floats": unparsed(with_member(b'"temperature": 1e999')),
    "an integer of 5,000 digits": unparsed(with_member(b'"max_output_tokens": ' + b"9" * 5000)),
    "an integer of 30 digits": Mistake(code="invalid_type", body=with_member(b'"max_output_tokens": ' + b"9" * 30)),
    "null": Mistake(code="invalid_type", body=b"null"),
    "a list": Mistake(code="invalid_type", body=b"[" + GOOD + b"]"),
    "a string": Mistake(code="invalid_type", body=b'"Hello."'),
    "an empty object": Mistake(code="missing_required_parameter", body=b"{}"),
    "no input": Mistake(code="missing_required_parameter", body=b'{"model": "demo"}'),
    "65 levels": Mistake(body=nested(65), says="nested too deeply"),
    "900 levels": Mistake(body=nested(900), says="nested too deeply"),
    "100,000 levels": Mistake(body=nested(100_000), says="nested too deeply"),
    "levels that never close": unparsed(b'{"input":' + b"[" * 1_000),
    "200,000 keys of metadata": Mistake(
        code="object_above_max_properties",
        body=with_member(b'"metadata": ' + orjson.dumps({str(key): "x" for key in range(200_000)})),
    ),
    "10,001 input items": Mistake(
        code="array_above_max_length",
        body=b'{"model": "demo", "input": [%b]}' % b",".join([b'{"role": "user", "content": "x"}'] * 10_001),
    ),
    "a million values": Mistake(body=with_member(b'"extra": [%b]' % b",".join([b"0"] * 10**6)), says="many values"),
    "a repeated key, bad at last": Mistake(code="invalid_type", body=with_member(b'"input": 5')),
    "an unknown include": Mistake(code="invalid_value", body=with_member(b'"include": ["nothing"]')),
    "10 kB where a word belongs": Mistake(
        code="invalid_value", body=with_member(b'"truncation": "%b"' % LONG.encode())
    ),
}

HEADERS = {
    "no content type": Mistake(415, "unsupported_content_type", headers={"content-type": ""}),
    "text": Mistake(415, "unsupported_content_type", headers={"content-type": "text/plain"}),
    "a form": Mistake(415, "unsupported_content_type", headers={"content-type": "application/x-www-form-urlencoded"}),
    "a file": Mistake(415, "unsupported_content_type", headers={"content-type": "multipart/form-data; boundary=x"}),
    "JSON's cousin": Mistake(415, "unsupported_content_type", headers={"content-type": "application/jsonp"}),
    "no gzip": Mistake(400, "invalid_content_encoding", headers={"content-encoding": "gzip"}),
    "no zstd": Mistake(400, "invalid_content_encoding", headers={"content-encoding": "zstd"}),
    "brotli": Mistake(415, "unsupported_content_encoding", headers={"content-encoding": "br"}),
    "two encodings": Mistake(415, "unsupported_content_encoding", headers={"content-encoding": "identity, br"}),
    "129 headers": Mistake(431, "headers_too_large", headers={f"x-{number}": "x" for number in range(129)}),
    "a header of 70 kB": Mistake(431, "headers_too_large", headers={"x-large": "x" * 70_000}),
    "half an upgrade": Mistake(405, "method_not_allowed", "GET", headers={"upgrade": "websocket"}),
}


def not_found(target: str, method: str = "GET") -> Mistake:
    return Mistake(404, None, method, target, b"")


def bad_query(query: str, code: str | None, path: str = f"{UNKNOWN}/input_items") -> Mistake:
    return Mistake(400, code, "GET", f"{path}?{query}", b"")


IDS = {
    "an unknown id": not_found(UNKNOWN),
    "an unknown id to delete": not_found(UNKNOWN, "DELETE"),
    "an unknown id to list": not_found(f"{UNKNOWN}/input_items"),
    "an id with a NUL": not_found("/v1/responses/resp_%00x"),
    "a NUL to delete": not_found("/v1/responses/resp_%00x", "DELETE"),
    "a NUL to list": not_found("/v1/responses/%00/input_items"),
    "an id in broken UTF-8": not_found("/v1/responses/resp_%ff%fe"),
    "a surrogate": not_found("/v1/responses/resp_%ed%a0%80"),
    "an id with a slash": not_found("/v1/responses/resp_%2Fx"),
    "an id of two segments": not_found("/v1/responses/resp_a/b"),
    "dots": not_found("/v1/responses/.."),
    "encoded dots": not_found("/v1/responses/%2e%2e%2f"),
    "an id of 10 kB": not_found(f"/v1/responses/{LONG}"),
    "10 kB of 4-byte letters": not_found(f"/v1/responses/{quote(chr(0x1F600) * 840)}"),
    "a line break": not_found("/v1/responses/resp_%0d%0ax-injected:%20yes"),
    "a percent sign alone": not_found("/v1/responses/%"),
    "an unknown model": Mistake(404, "model_not_found", "GET", "/v1/models/none/such", b""),
    "a model of 10 kB": Mistake(404, "model_not_found", "GET", f"/v1/models/{LONG}", b""),
    "a NUL in a model": Mistake(404, "model_not_found", "GET", "/v1/models/%00", b""),
    "an unknown previous response": Mistake(
        code="previous_response_not_found", body=with_member(b'"previous_response_id": "resp_unknown"')
    ),
    "a previous response with a NUL": Mistake(
        code="previous_response_not_found", body=with_member(rb'"previous_response_id": "\u0000"')
    ),
    "a previous response of 10 kB": Mistake(
        code="string_above_max_length", body=with_member(b'"previous_response_id": "%b"' % LONG.encode())
    ),
    "an unknown item": Mistake(404, body=b'{"model": "demo", "input": [{"type": "item_reference", "id": "msg_no"}]}'),
    "an item with a NUL": Mistake(404, body=rb'{"model": "demo", "input": [{"id": "\u0000"}]}'),
    "a reference to nothing": Mistake(
        code="missing_required_parameter", body=b'{"model": "demo", "input": [{"type": "item_reference"}]}'
    ),
    "limit 0": bad_query("limit=0", "integer_below_min_value"),
    "limit 101": bad_query("limit=101", "integer_above_max_value"),
    "a negative limit": bad_query("limit=-1", "integer_below_min_value"),
    "a limit of 5,000 digits": bad_query("limit=" + "9" * 5000, "invalid_type"),
    "a limit in words": bad_query("limit=ten", "invalid_type"),
    "an empty limit": bad_query("limit=", "invalid_type"),
    "a limit in other digits": bad_query("limit=%EF%BC%91", "invalid_type"),
    "an unknown order": bad_query("order=up", "invalid_value"),
    "a replay": not_found(f"{UNKNOWN}?stream=true"),
    "a replay from nowhere": bad_query("stream=true&starting_after=x", "invalid_type", UNKNOWN),
    "a replay from before": bad_query("stream=true&starting_after=-1", "integer_below_min_value", UNKNOWN),
    "an unknown id to cancel": not_found(f"{UNKNOWN}/cancel", "POST"),
}

URLS = {
    "an unknown URL": Mistake(404, None, "POST", "/v1/audio/speech", says="Invalid URL (POST /v1/audio/speech)"),
    "the root": Mistake(404, None, "GET", "/", b"", says="Invalid URL (GET /)"),
    "a URL of 10 kB": Mistake(404, None, "GET", f"/v1/{LONG}", b"", says="Invalid URL (GET /v1/xxx"),
    "a NUL in a URL": Mistake(404, None, "GET", "/v1/%00", b""),
    "a list that there is not": Mistake(
        405, "method_not_allowed", "GET", body=b"", says="Not allowed to GET on /v1/responses."
    ),
    "a wrong method": Mistake(405, "method_not_allowed", "PUT", says="PUT"),
    "a wrong method on an id": Mistake(405, "method_not_allowed", "PATCH", UNKNOWN, says="PATCH"),
    "a wrong method on a list": Mistake(405, "method_not_allowed", "DELETE", "/v1/models", b"", says="DELETE"),
    "a method of no one's": Mistake(405, "method_not_allowed", "PURGE", says="PURGE"),
}


def fault_of(answer: Answer, mistake: Mistake) -> str | None:
    """What is wrong with the answer to this mistake."""
    if not answer.headers.get("x-request-id", "").startswith("req_"):
        return f"request id in {answer.headers}"
    if answer.status != mistake.status or answer.headers.get("content-type") != "application/json":
        return f"status {answer.status}, {answer.body[:200]!r}"
    error = answer.json.get("error", {})
    if error.keys() != {"message", "type", "param", "code"} or error["type"] != "invalid_request_error":
        return f"shape {answer.body[:200]!r}"
    if error["code"] != mistake.code or not error["message"] or mistake.says not in error["message"]:
        return f"error {answer.body[:200]!r}"
    return f"{len(answer.body)} bytes" if len(answer.body) > 5_000 else None


async def faults_of(gateway: LiveGateway, mistakes: Mapping[str, Mistake]) -> dict[str, str]:
    """Make all these mistakes on one connection, a good request after each; tell what was not answered as it should."""
    faults: dict[str, str] = {}
    async with RawClient.to(gateway.url) as client:
        for name, mistake in mistakes.items():
            headers = {**gateway.headers(), **mistake.headers}
            answer = await client.ask(mistake.method, mistake.target, headers, mistake.body)
            if fault := fault_of(answer, mistake):
                faults[name] = fault
            if (await client.ask("POST", "/v1/responses", gateway.headers(), GOOD)).status != 200:
                faults[f"after {name}"] = "the connection serves no more"
    return faults


async def test_a_bad_body_is_told_what_is_bad(sqlite_gateway: LiveGateway) -> None:
    assert await faults_of(sqlite_gateway, BODIES) == {}


async def test_a_header_that_cannot_be_obeyed_is_refused(sqlite_gateway: LiveGateway) -> None:
    assert await faults_of(sqlite_gateway, HEADERS) == {}


async def test_an_id_or_a_query_that_is_none_is_refused(gateway: LiveGateway) -> None:
    assert await faults_of(gateway, IDS) == {}


async def test_a_url_or_method_that_is_not_served_is_refused(sqlite_gateway: LiveGateway) -> None:
    assert await faults_of(sqlite_gateway, URLS) == {}


async def test_the_deepest_body_allowed_is_served(sqlite_gateway: LiveGateway, upstream: FakeUpstream) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        body = nested(63)
        assert (await client.ask("POST", "/v1/responses", sqlite_gateway.headers(), body)).status == 200
    assert upstream.requests[-1].json["extra"] == orjson.loads(body)["extra"]


async def test_a_model_name_out_of_proportion_leaves_a_line_in_proportion(sqlite_gateway: LiveGateway) -> None:
    body = orjson.dumps({"model": LONG, "input": "Hello."})
    with capture_logs(processors=[logging._of_request]) as lines:
        async with RawClient.to(sqlite_gateway.url) as client:
            await client.ask("POST", "/v1/responses", sqlite_gateway.headers(), body)
    (line,) = (line for line in lines if line["event"] == "request")
    assert LONG.startswith(line["model"])
    assert len(line["model"]) <= 200


@pytest.mark.parametrize("target", ["/v1//responses", "/v1/responses/", "/responses"])
async def test_a_sloppy_base_url_is_tolerated(sqlite_gateway: LiveGateway, target: str) -> None:
    async with RawClient.to(sqlite_gateway.url) as client:
        created = await client.ask("POST", target, sqlite_gateway.headers(), GOOD)
        assert created.status == 200
        read = await client.ask("GET", f"{target.rstrip('/')}/{created.json['id']}", sqlite_gateway.headers())
        assert read.json == created.json
