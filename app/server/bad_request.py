"""Render the HTTP/1.1 answer to bytes that never become a request, which ends their connection."""

from http import HTTPStatus

from app.errors import ApiError
from app.ids import new_request_id


def headers_of(error: ApiError) -> dict[str, str]:
    """Return the headers of a connection's last answer, which carries this error."""
    return {
        "content-type": "application/json",
        "content-length": str(len(error.body())),
        "connection": "close",
        "x-request-id": new_request_id(),
    }


def bad_request(error: ApiError) -> bytes:
    """Render the whole answer: head and body, the error in the shape of every other."""
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers_of(error).items()]
    return "\r\n".join([*lines, "", ""]).encode() + error.body()
