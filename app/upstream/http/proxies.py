"""Find the proxy on the way to an upstream, as the environment variables name it."""

from urllib.request import getproxies, proxy_bypass

import httpx

from app.errors import ConfigurationError

_SCHEMES = ("http", "https")


class EnvironmentProxies:
    """Read `http_proxy`, `https_proxy`, `all_proxy` and `no_proxy` once, when this is made.

    `all_proxy` is for a scheme without its own. Credentials are part of a URL.
    """

    def __init__(self) -> None:
        """Raise ConfigurationError for an unusable proxy: calls would go past it, or nowhere."""
        named = getproxies()
        self._urls: dict[str, httpx.URL] = {}
        problems: list[str] = []
        for scheme in _SCHEMES:
            own = scheme if named.get(scheme) else "all"
            if url := named.get(own):
                try:
                    self._urls[scheme] = _read(url)
                except ConfigurationError as error:
                    problems.append(f"{own.upper()}_PROXY {error}")
        # `no_proxy=*` switches all proxies off.
        if problems and not proxy_bypass("any.invalid"):
            raise ConfigurationError(*dict.fromkeys(problems))

    def on_the_way_to(self, url: httpx.URL) -> httpx.URL | None:
        """Return the proxy for this URL; None when the way is direct."""
        proxy = self._urls.get(url.scheme)
        return None if proxy is None or proxy_bypass(url.host) else proxy


def _read(text: str) -> httpx.URL:
    """Parse the URL of a proxy, by default http. Errors do not quote its credentials."""
    try:
        url = httpx.URL(text if "://" in text else f"http://{text}")
    except httpx.InvalidURL:
        raise ConfigurationError("is not the URL of a proxy.") from None
    if url.scheme not in _SCHEMES:
        raise ConfigurationError(
            f"names a {url.scheme} proxy. Antiphon speaks to proxies by http and https only: name one of those, or "
            "unset it to reach upstreams directly."
        )
    if not url.host:
        raise ConfigurationError("names no host.")
    return url
