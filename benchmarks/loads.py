"""The loads that are compared: what is asked, how many at once, of which targets."""

from collections.abc import Mapping
from dataclasses import dataclass

from benchmarks.stage import BRIDGE, DIRECT, HAPROXY, LITELLM, NGINX, OGX, POSTGRES, SQLITE

_RELAYED = (DIRECT, HAPROXY, NGINX, SQLITE)
_STORED = (DIRECT, HAPROXY, SQLITE, POSTGRES)
_PEERS = (DIRECT, HAPROXY, SQLITE, LITELLM, OGX)
_STORING_PEERS = (DIRECT, HAPROXY, SQLITE, OGX)
_BRIDGED = (DIRECT, SQLITE, BRIDGE)
_BRIDGES = (DIRECT, BRIDGE, LITELLM)


@dataclass(frozen=True)
class Load:
    """`connections` at once, `each` requests on every one of them, of which a slow target gets its share.

    `rate` requests a second over all connections, alike for all targets; without it the next follows the last answer.
    CPU is counted for each request, or for each event. Targets take turns, so often. All is sent to one `path`.
    """

    name: str
    targets: tuple[str, ...]
    body: Mapping[str, object]
    connections: int
    each: int
    repetitions: int = 3
    rate: float | None = None
    paced: bool = False
    per_event: bool = False
    path: str = "/v1/responses"

    def each_of(self, share: float) -> int:
        """How many requests a connection sends to a target of this share. A paced load is no longer for a fast one."""
        return max(1, round(self.each * (min(share, 1) if self.paced or self.rate else share)))


def asked(given: object = "Tell me a story about a unicorn.", /, **members: object) -> dict[str, object]:
    """A request's body."""
    return {"input": given, **members}


def streamed(events: int, pause_ms: int | None = None, /, **members: object) -> dict[str, object]:
    """A request for a stream of so many events, as the upstream reads it."""
    pace = f" pause_ms={pause_ms}" if pause_ms else ""
    return asked(f"Tell me a story about a unicorn. events={events}{pace}", stream=True, **members)


def _json(targets: tuple[str, ...], name: str, **members: object) -> tuple[Load, Load]:
    body = asked(**members)
    return (
        # A sleeping core takes longer to wake at one time than at another: many short turns even that out.
        Load(f"JSON, {name}, 1 in flight", targets, body, 1, 200, repetitions=15),
        Load(f"JSON, {name}, 32 in flight", targets, body, 32, 150),
    )


def _steady(targets: tuple[str, ...], name: str, **members: object) -> Load:
    return Load(f"JSON, {name}, 300 a second", targets, asked(**members), 32, 18, rate=300)


def _paced(targets: tuple[str, ...], name: str, **members: object) -> Load:
    body = streamed(50, 20, **members)
    return Load(f"200 paced streams, {name}, per event", targets, body, 200, 2, paced=True, per_event=True)


def _unpaced(targets: tuple[str, ...], name: str, **members: object) -> Load:
    body = streamed(100, **members)
    return Load(f"32 unpaced streams, {name}, per event", targets, body, 32, 15, per_event=True)


def _to_chat(targets: tuple[str, ...]) -> tuple[Load, ...]:
    """Chat completions and embeddings, which are relayed as they come."""
    said = "Tell me a story about a unicorn."
    chat, embeddings = "/v1/chat/completions", "/v1/embeddings"

    def messages(text: str = said, **members: object) -> dict[str, object]:
        return {"messages": [{"role": "user", "content": text}], **members}

    paced, unpaced = (messages(f"{said} events={pace}", stream=True) for pace in ("50 pause_ms=20", "100"))
    return (
        Load("JSON, chat, 32 in flight", targets, messages(), 32, 150, path=chat),
        Load("200 paced streams, chat, per event", targets, paced, 200, 2, paced=True, per_event=True, path=chat),
        Load("32 unpaced streams, chat, per event", targets, unpaced, 32, 15, per_event=True, path=chat),
        Load("embeddings, 32 in flight", targets, asked(), 32, 150, path=embeddings),
    )


STORED_LOADS = (*_json(_STORED, "stored"), _steady(_STORED, "stored"))

LOADS = (
    *_json(_RELAYED, "store: false", store=False),
    _steady(_RELAYED, "store: false", store=False),
    *STORED_LOADS,
    _paced(_RELAYED, "store: false", store=False),
    _paced(_STORED, "stored"),
    _unpaced(_RELAYED, "store: false", store=False),
    _unpaced(_STORED, "stored"),
    *_to_chat(_RELAYED),
    # The same call beside the one that is translated.
    _json(_BRIDGED, "bridged to chat, store: false", store=False)[1],
    _paced(_BRIDGED, "bridged to chat, store: false", store=False),
    _unpaced(_BRIDGED, "bridged to chat, store: false", store=False),
)

PEER_LOADS = (
    *_json(_PEERS, "store: false", store=False),
    *_json(_STORING_PEERS, "stored"),
    _paced(_PEERS, "store: false", store=False),
    _json(_BRIDGES, "bridged to chat, store: false", store=False)[1],
    _paced(_BRIDGES, "bridged to chat, store: false", store=False),
)
