"""TLS as a client: which CAs may have signed the server's certificate, and one's own, from PEM files."""

import ssl

from contract.runtime.errors import UsageError
from contract.runtime.variables import PREFIX


def client_context(ca: str = "", cert: str = "", key: str = "") -> ssl.SSLContext:
    """Return what always verifies a server's certificate and name.

    Args:
        ca: file of the CAs; empty: those of the system.
        cert, key: files of this program's certificate and its key, which may be one; empty: none.

    Raises:
        OSError, ValueError: a file cannot be used.
    """
    context = ssl.create_default_context(cafile=ca or None)
    if cert or key:
        # Without a question on the terminal for a key with a passphrase.
        context.load_cert_chain(cert, key or None, password="")
    return context


def check_files(server: str, name: str, ca: str, cert: str, key: str) -> None:
    """Check that the files of the settings NAME_CA, NAME_CERT and NAME_KEY can be used.

    Raises:
        UsageError: they cannot.
    """
    try:
        client_context(ca, cert, key)
    except (OSError, ValueError) as error:
        raise unusable(server, name, str(error)) from None


def unusable(server: str, name: str, why: str) -> UsageError:
    """Return the error about these settings; `server`: whom they are for."""
    return UsageError(
        f"the certificates for {server} cannot be used: {why}",
        f"set {PREFIX}{name}_CA, {PREFIX}{name}_CERT and {PREFIX}{name}_KEY to PEM files that this user "
        "may read",
    )
