"""What the gateway gives out to be brought back, and that nobody else may read or make. Must not know what it says."""

import binascii
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from functools import cached_property
from typing import TYPE_CHECKING

from app.errors import AntiphonError
from app.state.compaction import SEAL

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

_LABEL = b"antiphon sealed content v1"
_KEY_BYTES = 32
_NONCE_BYTES = 12


class SealError(AntiphonError):
    """The text was not sealed by this gateway for this project, or is no longer what was sealed."""


class Sealer:
    """Authenticated encryption (AES-256-GCM) under a key of the master secret's, each project's apart.

    A sealed text is `SEAL`, then the nonce, the ciphertext and its tag in URL-safe base64. Nonces are random: a key is
    good for some four billion of them.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def seal(self, project_id: str, content: bytes) -> str:
        """The content as a text that only `open` for the same project can read."""
        nonce = os.urandom(_NONCE_BYTES)
        return SEAL + urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, content, project_id.encode())).decode()

    def open(self, project_id: str, sealed: str) -> bytes:
        """The content of a sealed text. Raises SealError."""
        from cryptography.exceptions import InvalidTag  # noqa: PLC0415 - see _cipher

        try:
            raw = urlsafe_b64decode(sealed.removeprefix(SEAL))
            return self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], project_id.encode())
        # ValueError: too short for a nonce, or not ASCII.
        except (InvalidTag, binascii.Error, ValueError) as error:
            raise SealError from error

    @cached_property
    def _cipher(self) -> "AESGCM":
        # Not at the top: it would cost every start 30 ms, and few gateways ever seal.
        from cryptography.hazmat.primitives.ciphers.aead import AESGCM  # noqa: PLC0415 - see above
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        return AESGCM(HKDF(SHA256(), _KEY_BYTES, salt=None, info=_LABEL).derive(self._secret))
