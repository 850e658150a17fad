"""Encrypt under the master secret what clients bring back and what the database keeps.

Text that was sealed under an earlier master secret stays readable (ADR 34): its keys are in the database's key ring.
"""

from contextlib import suppress

from app.security.cipher import SealError
from app.security.key_ring import KeyRing
from app.state.items.compacted import SEAL

_VERSION = "v1"


class Sealer:
    """Seal what a client is given to bring back, per project: `SEAL` and the sealed text."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, project_id: str, content: bytes) -> str:
        """Encrypt the content to a text that only `open` for the same project can read."""
        return SEAL + self._ring.named.clients.seal(project_id, content)

    def open(self, project_id: str, sealed: str) -> bytes:
        """Decrypt a sealed text. Raises SealError."""
        text = sealed.removeprefix(SEAL)
        for keys in self._ring.others:
            with suppress(SealError):
                return keys.clients.open(project_id, text)
        return self._ring.named.clients.open(project_id, text)


class Vault:
    """Seal secrets in the database as `v1.<fingerprint of the master secret>.<sealed text>`, bound to the row's id."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, row_id: str, content: str) -> str:
        """Encrypt the content under the named secret."""
        named = self._ring.named
        return f"{_VERSION}.{named.fingerprint}.{named.stored.seal(row_id, content.encode())}"

    def open(self, row_id: str, sealed: str) -> str:
        """Decrypt the content. Raises SealError, which names the fingerprints of both secrets where they differ."""
        version, _, rest = sealed.partition(".")
        fingerprint, _, text = rest.partition(".")
        if version != _VERSION:
            raise SealError("it is not in a form that this version knows")
        keys = self._ring.get(fingerprint)
        if keys is None:
            raise SealError(f"it was sealed under the secret {fingerprint}, and this one is {self._ring.present}")
        try:
            return keys.stored.open(row_id, text).decode()
        except SealError as error:
            raise SealError(f"it is not what was sealed under the secret {fingerprint}") from error

    def is_current(self, sealed: str) -> bool:
        """Tell whether this is sealed under the named secret."""
        return sealed_under(sealed) == self._ring.named.fingerprint


def sealed_under(sealed: str) -> str:
    """Return the fingerprint of the master secret under which a vault sealed this."""
    return sealed.partition(".")[2].partition(".")[0]
