"""Who may make a call now: the limits of a key and of its project. Must not know what the call says."""

from dataclasses import dataclass

from app.state.ledger import Entry
from app.state.records import ApiKey
from app.wire.requests import CreateRequest


@dataclass(slots=True)
class Reservation:
    """What a call was granted. `headers` tell its client what is left."""

    headers: tuple[tuple[bytes, bytes], ...] = ()


class Limiter:
    """Grants calls, and settles them by what they used."""

    async def admit(self, caller: ApiKey, request: CreateRequest) -> Reservation:
        """Grant one call. Raises LimitError (429), and InvalidRequestError for what this key may not ask."""
        return Reservation()

    def reservation(self, caller: ApiKey, request: CreateRequest, at: int) -> Reservation:
        """What a call in the background was granted when it was ordered, at this time (unix seconds)."""
        return Reservation()

    async def settle(self, reservation: Reservation, entry: Entry) -> None:
        """Take what the call used in place of what was reserved for it."""
