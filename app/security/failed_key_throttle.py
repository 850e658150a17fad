"""Throttle addresses that fail to authenticate: each has a token bucket, and without a token it gets a 429."""

import math
import time
from collections import OrderedDict
from dataclasses import dataclass
from ipaddress import IPv6Network

import structlog

from app.errors import ApiError
from app.state.ip_addresses import read_address

_MINUTE_SECONDS = 60.0
_MOST_ADDRESSES = 10_000
# The least that one customer of an IPv6 provider has to itself (RFC 6177).
_IPV6_PREFIX = 64
_ROUNDING = 1e-6

_log = structlog.get_logger("antiphon.auth")


class ThrottledError(ApiError):
    """Refuse an address that has tried too many wrong API keys."""

    default_status = 429
    default_code = "rate_limit_exceeded"
    type = "rate_limit_error"


@dataclass(slots=True)
class _Bucket:
    """Hold the tokens of one address: they are all there from `full_at` on (monotonic seconds).

    `refused` counts the tries since the log line that was written at `logged_at`.
    """

    full_at: float
    refused: int = 0
    logged_at: float = -math.inf


class Throttle:
    """Count failures by address, `per_minute` of which are free; one comes back each 60/`per_minute` seconds.

    An IPv6 address counts for its /64; all calls without an address count as one. At most 10,000 addresses are held;
    while all of them are in debt, further ones share one bucket.
    """

    def __init__(self, per_minute: int) -> None:
        self._token_seconds = _MINUTE_SECONDS / per_minute
        self._buckets: OrderedDict[str, _Bucket] = OrderedDict()
        self._others = _Bucket(0.0)

    def check(self, address: str | None) -> None:
        """Raise ThrottledError for an address that has failed too often, and log that once a minute."""
        now = time.monotonic()
        origin = _origin(address)
        bucket = self._buckets.get(origin)
        if bucket is None:
            if not self._is_crowded(now):
                return
            bucket = self._others
        wait = bucket.full_at + self._token_seconds - _MINUTE_SECONDS - now
        if wait <= _ROUNDING:
            return
        bucket.refused += 1
        if now - bucket.logged_at >= _MINUTE_SECONDS:
            _log.warning(
                "an address tries API keys in vain and has to wait: see who that is, and block it in front if need be",
                address="others" if bucket is self._others else origin,
                refused=bucket.refused,
            )
            bucket.refused, bucket.logged_at = 0, now
        seconds = math.ceil(wait)
        raise ThrottledError(
            f"Too many failed authentications from your IP address. Please try again in {seconds}s.",
            headers={"retry-after": str(seconds), "retry-after-ms": str(math.ceil(wait * 1000))},
        )

    def count(self, address: str | None) -> None:
        """Count a failure. Failures that were in flight at once add a debt of a minute at most."""
        now = time.monotonic()
        bucket = self._bucket(_origin(address), now)
        full_at = max(bucket.full_at, now) + self._token_seconds
        bucket.full_at = min(full_at, now + 2 * _MINUTE_SECONDS)

    def _bucket(self, origin: str, now: float) -> _Bucket:
        bucket = self._buckets.get(origin)
        if bucket is not None:
            self._buckets.move_to_end(origin)
            return bucket
        if self._is_crowded(now):
            return self._others
        if len(self._buckets) >= _MOST_ADDRESSES:
            self._buckets.popitem(last=False)
        bucket = self._buckets[origin] = _Bucket(now)
        return bucket

    def _is_crowded(self, now: float) -> bool:
        """Tell whether there is no room for another address: to forget one would be to forgive it."""
        return len(self._buckets) >= _MOST_ADDRESSES and next(iter(self._buckets.values())).full_at > now


def _origin(address: str | None) -> str:
    found = read_address(address or "")
    if found is None:
        return "none"
    return str(found) if found.version == 4 else str(IPv6Network((int(found), _IPV6_PREFIX), strict=False))  # noqa: PLR2004 - IPv4
