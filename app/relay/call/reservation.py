"""Keep what a call was granted of its limits, so that its end corrects exactly that, also in another process."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from typing import Self

import msgspec

from app.relay.stream.client import RawHeader
from app.state.limit_windows import NEVER, Correction, Limit

_RATE_LIMITS = b"x-ratelimit-"


@dataclass(frozen=True, slots=True)
class Grant:
    """Hold what a call was granted. `headers` tell its client what is left.

    `reserved` is corrected once it is known what the call used; `input_tokens` is the input's share of its tokens.
    `stream` is the id of the stream that counts.
    """

    headers: tuple[RawHeader, ...] = ()
    reserved: tuple[Correction, ...] = ()
    input_tokens: int = 0
    stream: str = ""

    @classmethod
    def of_run(cls, drawn: bytes | None) -> Self:
        """Read the grant of a run from its row. A row of an older release has none: nothing is given back."""
        if drawn is None:
            return cls()
        input_tokens, reserved = _DRAWN.decode(drawn)
        return cls(reserved=reserved, input_tokens=input_tokens)

    @property
    def drawn(self) -> bytes | None:
        """Return what the row of a run keeps: all but the stream, which is its listener's."""
        kept = [correction for correction in self.reserved if correction.limit.unit != "streams"]
        return msgspec.json.encode((self.input_tokens, kept)) if kept else None

    @property
    def stream_end(self) -> tuple[Correction, ...]:
        """Return the corrections that end the count of the stream."""
        return tuple([Correction(limit, -amount, at) for limit, amount, at in self.reserved if limit.unit == "streams"])

    def with_limit_headers(self, headers: Iterable[RawHeader]) -> list[RawHeader]:
        """Replace upstream's rate limit headers by the caller's, where the caller has limits of its own."""
        ours = self.headers
        if not ours:
            return [*headers]
        return [*(header for header in headers if not header[0].startswith(_RATE_LIMITS)), *ours]

    def with_limits(self, limits: Collection[Limit]) -> Self:
        """Add limits that nothing was reserved of: what the call uses counts there as well."""
        known = {correction.limit.key for correction in self.reserved}
        newer = [Correction(limit, 0, NEVER) for limit in limits if limit.key not in known]
        return replace(self, reserved=(*self.reserved, *newer)) if newer else self


_DRAWN = msgspec.json.Decoder(tuple[int, tuple[Correction, ...]])
NOTHING = Grant()
"""The grant of a caller without limits."""
