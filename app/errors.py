"""Define the tree of errors; each knows the HTTP answer that its caller gets. Rooms add leaves of their own.

AntiphonError
├── ConfigurationError            the operator's mistake, found at start
└── ApiError                      has an HTTP answer in OpenAI's shape
    ├── InvalidRequestError       400 unless it says otherwise (405, 408, 413, 415, 426, 431)
    │   ├── NotFoundError         404
    │   └── ConflictError         409: changed by somebody else meanwhile, or the name is taken
    ├── AuthenticationError       401
    ├── PermissionDeniedError     403: it is known who calls, and they may not
    ├── StorageError              503: the database could not answer or commit in time
    ├── OverloadedError           503: admission is closed
    └── UpstreamError             502, 504 or 429: no upstream could serve the call, or not to its end
        └── UpstreamRefusedError  upstream's own answer, relayed as it came
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar, Literal

import orjson

CLIENT_LEFT = 499
"""The status, in the log and in the usage, of a call whose client had left: nobody was told one."""


class AntiphonError(Exception):
    """Base of every error of the gateway."""


class ConfigurationError(AntiphonError):
    """Report settings, a data folder or a database that cannot be used as they are. `problems` lists all of them."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class ApiError(AntiphonError):
    """Carry an HTTP error answer: `{"error": {"message", "type", "param", "code"}}`.

    `is_final`: no wait makes the request succeed, whatever its status says. `is_paid`: upstream has done its work all
    the same, and the call is not to be made again.
    """

    default_status: ClassVar[int] = 500
    default_code: ClassVar[str | None] = None
    type: ClassVar[str] = "server_error"
    source: ClassVar[Literal["gateway", "upstream"]] = "gateway"
    is_final = False
    is_paid = False

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        param: str | None = None,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.code = code if code is not None else self.default_code
        self.param = param
        self.status = status if status is not None else self.default_status
        self.headers: Mapping[str, str] = headers or {}

    def mark_paid(self) -> None:
        """Mark that upstream has done the work: an SDK that retries by itself would pay for it twice."""
        self.is_paid = True
        self.headers = {**self.headers, "x-should-retry": "false"}

    def answer_headers(self) -> dict[str, str]:
        """Return the headers of the answer, among them whose error it is."""
        return {**self.headers, "x-antiphon-error-source": self.source}

    def body(self) -> bytes:
        """Render the JSON answer, in OpenAI's shape."""
        return orjson.dumps(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )


class InvalidRequestError(ApiError):
    """Report the client's mistake (400 unless it says otherwise)."""

    default_status = 400
    type = "invalid_request_error"


class NotFoundError(InvalidRequestError):
    """Report an id that the caller's project lacks; another project's id gets the same answer, byte for byte."""

    default_status = 404


class ConflictError(InvalidRequestError):
    """Report an edit of an old version, or the creation of something that is there already."""

    default_status = 409
    default_code = "conflict"


class AuthenticationError(ApiError):
    """Report that the caller could not be authenticated."""

    default_status = 401
    type = "invalid_request_error"


class PermissionDeniedError(ApiError):
    """Report that an authenticated caller may not do this."""

    default_status = 403
    default_code = "insufficient_permissions"
    type = "invalid_request_error"


class StorageError(ApiError):
    """Report that the database could not answer or commit in time; no client was told of an uncommitted write."""

    default_status = 503
    default_code = "storage_unavailable"


class OverloadedError(ApiError):
    """Report that the process is full or shutting down; a retry, or another replica, may succeed."""

    default_status = 503
    default_code = "server_is_overloaded"
    type = "service_unavailable_error"


class UpstreamError(ApiError):
    """Report that no upstream could serve the call, or that its answer could not be used.

    `was_taken`: upstream answered with success, and reported its failure in the answer.
    """

    default_status = 502
    default_code = "upstream_error"
    was_taken = False


class UpstreamRefusedError(UpstreamError):
    """Relay upstream's own error answer: its status, body and allowed headers as they came."""

    source = "upstream"

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str], code: str | None = None) -> None:
        super().__init__("Upstream refused the call.", status=status, headers=headers, code=code)
        self._body = body

    def body(self) -> bytes:
        """Return upstream's body, unchanged."""
        return self._body


def forget_frames(error: BaseException) -> None:
    """Drop the tracebacks of an error that is to be answered, so that its call's prompt is freed.

    Frames hold the error, and its traceback holds the frames: the prompt of a failed call would stay in memory until
    the garbage collector runs, which few large objects do not trigger for long.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__cause__ or passed.__context__
