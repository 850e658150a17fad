"""Keep the keys of the present master secret and of earlier ones: a change of the secret loses nothing (ADR 34)."""

import hashlib
import hmac
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Self

from app.security.cipher import KEY_BYTES, Cipher, SealError


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """Hold the keys derived from one master secret, by its fingerprint.

    The `pepper` keys the hashes of API keys, `clients` seals what clients hold, `stored` what the database keeps. The
    fingerprint tells secrets apart without giving one away.
    """

    fingerprint: str
    pepper: bytes = field(repr=False)
    clients: Cipher
    stored: Cipher

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """Derive the keys of this secret."""
        pepper = hmac.digest(secret, b"antiphon api keys v1", hashlib.sha256)
        clients, stored = (
            Cipher.of(secret, label) for label in (b"antiphon sealed content v1", b"antiphon stored secrets v1")
        )
        return cls(_fingerprint(pepper), pepper, clients, stored)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """Unpack the keys that `packed` has packed."""
        pepper, clients, stored = (packed[at : at + KEY_BYTES] for at in range(0, 3 * KEY_BYTES, KEY_BYTES))
        return cls(_fingerprint(pepper), pepper, Cipher(clients), Cipher(stored))

    def packed(self) -> bytes:
        """Pack all keys into one text, to be sealed."""
        return self.pepper + self.clients.key + self.stored.key


def _fingerprint(pepper: bytes) -> str:
    return hmac.digest(pepper, b"fingerprint", hashlib.sha256).hex()[:16]


class KeyRing:
    """Hold the keys of every master secret that this process reads with; it writes with those of the `named` one.

    The settings have secrets of their own, the `present` one and those before it. `load` sets which one the database
    names, and adds the keys of secrets that no setting has any more. Until then the present one is the named one.
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        own = [(each, SecretKeys.of(each)) for each in (secret, *previous)]
        self._wrappers = {keys.fingerprint: Cipher.of(each, b"antiphon key ring v1") for each, keys in own}
        self._keys = {keys.fingerprint: keys for _, keys in own}
        self.named = own[0][1]
        self.present = self.named.fingerprint

    def load(self, named: str, kept: Mapping[str, str]) -> None:
        """Write with the secret of this fingerprint, and read with the keys that are `kept`, as `unkept` made them.

        Raises SealError, which names the fingerprints of both, where the keys of the named secret are not available.
        """
        for place, sealed in kept.items():
            of, _, under = place.partition(".")
            if under in self._wrappers and of not in self._keys:
                # A damaged entry is as good as none.
                with suppress(SealError):
                    self._keys[of] = SecretKeys.unpacked(self._wrappers[under].open(of, sealed))
        if named not in self._keys:
            raise SealError(f"The database was made with {named}, this secret is {self.present}.")
        self.named = self._keys[named]

    def unkept(self, kept: Mapping[str, str]) -> dict[str, str]:
        """Seal the keys of all other secrets under the present one, without those that are `kept` so.

        By place: the fingerprint of the secret and of the one that its keys are sealed under, with a dot between.
        """
        missing = {name: f"{name}.{self.present}" for name in self._keys if name != self.present}
        wrapper = self._wrappers[self.present]
        return {
            place: wrapper.seal(name, self._keys[name].packed()) for name, place in missing.items() if place not in kept
        }

    def is_own(self, fingerprint: str) -> bool:
        """Tell whether the settings have this secret, rather than only the database its keys."""
        return fingerprint in self._wrappers

    def get(self, fingerprint: str) -> SecretKeys | None:
        """Return the keys of this secret, if they are available."""
        return self._keys.get(fingerprint)

    @property
    def others(self) -> Sequence[SecretKeys]:
        """Return the keys of all secrets but the named one."""
        return [keys for keys in self._keys.values() if keys is not self.named]
