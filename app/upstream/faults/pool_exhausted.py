"""Make the errors for a client whom no account can serve now, with the time to retry."""

import math

from app.errors import UpstreamError

_LONGEST_SDK_WAIT_SECONDS = 60


class PoolExhaustedError(UpstreamError):
    """Report that every account that serves the model is limited or busy."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


def retry_headers(seconds: float) -> dict[str, str]:
    """Return the headers that tell SDKs when to retry, in both spellings; too long a wait tells them not to."""
    headers = {"retry-after": str(max(1, math.ceil(seconds))), "retry-after-ms": str(max(1, math.ceil(seconds * 1000)))}
    if seconds > _LONGEST_SDK_WAIT_SECONDS:
        headers["x-should-retry"] = "false"
    return headers


def all_limited(seconds: float) -> PoolExhaustedError:
    """Return the error when every account is limited or busy for this long."""
    return PoolExhaustedError(
        "Rate limit reached: every upstream account for this model is resting. Please try again later.",
        headers=retry_headers(seconds),
    )


def no_key_accepted(seconds: float) -> UpstreamError:
    """Return the error when no key is accepted; one is probed after this long."""
    return UpstreamError(
        "Upstream does not accept this gateway's credentials.",
        code="upstream_authentication_error",
        headers={**retry_headers(seconds), "x-should-retry": "false"},
    )


def switched_off() -> UpstreamError:
    """Return the error when an administrator has taken every account out of service."""
    return UpstreamError(
        "Every upstream account for this model is switched off.",
        code="upstream_disabled",
        status=503,
        headers={"x-should-retry": "false"},
    )


def account_gone() -> UpstreamError:
    """Return the error when the only account that could serve is configured no longer."""
    return UpstreamError(
        "The upstream account that holds this response is no longer configured for this model.",
        code="upstream_account_gone",
        headers={"x-should-retry": "false"},
    )
