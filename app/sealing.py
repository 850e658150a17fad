"""Encrypt under the master secret what clients bring back and what the database keeps.

What was written under an earlier master secret stays readable (ADR 34): its keys are in the database's key ring.
"""

import binascii
import hashlib
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Self

from app.errors import AntiphonError
from app.state.compaction import SEAL

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_KEY_BYTES = 32
_NONCE_BYTES = 12
_VERSION = "v1"


class SealError(AntiphonError):
    """The text was not sealed by this gateway for this purpose, or is no longer what was sealed."""


class Cipher:
    """AES-256-GCM under a key that is derived (HKDF) from a master secret for one purpose, its label.

    Sealed is the nonce, the ciphertext and its tag in URL-safe base64. Nonces are random: a key is good for some four
    billion of them.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    @classmethod
    def of(cls, secret: bytes, label: bytes) -> Self:
        """The cipher of this secret for this purpose."""
        # RFC 5869 with SHA-256, no salt and one block. The library that has it takes 30 ms to load, at every start.
        extracted = hmac.digest(bytes(_KEY_BYTES), secret, hashlib.sha256)
        return cls(hmac.digest(extracted, label + b"\x01", hashlib.sha256))

    def seal(self, owner: str, content: bytes) -> str:
        """The content as a text that only `open` for the same owner can read."""
        nonce = os.urandom(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._aead.encrypt(nonce, content, owner.encode())).decode()

    def open(self, owner: str, sealed: str) -> bytes:
        """The content of a sealed text. Raises SealError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see _aead

        try:
            raw = urlsafe_b64decode(sealed)
            return self._aead.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], owner.encode())
        # ValueError: too short for a nonce, or not ASCII.
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SealError from error

    @cached_property
    def _aead(self) -> "AESGCM":
        # Not at the top: it would cost every start 30 ms, and few gateways ever seal.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above

        return AESGCM(self.key)


@dataclass(frozen=True, slots=True)
class SecretKeys:
    """The keys that one master secret stands for, by its fingerprint.

    The `pepper` keys the hashes of API keys, `clients` seals what clients hold, `stored` what the database keeps. The
    fingerprint tells secrets apart without giving one away.
    """

    fingerprint: str
    pepper: bytes = field(repr=False)
    clients: Cipher
    stored: Cipher

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """The keys of this secret."""
        pepper = hmac.digest(secret, b"antiphon api keys v1", hashlib.sha256)
        clients, stored = (
            Cipher.of(secret, label) for label in (b"antiphon sealed content v1", b"antiphon stored secrets v1")
        )
        return cls(_fingerprint(pepper), pepper, clients, stored)

    @classmethod
    def unpacked(cls, packed: bytes) -> Self:
        """The keys that `packed` made this of."""
        pepper, clients, stored = (packed[at : at + _KEY_BYTES] for at in range(0, 3 * _KEY_BYTES, _KEY_BYTES))
        return cls(_fingerprint(pepper), pepper, Cipher(clients), Cipher(stored))

    def packed(self) -> bytes:
        """All of them as one text, to be sealed."""
        return self.pepper + self.clients.key + self.stored.key


def _fingerprint(pepper: bytes) -> str:
    return hmac.digest(pepper, b"fingerprint", hashlib.sha256).hex()[:16]


class KeyRing:
    """The keys of every master secret that this process reads with. It writes under those of the one that is `named`.

    The settings have its own secrets, the `present` one and those before it. `load` says which one the database names,
    and adds the keys of secrets that no setting has any more. Until then the present one is the named one.
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        own = [(each, SecretKeys.of(each)) for each in (secret, *previous)]
        self._wrappers = {keys.fingerprint: Cipher.of(each, b"antiphon key ring v1") for each, keys in own}
        self._keys = {keys.fingerprint: keys for _, keys in own}
        self.named = own[0][1]
        self.present = self.named.fingerprint

    def load(self, named: str, kept: Mapping[str, str]) -> None:
        """Write under the secret of this fingerprint, and read with those whose keys are `kept`, as `unkept` made them.

        Raises SealError, which names the fingerprints of both, where the keys of the named one are not to be had.
        """
        for place, sealed in kept.items():
            of, _, under = place.partition(".")
            if under in self._wrappers and of not in self._keys:
                # One that was damaged is as good as none.
                with suppress(SealError):
                    self._keys[of] = SecretKeys.unpacked(self._wrappers[under].open(of, sealed))
        if named not in self._keys:
            raise SealError(f"The database was made with {named}, this secret is {self.present}.")
        self.named = self._keys[named]

    def unkept(self, kept: Mapping[str, str]) -> dict[str, str]:
        """The keys of all other secrets, sealed under the present one, without those that are `kept` so.

        By place: the fingerprint of the secret and of the one that its keys are sealed under, with a dot between.
        """
        missing = {name: f"{name}.{self.present}" for name in self._keys if name != self.present}
        wrapper = self._wrappers[self.present]
        return {
            place: wrapper.seal(name, self._keys[name].packed()) for name, place in missing.items() if place not in kept
        }

    def is_own(self, fingerprint: str) -> bool:
        """Whether the settings have this secret, and not the database alone its keys."""
        return fingerprint in self._wrappers

    def get(self, fingerprint: str) -> SecretKeys | None:
        """The keys of this secret, if they are to be had."""
        return self._keys.get(fingerprint)

    @property
    def others(self) -> Sequence[SecretKeys]:
        """The keys of all secrets but the named one."""
        return [keys for keys in self._keys.values() if keys is not self.named]


class Sealer:
    """What a client is given to bring back, each project's apart: `SEAL` and the sealed text."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, project_id: str, content: bytes) -> str:
        """The content as a text that only `open` for the same project can read."""
        return SEAL + self._ring.named.clients.seal(project_id, content)

    def open(self, project_id: str, sealed: str) -> bytes:
        """The content of a sealed text. Raises SealError."""
        text = sealed.removeprefix(SEAL)
        for keys in self._ring.others:
            with suppress(SealError):
                return keys.clients.open(project_id, text)
        return self._ring.named.clients.open(project_id, text)


class Vault:
    """Secrets in the database: `v1.<fingerprint of the master secret>.<sealed text>`, each bound to its row's id."""

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    def seal(self, row_id: str, content: str) -> str:
        """The content under the named secret."""
        named = self._ring.named
        return f"{_VERSION}.{named.fingerprint}.{named.stored.seal(row_id, content.encode())}"

    def open(self, row_id: str, sealed: str) -> str:
        """The content. Raises SealError, which names the fingerprints of both secrets where they differ."""
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
        """Whether this is sealed under the named secret."""
        return sealed_under(sealed) == self._ring.named.fingerprint


def sealed_under(sealed: str) -> str:
    """The fingerprint of the master secret under which a vault sealed this."""
    return sealed.partition(".")[2].partition(".")[0]
