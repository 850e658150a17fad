from email.utils import formatdate

import pytest

from app.upstream.faults.retry_after import retry_after

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "15"}, 15),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after": "0"}, 0),
        ({"retry-after": "-3"}, 0),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "604800"}, 604_800),
        ({"retry-after": "1790000000"}, None),
        ({"retry-after-ms": "1e300"}, None),
        ({"retry-after-ms": "1500", "retry-after": "15"}, 1.5),
        ({"retry-after-ms": "x", "retry-after": "15"}, 15),
        ({"retry-after": formatdate(NOW + 90, usegmt=True)}, 90),
        ({"retry-after": formatdate(NOW - 90, usegmt=True)}, 0),
        ({"retry-after": "Mon, 99 Foo 9999999 99:99:99 GMT"}, None),
        ({"x-ratelimit-reset-requests": "6m0s"}, 360),
        ({"x-ratelimit-reset-requests": "12ms"}, 0.012),
        ({"x-ratelimit-reset-tokens": "1d2h"}, 93_600),
        ({"x-ratelimit-reset-tokens": "8.64s"}, 8.64),
        ({"x-ratelimit-reset-tokens": "7"}, 7),
        ({"x-ratelimit-reset-tokens": "-1"}, 0),
        ({"x-ratelimit-reset-tokens": "never"}, None),
        ({"x-ratelimit-reset-requests": "24h", "x-ratelimit-reset-tokens": "2s"}, 2),
        (
            {
                "x-ratelimit-reset-requests": "24h",
                "x-ratelimit-reset-tokens": "2s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-remaining-tokens": "10",
            },
            86_400,
        ),
        ({"retry-after": "3", "x-ratelimit-reset-tokens": "2s"}, 3),
    ],
)
def test_the_wait_is_read_as_upstream_states_it(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after(headers, NOW) == (None if seconds is None else pytest.approx(seconds))
