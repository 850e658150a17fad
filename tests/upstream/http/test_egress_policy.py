"""Where an upstream of administrators may be, whatever its name leads to when it is connected to."""

import pytest
from pydantic import SecretStr

from app.settings.upstreams import AdministeredUpstream, KeySettings, UpstreamSettings
from app.upstream.account import accounts_of
from app.upstream.http.client_factory import ClientFactory
from app.upstream.http.egress_policy import EgressDeniedError, EgressPolicy
from tests.fakes.names import Names
from tests.fakes.replies import Reply
from tests.fakes.upstream import FakeUpstream
from tests.upstream.middlemen import CERTIFICATE, Proxy, passing_on, with_tls
from tests.upstream.rig import KEYS, NetworkOf, failure, rig, upstream_settings

pytestmark = pytest.mark.live

PRIVATE = (
    "127.0.0.1",
    "127.255.0.1",
    "::1",
    "10.0.0.7",
    "172.16.0.1",
    "192.168.0.1",
    "100.64.0.1",
    "fd12::7",
    "fec0::7",
    "::ffff:127.0.0.1",
    "::127.0.0.1",
    "::ffff:0:10.0.0.7",
    "64:ff9b::10.0.0.7",
    "64:ff9b:1::10.0.0.7",
    "2002:7f00:1::",
)
NEVER = (
    "169.254.169.254",
    "169.254.0.1",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fe80::1%lo",
    "::ffff:169.254.169.254",
    "64:ff9b::169.254.169.254",
    "2002:a9fe:a9fe::1",
    "0.0.0.0",
    "::",
    "224.0.0.1",
    "ff02::1",
)
PUBLIC = ("1.1.1.1", "2606:4700::1111", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1")
# Loopback, in the notations that a system's look-up reads.
SPELLINGS = ("127.0.0.1", "2130706433", "0x7f.1", "127.1", "0177.0.0.1", "017700000001", "[::ffff:127.0.0.1]")


@pytest.mark.parametrize("address", PRIVATE)
def test_what_is_inside_is_for_the_operator_to_allow(address: str) -> None:
    with pytest.raises(EgressDeniedError, match="allow_private_upstreams"):
        EgressPolicy.OUTSIDE.check(address)
    EgressPolicy.INSIDE.check(address)
    EgressPolicy.ANYWHERE.check(address)


@pytest.mark.parametrize("address", NEVER)
def test_what_is_of_the_link_or_the_cloud_is_the_operators_own(address: str) -> None:
    for reach in (EgressPolicy.OUTSIDE, EgressPolicy.INSIDE):
        with pytest.raises(EgressDeniedError):
            reach.check(address)
    EgressPolicy.ANYWHERE.check(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_what_is_outside_may_be_called(address: str) -> None:
    EgressPolicy.OUTSIDE.check(address)
    EgressPolicy.OUTSIDE.check_host(address)


@pytest.mark.parametrize("host", ["metadata.google.internal", "METADATA.google.internal.", "0xa9.0xfe.0xa9.0xfe"])
def test_the_metadata_of_a_cloud_is_known_by_its_names_too(host: str) -> None:
    with pytest.raises(EgressDeniedError):
        EgressPolicy.INSIDE.check_host(host)
    EgressPolicy.ANYWHERE.check_host(host)


def test_a_name_says_nothing_by_itself() -> None:
    for name in ("localhost", "example.org", "no such name", "ä.example", "x" * 300):
        EgressPolicy.OUTSIDE.check_host(name)


def port_of(upstream: FakeUpstream) -> str:
    return upstream.origin.rpartition(":")[2]


@pytest.mark.parametrize("host", ["rebinding.test", "localhost", *SPELLINGS])
async def test_nothing_is_sent_to_this_machine_however_it_is_called(
    host: str, upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    Names(monkeypatch).addresses["rebinding.test"] = ["127.0.0.1"]
    async with network(10, EgressPolicy.OUTSIDE) as transport:
        one = rig(transport, upstream_settings(f"http://{host}:{port_of(upstream)}/v1"))
        error = await failure(one.open())
    assert (error.status, error.headers["x-should-retry"]) == (502, "false")
    assert error.code in {"upstream_address_refused", "upstream_unreachable"}
    assert one.in_flight == 0
    assert upstream.connections == 0


async def test_a_name_with_an_address_inside_among_others_is_not_called(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    names.addresses["several.test"] = ["127.0.0.1", "169.254.169.254"]
    async with network(10, EgressPolicy.INSIDE) as transport:
        error = await failure(rig(transport, upstream_settings(f"http://several.test:{port_of(upstream)}/v1")).open())
    assert error.code == "upstream_address_refused"
    assert "169.254" not in f"{error!r} {error.__cause__!r} {error.__context__!r}"
    assert upstream.connections == 0


async def test_what_was_checked_is_what_is_connected_to(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = Names(monkeypatch)
    names.addresses["inside.test"] = ["127.0.0.1"]
    upstream.enqueue(Reply.json(200, {}))
    async with network(10, EgressPolicy.INSIDE) as transport:
        assert await rig(transport, upstream_settings(f"http://inside.test:{port_of(upstream)}/v1")).read()
    assert names.asked.count("inside.test") == 1
    assert upstream.requests[0].headers["host"] == f"inside.test:{port_of(upstream)}"


async def test_what_is_behind_tls_is_checked_alike(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(CERTIFICATE))
    Names(monkeypatch).addresses["upstream.test"] = ["127.0.0.1"]
    upstream.enqueue(Reply.json(200, {}))
    async with with_tls(int(port_of(upstream))) as port:
        settings = upstream_settings(f"https://upstream.test:{port}/v1")
        async with network(10, EgressPolicy.OUTSIDE) as transport:
            assert (await failure(rig(transport, settings).open())).code == "upstream_address_refused"
        assert upstream.connections == 0
        async with network(10, EgressPolicy.INSIDE) as transport:
            assert await rig(transport, settings).read()


async def test_a_proxy_is_where_the_operator_says_and_looks_names_up_itself(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", upstream.origin)
    upstream.enqueue(Reply.json(200, {}))
    monkeypatch.delenv("no_proxy", raising=False)
    async with network(10, EgressPolicy.OUTSIDE) as transport:
        assert await rig(transport, upstream_settings("http://outside.test/v1")).read()
        assert upstream.requests[0].path == "http://outside.test/v1/responses"
        for host in ("10.0.0.7", "0x0a.7", "[::ffff:169.254.169.254]"):
            error = await failure(rig(transport, upstream_settings(f"http://{host}/v1")).open())
            assert error.code == "upstream_address_refused"
    assert len(upstream.requests) == 1


async def test_no_tunnel_leads_to_an_address_inside(
    upstream: FakeUpstream, network: NetworkOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = Proxy(int(port_of(upstream)))
    async with passing_on(proxy.greet) as port:
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{port}")
        monkeypatch.delenv("no_proxy", raising=False)
        async with network(10, EgressPolicy.OUTSIDE) as transport:
            error = await failure(rig(transport, upstream_settings("https://192.168.0.1/v1")).open())
    assert error.code == "upstream_address_refused"
    assert proxy.asked == []


async def test_who_put_an_upstream_there_decides_and_no_connection_is_shared(upstream: FakeUpstream) -> None:
    async def ask(networks: ClientFactory, settings: UpstreamSettings) -> bytes:
        return await rig(networks.to(settings), settings).read()

    theirs = AdministeredUpstream(name="theirs", base_url=upstream.url, keys=(KeySettings(secret=SecretStr(KEYS[0])),))
    networks = ClientFactory(10, allow_private=False)
    upstream.enqueue(Reply.json(200, {}))
    assert await ask(networks, upstream_settings(upstream.url))
    assert upstream.open_connections == 1
    with_another_key = theirs.model_copy(update={"keys": (*theirs.keys, KeySettings(secret=SecretStr(KEYS[1])))})
    for settings in (theirs, with_another_key):
        assert (await failure(ask(networks, settings))).code == "upstream_address_refused"
    assert upstream.connections == 1
    await networks.aclose()


def test_an_account_is_another_one_when_its_upstream_changes_hands() -> None:
    members = upstream_settings().model_dump(exclude={"keys"})
    operators, administrators = UpstreamSettings(**members), AdministeredUpstream(**members)
    assert [*accounts_of(operators)] != [*accounts_of(administrators)]
