"""Notifications by the library apprise, which knows some hundred services: in a process of its own.

Its services wait, read and follow as they like. So each notification has a child, which is killed at its
deadline, has a limit of memory, and tells only fixed words and statuses: in many of its URLs any part may be
the secret. A host that a URL names is checked as all addresses are, but apprise resolves the name again:
only an administrator adds targets.
"""

import importlib.util
import json
import logging
import math
import os
import re
import resource
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from controller.notifications.addresses import Endpoint, Network, checked, networks_of, resolve
from controller.notifications.errors import Answer, DeliveryError, TargetError

_LOCAL: Final = frozenset(
    {"dbus", "glib", "gnome", "kde", "macosx", "qt", "syslog", "windows", "mailto", "mailtos"}
)
"""What speaks to this machine's desktop or log, and mail, which has a kind of its own."""
_CHECK_SECONDS: Final = 8.0
_MEMORY_BYTES: Final = 512 << 20
"""Of addresses; the library has 52 MB in memory. An answer without end is not stored beyond it."""
_MAX_NAME: Final = 60
_ROOT: Final = Path(__file__).parents[2]
_STATUS: Final = re.compile(r"\berror=(\d{3})\b")

_MISSING: Final = (
    "the library apprise is not installed on this controller",
    "pip install 'vxlan-operator[controller,apprise]', or use the kind webhook, slack or email",
)
_UNKNOWN: Final = (
    "apprise knows no service of that form, or one that this controller must not use",
    "https://appriseit.com/services lists the URLs",
)
_UNVERIFIED: Final = (
    "the URL turns the verification of certificates off",
    "leave `verify=no` out; an authority of your own goes into the system's",
)


def check(url: str) -> None:
    """Check the URL of a target.

    Raises:
        TargetError: apprise is not installed, or does not know what this is.
    """
    try:
        _child({"url": url}, _CHECK_SECONDS)
    except DeliveryError as error:
        raise TargetError(str(error), "try again") from error


def notify(
    url: str, *, title: str, text: str, allowed: Sequence[Network], seconds: float
) -> Answer:
    """Send a notification, within so many seconds.

    Raises:
        TargetError: as `check` does.
        DeliveryError: it was not taken.
    """
    networks = ",".join(map(str, allowed))
    request = {"url": url, "title": title, "text": text, "allowed": networks}
    return Answer(None, f"{_child(request, seconds)} took it")


def _child(request: Mapping[str, str], seconds: float) -> str:
    """Let a child do what `perform` does; return the service's name."""
    if importlib.util.find_spec("apprise") is None:
        raise TargetError(*_MISSING)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith("VXLAN_OPERATOR_")
    }
    # This very code, wherever the process was started.
    others = environment.get("PYTHONPATH")
    environment["PYTHONPATH"] = str(_ROOT) if not others else f"{_ROOT}{os.pathsep}{others}"
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "controller.notifications.third_party"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env=environment,
        start_new_session=True,
    ) as child:
        try:
            given = json.dumps({**request, "seconds": seconds}).encode()
            answer, _ = child.communicate(given, seconds)
        except subprocess.TimeoutExpired:
            raise DeliveryError(f"no answer within {seconds:g} s") from None
        finally:
            child.kill()
    if child.returncode != 0:
        raise DeliveryError("apprise ended before its answer: too much was answered, or it failed")
    reply = json.loads(answer)
    if "refused" in reply:
        raise TargetError(*reply["refused"])
    if "failed" in reply:
        raise DeliveryError(reply["failed"])
    return str(reply["taken"])


def perform(request: Mapping[str, str]) -> dict[str, Any]:
    """Check a URL, and send to it if there is a text; return how that ended, without parts of the URL."""
    try:
        return {"taken": _perform(request)}
    except TargetError as error:
        return {"refused": [str(error), error.hint]}
    except DeliveryError as error:
        return {"failed": str(error)}


def _perform(request: Mapping[str, str]) -> str:
    import apprise

    # Services with no such argument are told by the asset.
    asset = apprise.AppriseAsset(http_redirects=False)
    service = apprise.Apprise.instantiate(
        request["url"].strip(), asset=asset, suppress_exceptions=True
    )
    # By what was built: a URL has many forms.
    if service is None or _schemas(service) & _LOCAL:
        raise TargetError(*_UNKNOWN)
    if not service.verify_certificate:
        raise TargetError(*_UNVERIFIED)
    service.redirects = False
    name = str(type(service).service_name)[:_MAX_NAME]
    if "text" in request:
        _check_host(service, networks_of(request["allowed"]))
        _send(apprise, service, name, request)
    return name


def _schemas(service: Any) -> set[str]:
    found: set[str] = set()
    for given in (service.protocol, service.secure_protocol):
        found |= {given} if isinstance(given, str) else set(given or ())
    return found


def _check_host(service: Any, allowed: Sequence[Network]) -> None:
    # Elsewhere what stands in its place is a token, which no name server must be asked for.
    if not service.host or not any("{host}" in template for template in service.templates):
        return
    port = service.port or 443
    try:
        found = resolve(service.host, port)
    except (OSError, UnicodeError) as error:
        raise DeliveryError("the name of its host cannot be resolved") from error
    checked(Endpoint(True, "its host", port, "/"), allowed, lambda *_: found)


def _send(apprise: Any, service: Any, name: str, request: Mapping[str, str]) -> None:
    with apprise.LogCapture(level=logging.WARNING, fmt="%(message)s") as captured:
        taken = service.notify(
            body=request["text"], title=request["title"], body_format=apprise.NotifyFormat.TEXT
        )
        output = captured.getvalue()
    if taken:
        return
    # No more of it: it names hosts, and repeats what was answered.
    status = _STATUS.search(output)
    if status is not None:
        reason = f"it answered {status[1]}"
    else:
        reason = "no connection" if "onnection" in output else "no reason given"
    raise DeliveryError(f"{name} did not take it: {reason}")


def _main() -> None:
    request = json.load(sys.stdin)
    # Should nobody be left who kills this process.
    signal.alarm(math.ceil(request["seconds"]) + 1)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY_BYTES, _MEMORY_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with suppress(OSError):  # Where memory is short, the controller is the last to be killed.
        Path("/proc/self/oom_score_adj").write_text("1000")
    with os.fdopen(os.dup(sys.stdout.fileno()), "w") as reply:
        # What a service prints is no answer.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        json.dump(perform(request), reply)
        reply.flush()
    os._exit(0)  # Threads that a service left wait for nobody.


if __name__ == "__main__":
    _main()
