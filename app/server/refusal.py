"""The answer to what never becomes a request. Must not know why it does not."""

from http import HTTPStatus

from app.errors import ApiError
from app.ids import new_request_id


def headers_of(error: ApiError) -> dict[str, str]:
    """The headers of the last answer on a connection."""
    return {
        "content-type": "application/json",
        "content-length": str(len(error.body())),
        "connection": "close",
        "x-request-id": new_request_id(),
    }


def refused(error: ApiError) -> bytes:
    """That answer, whole: the error in the shape that every other has."""
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers_of(error).items()]
    return "\r\n".join([*lines, "", ""]).encode() + error.body()
