"""Ed25519 keys (RFC 8032): signing, verifying, their ids, and their texts.

A public key's text is its 32 bytes in base64url without padding, 43 characters. Its id is the first 16 hex
digits of the SHA-256 of its bytes. A private key is stored as PEM of PKCS #8 without a passphrase, as
`openssl genpkey -algorithm ed25519` writes it.
"""

import base64
import binascii
import hashlib
from typing import Final, Self

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

SIGNATURE_CHARACTERS: Final = 86
"""Length of a signature's 64 bytes in base64url."""


class PublicKey:
    """A public key. Equal if the bytes are.

    Args:
        raw: 32 bytes.

    Attributes:
        id: 16 hex digits.
        text: 43 characters.
    """

    def __init__(self, raw: bytes) -> None:
        self._key = Ed25519PublicKey.from_public_bytes(raw)
        self.id = hashlib.sha256(raw).hexdigest()[:16]
        self.text = encoded(raw)

    @classmethod
    def from_text(cls, text: str) -> Self:
        """Read a key's text.

        Raises:
            ValueError: it is none, or not written as `text` is.
        """
        return cls(decoded(text, 32))

    def verifies(self, signature: str, data: bytes) -> bool:
        """Whether a signature (86 characters of base64url) of `data` is by this key."""
        try:
            self._key.verify(decoded(signature, 64), data)
        except (InvalidSignature, ValueError):
            return False
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, PublicKey) and self.text == other.text

    def __hash__(self) -> int:
        return hash(self.text)

    def __repr__(self) -> str:
        return f"PublicKey({self.text})"


class SigningKey:
    """A private key, with its public one. Its representation shows no secret.

    Attributes:
        public: what others verify by.
    """

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key
        self.public = PublicKey(key.public_key().public_bytes_raw())

    @classmethod
    def generate(cls) -> Self:
        """Make a key. The text of its public key begins not with `-`, as an option of a command does."""
        while True:
            key = cls(Ed25519PrivateKey.generate())
            if not key.public.text.startswith("-"):
                return key

    @classmethod
    def from_seed(cls, seed: bytes) -> Self:
        """Make the key of a seed of 32 bytes (RFC 8032, section 5.1.5); else ValueError."""
        return cls(Ed25519PrivateKey.from_private_bytes(seed))

    @classmethod
    def from_pem(cls, pem: bytes) -> Self:
        """Read a private key.

        Raises:
            ValueError: it is not PEM of an Ed25519 key without a passphrase; the text quotes nothing of it.
        """
        try:
            key = serialization.load_pem_private_key(pem, password=None)
        except (ValueError, TypeError) as error:
            raise ValueError("it is not PEM of a private key without a passphrase") from error
        if not isinstance(key, Ed25519PrivateKey):
            raise ValueError("it is a private key of another kind than Ed25519")  # noqa: TRY004 -- content
        return cls(key)

    def pem(self) -> bytes:
        """Return the private key for its file."""
        return self._key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )

    def seed(self) -> bytes:
        """Return the 32 bytes that the key is made of; secret."""
        return self._key.private_bytes_raw()

    def sign(self, data: bytes) -> str:
        """Sign `data`: 86 characters of base64url."""
        return encoded(self._key.sign(data))

    def __repr__(self) -> str:
        return f"SigningKey(of {self.public.text})"


def encoded(raw: bytes) -> str:
    """Return bytes in base64url without padding (RFC 4648, section 5)."""
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode("ascii")


def decoded(text: str, size: int) -> bytes:
    """Read `size` bytes of base64url, written as `encoded` writes them: each value has one text.

    Raises:
        ValueError: it is anything else.
    """
    try:
        raw = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (binascii.Error, ValueError) as error:
        raise ValueError("not base64url") from error
    # Python skips foreign characters, and does not mind bits beyond the last byte.
    if len(raw) != size or encoded(raw) != text:
        raise ValueError(f"not {size} bytes of base64url")
    return raw
