"""The proxies on the way to an upstream, as the environment names them. Must not know how one is spoken to."""

from urllib.request import getproxies, proxy_bypass

import httpx


class EnvironmentProxies:
    """What `http_proxy`, `https_proxy` and `no_proxy` said when this was made. Credentials are part of a URL."""

    def __init__(self) -> None:
        self._urls = {
            scheme: httpx.URL(url if "://" in url else f"http://{url}")
            for scheme, url in getproxies().items()
            if scheme in {"http", "https"}
        }

    def on_the_way_to(self, url: httpx.URL) -> httpx.URL | None:
        """The proxy for this URL; None when the way is direct."""
        proxy = self._urls.get(url.scheme)
        return None if proxy is None or proxy_bypass(url.host) else proxy
