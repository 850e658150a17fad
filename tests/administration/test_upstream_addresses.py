"""Where an administrator may not put an upstream: into the gateway's own machine, network or cloud."""

import pytest

from app.administration.upstream_address import check_address
from app.errors import InvalidRequestError
from app.upstream.http.egress_policy import EgressPolicy

PRIVATE = (
    "http://127.0.0.1:9/v1",
    "http://localhost/v1",
    "http://[::1]/v1",
    "http://2130706433/v1",
    "http://0x7f.1/v1",
    "http://10.0.0.7/v1",
    "http://[fd12::7]/v1",
    "http://[::ffff:192.168.0.1]/v1",
)
NEVER = (
    "http://169.254.169.254/v1",
    "http://[::ffff:169.254.169.254]/v1",
    "http://metadata.google.internal/v1",
    "http://METADATA.google.internal./v1",
    "http://[fe80::1]/v1",
    "http://0.0.0.0/v1",
    "http://[::]/v1",
)


@pytest.mark.parametrize("url", [*PRIVATE, *NEVER])
async def test_it_leads_nowhere_inside(url: str) -> None:
    with pytest.raises(InvalidRequestError) as raised:
        await check_address(url, EgressPolicy.OUTSIDE)
    assert raised.value.param == "base_url"


@pytest.mark.parametrize("url", PRIVATE)
async def test_the_operator_may_allow_what_is_private(url: str) -> None:
    await check_address(url, EgressPolicy.INSIDE)


@pytest.mark.parametrize("url", NEVER)
async def test_nobody_needs_what_is_of_the_link_or_the_cloud(url: str) -> None:
    with pytest.raises(InvalidRequestError):
        await check_address(url, EgressPolicy.INSIDE)


@pytest.mark.parametrize("url", ["https://1.1.1.1/v1", "https://[2606:4700::1111]/v1", "https://unknown.invalid/v1"])
async def test_what_is_outside_or_unknown_here_is_taken(url: str) -> None:
    await check_address(url, EgressPolicy.OUTSIDE)
