"""Seal and open one text under one key: AES-256-GCM, by a key that is derived from a secret."""

import binascii
import hashlib
import hmac
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cached_property
from typing import TYPE_CHECKING, Self

from app.errors import AntiphonError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(AntiphonError):
    """Refuse a text that this gateway has not sealed for this purpose, or that was changed since."""


class Cipher:
    """Seal and open texts by AES-256-GCM under a key derived (HKDF) from a master secret for one purpose, its label.

    Sealed is the nonce, the ciphertext and its tag in URL-safe base64. Nonces are random: a key is good for some four
    billion of them.
    """

    def __init__(self, key: bytes) -> None:
        self.key = key

    @classmethod
    def of(cls, secret: bytes, label: bytes) -> Self:
        """Derive the cipher of this secret for this purpose."""
        # RFC 5869 with SHA-256, no salt and one block. The library that has it takes 30 ms to load, at every start.
        extracted = hmac.digest(bytes(KEY_BYTES), secret, hashlib.sha256)
        return cls(hmac.digest(extracted, label + b"\x01", hashlib.sha256))

    def seal(self, owner: str, content: bytes) -> str:
        """Encrypt the content to a text that only `open` for the same owner can read."""
        nonce = os.urandom(_NONCE_BYTES)
        return urlsafe_b64encode(nonce + self._aead.encrypt(nonce, content, owner.encode())).decode()

    def open(self, owner: str, sealed: str) -> bytes:
        """Decrypt a sealed text. Raises SealError."""
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
