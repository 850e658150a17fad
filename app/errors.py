"""What goes wrong, as one tree; each error knows the answer its caller gets. Rooms add leaves of their own.

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


class AntiphonError(Exception):
    """Base of every error that is ours."""


class ConfigurationError(AntiphonError):
    """The settings, the data folder or the database cannot be used as they are. `problems` lists every one found."""

    def __init__(self, *problems: str) -> None:
        super().__init__("\n".join(problems))
        self.problems: Sequence[str] = problems


class ApiError(AntiphonError):
    """An error with an HTTP answer: `{"error": {"message", "type", "param", "code"}}`.

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

    def told_headers(self) -> dict[str, str]:
        """The headers of the answer, with whose error it is."""
        return {**self.headers, "x-antiphon-error-source": self.source}

    def body(self) -> bytes:
        """The JSON answer, in OpenAI's shape."""
        return orjson.dumps(
            {"error": {"message": self.message, "type": self.type, "param": self.param, "code": self.code}}
        )


class InvalidRequestError(ApiError):
    """The client's mistake."""

    default_status = 400
    type = "invalid_request_error"


class NotFoundError(InvalidRequestError):
    """No such thing in the caller's project. Another project's id gets this answer too, byte for byte."""

    default_status = 404


class ConflictError(InvalidRequestError):
    """What was to be changed is not any more as its editor saw it, or what was to be made is there already."""

    default_status = 409
    default_code = "conflict"


class AuthenticationError(ApiError):
    """No identity could be established."""

    default_status = 401
    type = "invalid_request_error"


class PermissionDeniedError(ApiError):
    """It is known who calls, and they may not do this."""

    default_status = 403
    default_code = "insufficient_permissions"
    type = "invalid_request_error"


class StorageError(ApiError):
    """The database could not answer, or could not commit in time. Nothing was announced that is not kept."""

    default_status = 503
    default_code = "storage_unavailable"


class OverloadedError(ApiError):
    """The process is full or is shutting down; another replica, or a little later, will do."""

    default_status = 503
    default_code = "server_is_overloaded"
    type = "service_unavailable_error"


class UpstreamError(ApiError):
    """No upstream could serve the call, or its answer could not be used.

    `was_taken`: upstream answered with success, and said in the answer that it failed.
    """

    default_status = 502
    default_code = "upstream_error"
    was_taken = False


class UpstreamRefusedError(UpstreamError):
    """Upstream's own error answer: its status, body and allowed headers are relayed as they came."""

    source = "upstream"

    def __init__(self, status: int, body: bytes, headers: Mapping[str, str], code: str | None = None) -> None:
        super().__init__("Upstream refused the call.", status=status, headers=headers, code=code)
        self._body = body

    def body(self) -> bytes:
        """Upstream's bytes."""
        return self._body


def forget_frames(error: BaseException) -> None:
    """Let go of what was at hand where this error came through, once it is to be answered.

    The code that makes, keeps or waits for an error holds it, and is held by it: the prompt of a call that fails would
    stay in memory until the garbage collector comes by, which of few large objects it does not for long.
    """
    passed: BaseException | None = error
    while passed is not None:
        passed.__traceback__ = None
        passed = passed.__cause__ or passed.__context__
