"""The environment's proxies: which one is on the way, and which cannot be used."""

import httpx
import pytest

from app.errors import ConfigurationError
from app.upstream.http.proxies import EnvironmentProxies

PLAIN, SECURE = httpx.URL("http://upstream.test/v1"), httpx.URL("https://upstream.test/v1")


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


def ways() -> list[str | None]:
    proxies = EnvironmentProxies()
    return [None if way is None else str(way) for way in map(proxies.on_the_way_to, (PLAIN, SECURE))]


def test_without_a_proxy_the_way_is_direct() -> None:
    assert ways() == [None, None]


@pytest.mark.parametrize("name", ["all_proxy", "ALL_PROXY"])
def test_the_proxy_for_all_is_on_every_way_that_has_none_of_its_own(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "http://all.test:1")
    assert ways() == ["http://all.test:1"] * 2
    monkeypatch.setenv("HTTPS_PROXY", "http://secure.test:2")
    assert ways() == ["http://all.test:1", "http://secure.test:2"]
    monkeypatch.setenv("https_proxy", "https://first.test:3")
    assert ways() == ["http://all.test:1", "https://first.test:3"]
    monkeypatch.setenv("no_proxy", "upstream.test")
    assert ways() == [None, None]


def test_an_empty_proxy_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "")
    monkeypatch.setenv("ALL_PROXY", "all.test:1")
    assert ways() == ["http://all.test:1"] * 2
    monkeypatch.setenv("ALL_PROXY", "")
    assert ways() == [None, None]


@pytest.mark.parametrize("url", ["socks5://me:secret@p.test:1", "socks5h://p.test", "socks4://p.test", "ftp://p.test"])
@pytest.mark.parametrize("name", ["ALL_PROXY", "HTTPS_PROXY", "HTTP_PROXY"])
def test_a_proxy_of_another_kind_is_not_passed_by_in_silence(
    name: str, url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, url)
    with pytest.raises(ConfigurationError, match=f"^{name} names a (socks|ftp)[^\n]*http and https only") as caught:
        EnvironmentProxies()
    assert len(caught.value.problems) == 1
    assert "secret" not in str(caught.value)
    # One that is on no way is nobody's concern.
    monkeypatch.setenv("NO_PROXY", "*")
    assert ways() == [None, None]


def test_a_proxy_for_all_that_every_way_has_another_for_is_not_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://p.test")
    monkeypatch.setenv("HTTP_PROXY", "http://p.test")
    monkeypatch.setenv("HTTPS_PROXY", "http://p.test")
    assert ways() == ["http://p.test"] * 2


@pytest.mark.parametrize("url", ["http://:3128", "http://p.test:port", "http://"])
def test_what_is_no_url_of_a_proxy_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", url)
    with pytest.raises(ConfigurationError, match="HTTPS_PROXY"):
        EnvironmentProxies()
