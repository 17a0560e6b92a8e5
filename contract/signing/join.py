"""How a node's key comes to be believed: by a join token, or by the key that it replaces.

A join token is `vxj1_`, the controllers' public key, `_`, and a seed (43 characters each). The seed is a
private key whose public key the controllers store: they cannot make proofs, and a copy of their database
lets nobody join.
"""

from typing import Final, Self

from contract.messages import JoinProof, KeyChange
from contract.signing.keys import PublicKey, SigningKey, decoded, encoded

_MARK: Final = "vxj1_"
_TEXT_LENGTH: Final = len(_MARK) + 43 + 1 + 43
_JOIN_DOMAIN: Final = b"vxlan-operator/join/1\0"
_CHANGE_DOMAIN: Final = b"vxlan-operator/change/1\0"


class JoinToken:
    """A join token. Its representation shows no secret.

    Attributes:
        controllers: the key that a joining node believes.
        public: of the seed; controllers store it, and its `id` names the token.
    """

    def __init__(self, controllers: PublicKey, seed: SigningKey) -> None:
        self.controllers = controllers
        self._seed = seed
        self.public = seed.public

    @classmethod
    def create(cls, controllers: PublicKey) -> Self:
        return cls(controllers, SigningKey.generate())

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a token's text.

        Raises:
            ValueError: it is none; quotes nothing of it.
        """
        if len(text) != _TEXT_LENGTH or not text.startswith(_MARK) or text[-44] != "_":
            raise ValueError("not a join token: vxj1_, 43 characters, _, 43 characters")
        controllers = PublicKey.from_text(text[len(_MARK) : -44])
        return cls(controllers, SigningKey.from_seed(decoded(text[-43:], 32)))

    def text(self) -> str:
        """Return the token for those who set up nodes; secret."""
        return f"{_MARK}{self.controllers.text}_{encoded(self._seed.seed())}"

    def prove(self, node_id: str, key: PublicKey) -> JoinProof:
        """Vouch for a node's key."""
        return JoinProof(
            token=self.public.id, signature=self._seed.sign(_statement(_JOIN_DOMAIN, node_id, key))
        )

    def __repr__(self) -> str:
        return f"JoinToken({self.public.id})"


def joins(proof: JoinProof, token: PublicKey, node_id: str, key: PublicKey) -> bool:
    """Whether the holder of the join token with this public key vouched for a node's key."""
    return token.id == proof.token and token.verifies(
        proof.signature, _statement(_JOIN_DOMAIN, node_id, key)
    )


def change_key(previous: SigningKey, node_id: str, key: PublicKey) -> KeyChange:
    """Vouch for a node's new key by its previous one."""
    signature = previous.sign(_statement(_CHANGE_DOMAIN, node_id, key))
    return KeyChange(previous=previous.public.id, signature=signature)


def changes_key(change: KeyChange, previous: PublicKey, node_id: str, key: PublicKey) -> bool:
    """Whether the holder of a node's previous key vouched for its new one."""
    return previous.id == change.previous and previous.verifies(
        change.signature, _statement(_CHANGE_DOMAIN, node_id, key)
    )


def _statement(domain: bytes, node_id: str, key: PublicKey) -> bytes:
    return domain + f"{node_id}\0{key.text}".encode()
