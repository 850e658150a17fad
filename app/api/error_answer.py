"""Send errors as HTTP answers, always in OpenAI's shape."""

from starlette.exceptions import HTTPException
from starlette.types import Scope, Send

from app.errors import ApiError, InvalidRequestError, forget_frames

_METHOD_NOT_ALLOWED = 405
_LONGEST_SHOWN = 512


async def send_error(error: ApiError, send: Send) -> None:
    """Send the error as the whole answer, after freeing the frames that its traceback holds."""
    forget_frames(error)
    body = error.body()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.answer_headers()}
    head = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": head})
    await send({"type": "http.response.body", "body": body})


def router_error(error: HTTPException, scope: Scope) -> ApiError:
    """Turn a refusal of FastAPI's router (unknown URL, wrong method) into an error of ours."""
    method, path = scope["method"], scope["path"][:_LONGEST_SHOWN]
    if error.status_code == _METHOD_NOT_ALLOWED:
        message, code = f"Not allowed to {method} on {path}.", "method_not_allowed"
    else:
        message, code = f"Invalid URL ({method} {path})", None
    return InvalidRequestError(message, code=code, status=error.status_code, headers=error.headers)
