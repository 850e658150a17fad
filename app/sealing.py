"""What is encrypted under the master secret: what clients bring back, and what the database keeps. Not what it says."""

import binascii
import os
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING

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
    """AES-256-GCM under a key that is derived (HKDF) from the secret for one purpose, its label.

    Sealed is the nonce, the ciphertext and its tag in URL-safe base64. Nonces are random: a key is good for some four
    billion of them.
    """

    def __init__(self, secret: bytes, label: bytes) -> None:
        self._secret = secret
        self._label = label

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
        from cryptography.hazmat.primitives.hashes import SHA256  # noqa: PLC0415
        from cryptography.hazmat.primitives.kdf.hkdf import HKDF  # noqa: PLC0415

        return AESGCM(HKDF(SHA256(), _KEY_BYTES, salt=None, info=self._label).derive(self._secret))


class Sealer:
    """What a client is given to bring back, each project's apart: `SEAL` and the sealed text.

    What was given out under `previous` secrets is still read.
    """

    def __init__(self, secret: bytes, previous: Sequence[bytes] = ()) -> None:
        self._ciphers = [Cipher(each, b"antiphon sealed content v1") for each in (secret, *previous)]

    def seal(self, project_id: str, content: bytes) -> str:
        """The content as a text that only `open` for the same project can read."""
        return SEAL + self._ciphers[0].seal(project_id, content)

    def open(self, project_id: str, sealed: str) -> bytes:
        """The content of a sealed text. Raises SealError."""
        text = sealed.removeprefix(SEAL)
        for cipher in self._ciphers[:-1]:
            with suppress(SealError):
                return cipher.open(project_id, text)
        return self._ciphers[-1].open(project_id, text)


class Vault:
    """Secrets in the database: `v1.<fingerprint of the master secret>.<sealed text>`, each bound to its row's id.

    `secrets` are the master secrets by their fingerprints, the present one first. The others are those it replaced:
    what was sealed under them is still read.
    """

    def __init__(self, secrets: Mapping[str, bytes]) -> None:
        self._ciphers = {name: Cipher(secret, b"antiphon stored secrets v1") for name, secret in secrets.items()}
        self.fingerprint = next(iter(secrets))

    def seal(self, row_id: str, content: str) -> str:
        """The content under the present secret."""
        return f"{_VERSION}.{self.fingerprint}.{self._ciphers[self.fingerprint].seal(row_id, content.encode())}"

    def open(self, row_id: str, sealed: str) -> str:
        """The content. Raises SealError, which names the fingerprints of both secrets where they differ."""
        version, _, rest = sealed.partition(".")
        fingerprint, _, text = rest.partition(".")
        if version != _VERSION:
            raise SealError("it is not in a form that this version knows")
        if fingerprint not in self._ciphers:
            raise SealError(f"it was sealed under the secret {fingerprint}, and this one is {self.fingerprint}")
        try:
            return self._ciphers[fingerprint].open(row_id, text).decode()
        except SealError as error:
            raise SealError(f"it is not what was sealed under the secret {fingerprint}") from error

    def is_current(self, sealed: str) -> bool:
        """Whether this is sealed under the present secret."""
        return sealed.startswith(f"{_VERSION}.{self.fingerprint}.")
