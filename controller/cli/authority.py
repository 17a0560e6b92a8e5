"""A certificate authority in a folder, for servers and clients that only the operator's programs know."""

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from contract.runtime.files import create

_LIFE: Final = timedelta(days=3650)
_CLOCKS: Final = timedelta(days=1)
"""Clocks may differ by that much."""
_USAGES: Final = (
    "digital_signature",
    "content_commitment",
    "key_encipherment",
    "data_encipherment",
    "key_agreement",
    "key_cert_sign",
    "crl_sign",
    "encipher_only",
    "decipher_only",
)


class Authority:
    """Its key and certificate, made where they are missing (ECDSA P-256, ten years, mode 0600).

    A certificate that does not fit is one that a renewal which broke off has left, and is made again, too.

    Args:
        certificate, key: files.

    Raises:
        OSError: a file cannot be read or written.
        ValueError: one holds something else.
    """

    def __init__(self, certificate: Path, key: Path) -> None:
        self._key = _key(key)
        if not _fits(certificate, self._key, self._key.public_key()):
            name = _name("vxlan-operator")
            made = _builder(name, name, self._key.public_key(), self._key.public_key())
            made = made.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            made = made.add_extension(_usage("key_cert_sign", "crl_sign"), critical=True)
            create(certificate, _pem(made.sign(self._key, hashes.SHA256())))
        self._certificate = x509.load_pem_x509_certificate(certificate.read_bytes())

    def sign(
        self,
        name: str,
        certificate: Path,
        key: Path,
        *,
        addresses: tuple[IPv4Address | IPv6Address, ...] = (),
    ) -> None:
        """Make a certificate and its key where they are missing.

        Args:
            name: its common name.
            addresses: of a server; none: it is a client's.
        """
        private = _key(key)
        if _fits(certificate, private, self._key.public_key()):
            return
        use = ExtendedKeyUsageOID.SERVER_AUTH if addresses else ExtendedKeyUsageOID.CLIENT_AUTH
        made = _builder(
            _name(name), self._certificate.subject, private.public_key(), self._key.public_key()
        )
        made = made.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        made = made.add_extension(_usage("digital_signature"), critical=True)
        made = made.add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        if addresses:
            names = x509.SubjectAlternativeName([x509.IPAddress(address) for address in addresses])
            made = made.add_extension(names, critical=False)
        create(certificate, _pem(made.sign(self._key, hashes.SHA256())))


def _fits(
    certificate: Path, key: ec.EllipticCurvePrivateKey, issuers: ec.EllipticCurvePublicKey
) -> bool:
    """Return whether it is for this key, signed by the issuer's; one that does not fit is removed."""
    if not certificate.exists():
        return False
    found = x509.load_pem_x509_certificate(certificate.read_bytes())
    algorithm = found.signature_hash_algorithm
    try:
        if found.public_key() == key.public_key() and algorithm is not None:
            issuers.verify(found.signature, found.tbs_certificate_bytes, ec.ECDSA(algorithm))
            return True
    except InvalidSignature:
        pass
    certificate.unlink()
    return False


def _key(file: Path) -> ec.EllipticCurvePrivateKey:
    if not file.exists():
        made = ec.generate_private_key(ec.SECP256R1())
        pem = made.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        create(file, pem)
    found = serialization.load_pem_private_key(file.read_bytes(), password=None)
    if not isinstance(found, ec.EllipticCurvePrivateKey):
        raise ValueError(f"{file} is a key of another kind than ECDSA")  # noqa: TRY004 -- content
    return found


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public: ec.EllipticCurvePublicKey,
    issuers: ec.EllipticCurvePublicKey,
) -> x509.CertificateBuilder:
    # Python 3.13 refuses one that does not name the keys (VERIFY_X509_STRICT).
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCKS)
        .not_valid_after(now + _LIFE)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuers), critical=False)
    )


def _usage(*wanted: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{usage: usage in wanted for usage in _USAGES})


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
