"""Certificates made by `openssl`, and clients that trust them."""

import ssl
import subprocess
from pathlib import Path
from typing import NamedTuple


class Pair(NamedTuple):
    """A self-signed certificate for 127.0.0.1 and its key, as files."""

    certificate: Path
    key: Path

    def client(self) -> ssl.SSLContext:
        """What a client needs to trust this certificate, and no other."""
        return ssl.create_default_context(cafile=str(self.certificate))


def make(folder: Path, name: str, *, algorithm: str = "rsa:2048", days: int = 90) -> Pair:
    """Make a pair; `algorithm`: of `openssl req -newkey`, or `ec`."""
    pair = Pair(folder / f"{name}.crt", folder / f"{name}.key")
    kind = ["ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"] if algorithm == "ec" else [algorithm]
    subprocess.run(
        ["openssl", "req", "-x509", "-noenc", "-newkey", *kind, "-days", str(days),
         "-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost",
         "-out", str(pair.certificate), "-keyout", str(pair.key)],
        check=True, capture_output=True, timeout=60,
    )  # fmt: skip
    return pair
