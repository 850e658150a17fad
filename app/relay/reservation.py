"""Hold what a call was granted, so that its end corrects that and nothing else, also in another process."""

from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Self

import msgspec

from app.relay.client import RawHeader
from app.state.limits import NEVER, Correction, Limit


@dataclass(frozen=True, slots=True)
class Reservation:
    """What a call was granted. `headers` tell its client what is left.

    `taken` is what can be corrected once it is known what the call used; of its tokens so many are its input's.
    `stream` is the id of the stream that counts.
    """

    headers: tuple[RawHeader, ...] = ()
    taken: tuple[Correction, ...] = ()
    input_tokens: int = 0
    stream: str = ""

    @classmethod
    def of_order(cls, drawn: bytes | None) -> Self:
        """What an order was granted, by its row. One of an older release does not say it: nothing is given back."""
        if drawn is None:
            return cls()
        input_tokens, taken = _DRAWN.decode(drawn)
        return cls(taken=taken, input_tokens=input_tokens)

    @property
    def drawn(self) -> bytes | None:
        """What the row of an order keeps, all but the stream: that is its listener's."""
        kept = [correction for correction in self.taken if correction.limit.unit != "streams"]
        return msgspec.json.encode((self.input_tokens, kept)) if kept else None

    @property
    def stream_end(self) -> tuple[Correction, ...]:
        """What has the stream counted no more."""
        return tuple([Correction(limit, -amount, at) for limit, amount, at in self.taken if limit.unit == "streams"])

    def with_limits(self, limits: Collection[Limit]) -> Self:
        """The same, with those of these limits that nothing was taken of: what the call uses counts there as well."""
        known = {correction.limit.key for correction in self.taken}
        newer = [Correction(limit, 0, NEVER) for limit in limits if limit.key not in known]
        return replace(self, taken=(*self.taken, *newer)) if newer else self


_DRAWN = msgspec.json.Decoder(tuple[int, tuple[Correction, ...]])
NOTHING = Reservation()
"""That of a caller without limits."""
