"""The outermost layer: paths, request ids, limits of headers, and the answer when all else fails."""

from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import orjson
import pytest
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from structlog.testing import CapturingLogger

from app.api.canonical_path import canonical_path
from app.api.middleware import RequestMiddleware
from app.errors import StorageError
from app.observability import logging
from app.relay.process.readiness import Readiness
from tests.builders import Connection


@pytest.mark.parametrize(
    ("path", "canonical"),
    [
        ("/v1/responses", "/v1/responses"),
        ("/v1/responses/", "/v1/responses"),
        ("/v1//responses", "/v1/responses"),
        ("/v1//responses/resp_1/input_items/", "/v1/responses/resp_1/input_items"),
        ("/responses", "/v1/responses"),
        ("/responses/resp_1", "/v1/responses/resp_1"),
        ("/models/", "/v1/models"),
        ("/models/meta-llama/llama-4", "/v1/models/meta-llama/llama-4"),
        ("/conversations/conv_1", "/v1/conversations/conv_1"),
        ("/v1/models", "/v1/models"),
        ("/livez", "/livez"),
        ("/livez/", "/livez"),
    ],
)
def test_a_path_is_read_as_its_base_url_was_meant(path: str, canonical: str) -> None:
    assert canonical_path(path.encode()) == canonical


@pytest.mark.parametrize(
    "path",
    [
        "",
        "/",
        "//",
        "//v1/responses",
        "//responses",
        "/v1///responses",
        "/v1/responses//resp_1",
        "/v1/responses%2Fcompact",
        "/v1/%72esponses",
        "/%76%31/responses",
        "/v1/../responses",
        "/V1/responses",
        "/v1;x/responses",
        "/v1\\responses",
        "/v1/%2e%2e/admin/v1/keys",
    ],
)
def test_no_other_spelling_of_a_path_is_mended(path: str) -> None:
    served = {"/v1/responses", "/v1/responses/resp_1", "/v1/responses/compact", "/admin/v1/keys"}
    assert canonical_path(path.encode()) not in served


@pytest.mark.parametrize(
    "path",
    [
        "//admin/v1/keys",
        "/%61dmin/v1/keys",
        "/%2fadmin/v1/keys",
        "/admin/../admin/v1/keys",
        "/./admin/v1/keys",
        "/v1/../admin/v1/keys",
        "/v1//admin/v1/keys",
        "/v1/%2e%2e/admin/v1/keys",
        "/admin%2fv1/keys",
        "/admin//v1/keys",
        "/admin/v1//keys",
        "/admin/v1/keys/",
        "/admin;x/v1/keys",
        "/admin/v1/keys;x",
        "/Admin/v1/keys",
        "/admin\\v1\\keys",
        "\\admin/v1/keys",
        "/admin/v1/keys%00",
        "/admin/v1/keys%20",
        "admin/v1/keys",
        "/responses/../admin/v1/keys",
    ],
)
def test_administration_has_one_spelling(path: str) -> None:
    assert canonical_path(path.encode()) != "/admin/v1/keys"


@pytest.fixture
def log() -> Iterator[CapturingLogger]:
    logger = CapturingLogger()
    before = structlog.get_config()
    structlog.configure(processors=[logging._of_request], logger_factory=lambda *_: logger)
    yield logger
    structlog.configure(**before)


def lines(log: CapturingLogger) -> list[dict[str, Any]]:
    return [call.kwargs for call in log.calls]


def serving() -> Readiness:
    readiness = Readiness()
    readiness.serves()
    return readiness


async def call(
    app: ASGIApp,
    path: str = "/v1/responses",
    headers: int = 0,
    value: bytes = b"1",
    readiness: Readiness | None = None,
) -> Connection:
    connection = Connection()
    sent = [(b"x-%d" % number, value) for number in range(headers)]
    scope: Scope = {"type": "http", "method": "GET", "raw_path": path.encode(), "headers": sent}
    await RequestMiddleware(app, {}, readiness or serving())(scope, connection.receive, connection.send)
    return connection


async def fine(scope: Scope, receive: Receive, send: Send) -> None:
    await send({"type": "http.response.start", "status": 204, "headers": [(b"x-own", b"1")]})
    await send({"type": "http.response.body", "body": b""})


def failing(error: Exception, *, after: Callable[[Send], Awaitable[None]] | None = None) -> ASGIApp:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if after is not None:
            await after(send)
        raise error

    return app


def request_id(connection: Connection) -> str:
    (found,) = [value for name, value in connection.sent[0]["headers"] if name == b"x-request-id"]
    assert isinstance(found, bytes)
    return found.decode()


async def test_every_answer_has_a_request_id_of_its_own(log: CapturingLogger) -> None:
    answers = [
        await call(fine),
        await call(fine),
        await call(failing(ValueError("x"))),
        await call(failing(StorageError("x"))),
        await call(fine, headers=1000),
    ]
    ids = [request_id(answer) for answer in answers]
    assert len(set(ids)) == 5
    assert all(found.startswith("req_") and len(found) == 36 for found in ids)
    assert (b"x-own", b"1") in answers[0].sent[0]["headers"]


async def test_an_unhandled_error_is_told_in_openais_shape_and_without_its_detail(log: CapturingLogger) -> None:
    connection = await call(failing(ValueError("password=hunter2")))
    assert connection.sent[0]["status"] == 500
    assert (b"content-type", b"application/json") in connection.sent[0]["headers"]
    error = orjson.loads(connection.body)["error"]
    assert (error["type"], error["param"], error["code"]) == ("server_error", None, None)
    assert request_id(connection) in error["message"]
    assert "hunter2" not in error["message"]
    failure, request = lines(log)
    assert failure["exc_info"]
    assert failure["request_id"] == request["request_id"] == request_id(connection)
    assert request["status"] == 500


async def test_an_error_of_our_own_is_told_as_it_is(log: CapturingLogger) -> None:
    connection = await call(failing(StorageError("Down.")))
    assert connection.sent[0]["status"] == 503
    assert orjson.loads(connection.body)["error"]["code"] == "storage_unavailable"


async def test_an_error_after_the_answer_has_begun_ends_the_connection(log: CapturingLogger) -> None:
    async def begin(send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    with pytest.raises(ValueError, match="late"):
        await call(failing(ValueError("late"), after=begin))
    assert lines(log)[-1]["status"] == 200


@pytest.mark.parametrize(
    ("headers", "value", "status"),
    [(128, b"1", 204), (129, b"1", 431), (1, b"x" * 65_533, 204), (1, b"x" * 65_534, 431), (100, b"x" * 700, 431)],
)
async def test_headers_out_of_proportion_are_refused(
    log: CapturingLogger, headers: int, value: bytes, status: int
) -> None:
    connection = await call(fine, headers=headers, value=value)
    assert connection.sent[0]["status"] == status
    if status == 431:
        error = orjson.loads(connection.body)["error"]
        assert (error["type"], error["code"]) == ("invalid_request_error", "headers_too_large")


async def test_a_request_leaves_one_line_without_its_ids(log: CapturingLogger) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        logging.note(model="demo")
        scope["route"] = type("Route", (), {"path": "/v1/responses/{response_id}"})()
        await fine(scope, receive, send)

    await call(app, "/v1/responses/resp_secret")
    (line,) = lines(log)
    assert (line["event"], line["method"], line["status"]) == ("request", "GET", 204)
    assert (line["route"], line["model"]) == ("/v1/responses/{response_id}", "demo")
    assert line["ms"] >= 0
    assert "resp_secret" not in str(line)


async def test_a_line_knows_nothing_of_the_request_before(log: CapturingLogger) -> None:
    logging.begin_request("req_0")
    logging.note(model="of another request")
    await call(fine)
    assert "model" not in lines(log)[0]
    assert lines(log)[0]["route"] == "unknown"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/healthz", "/livez/"])
async def test_probes_leave_no_line(log: CapturingLogger, path: str) -> None:
    connection = await call(fine, path)
    assert connection.sent[0]["status"] == 204
    assert lines(log) == []


async def test_what_is_no_http_request_passes() -> None:
    seen: list[Scope] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append(scope)

    connection = Connection()
    await RequestMiddleware(app, {}, serving())({"type": "lifespan"}, connection.receive, connection.send)
    assert seen == [{"type": "lifespan"}]
    assert connection.sent == []


@pytest.mark.parametrize("path", ["/v1/responses", "/v1/models", "/admin/v1/keys", "/openapi.json", "/nowhere"])
async def test_before_the_gateway_is_open_calls_are_told_to_come_back(path: str) -> None:
    readiness = Readiness()
    readiness.waits("the database cannot be reached")
    connection = await call(fine, path, readiness=readiness)
    start, body = connection.sent
    assert start["status"] == 503
    assert int(dict(start["headers"])[b"retry-after"]) >= 1
    assert orjson.loads(body["body"])["error"]["code"] == "storage_unavailable"


@pytest.mark.parametrize("path", ["/livez", "/readyz", "/health", "/healthz"])
async def test_before_the_gateway_is_open_probes_are_answered(path: str) -> None:
    connection = await call(fine, path, readiness=Readiness())
    assert connection.sent[0]["status"] == 204


async def test_a_process_that_is_about_to_end_keeps_no_connection() -> None:
    readiness = serving()
    assert b"connection" not in dict((await call(fine, readiness=readiness)).sent[0]["headers"])
    readiness.leaves()
    assert dict((await call(fine, readiness=readiness)).sent[0]["headers"])[b"connection"] == b"close"
