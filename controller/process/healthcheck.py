"""The health check of the controller's image: whether its own API answers, also while it waits to start.

Run as `python -I -m controller.process.healthcheck`; with the standard library alone, as it runs every half
minute. `/healthz` asks neither broker nor database nor Docker: a new process would cure none of them.
"""

import os
import ssl
import sys
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from pathlib import Path
from typing import Final

TIMEOUT_SECONDS: Final = 4.0
_DEFAULT_LISTEN: Final = "127.0.0.1:8479"
_INIT: Final = Path("/proc/1/cmdline")
"""The command line of the container's first process."""
_EVERYWHERE: Final = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 -- not listened to


def check() -> str | None:
    """Return what is wrong; None: nothing."""
    listen = _setting("listen") or _DEFAULT_LISTEN
    host, _, port = listen.rpartition(":")
    host = host.strip("[]")
    connection = _connect(_EVERYWHERE.get(host, host), int(port), tls=bool(_setting("listen-cert")))
    try:
        connection.request("GET", "/healthz")
        status = connection.getresponse().status
    except (OSError, HTTPException) as error:
        return f"{listen} does not answer: {str(error) or type(error).__name__}"
    finally:
        connection.close()
    return None if status == 200 else f"{listen} answers /healthz with status {status}"


def _connect(host: str, port: int, *, tls: bool) -> HTTPConnection:
    if not tls:
        return HTTPConnection(host, port, timeout=TIMEOUT_SECONDS)
    # It asks itself, by an address that no certificate needs to name, and tells nothing.
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return HTTPSConnection(host, port, timeout=TIMEOUT_SECONDS, context=context)


def _setting(name: str) -> str:
    """Return a setting of the controller as it was started: an option goes before its variable."""
    words = _INIT.read_bytes().decode(errors="replace").split("\0")
    flag = f"--{name}"
    for word, following in zip(words, [*words[1:], ""], strict=True):
        if word == flag:
            return following
        if word.startswith(f"{flag}="):
            return word.removeprefix(f"{flag}=")
    return os.environ.get(f"VXLAN_OPERATOR_{name.replace('-', '_').upper()}", "")


def main() -> None:
    """Print what is wrong; exit with 0 if nothing is, else with 1, which Docker counts as unhealthy."""
    wrong = check()
    sys.stdout.write(f"{wrong or 'ok'}\n")
    sys.exit(0 if wrong is None else 1)


if __name__ == "__main__":
    main()
