"""The environment variables of all our programs, and an error for one that is none of them."""

import os
from collections.abc import Iterable
from typing import Final

from contract.runtime.errors import UsageError

PREFIX: Final = "VXLAN_OPERATOR_"

NAMES: Final = frozenset(
    PREFIX + name
    for name in [
        "ALIVE_FILE",
        "ALLOWED_HOSTS",
        "API_TOKEN_FILE",
        "AUDIT_ARCHIVE_DIRECTORY",
        "AUDIT_RETENTION_DAYS",
        "AUTH_PROXY_ADMIN_GROUP",
        "AUTH_PROXY_FROM",
        "AUTH_PROXY_GROUPS_HEADER",
        "AUTH_PROXY_OPERATE_GROUP",
        "AUTH_PROXY_READ_GROUP",
        "AUTH_PROXY_USER_HEADER",
        "BREAKER_MAX_NODES_SHARE",
        "BREAKER_MIN_NODES",
        "BREAKER_NODE_REMOVALS",
        "BREAKER_WINDOW_SECONDS",
        "BROKER_ACL",
        "BROKER_CA",
        "BROKER_CERT",
        "BROKER_KEY",
        "BROKER_SENTINEL_MASTER",
        "BROKER_SENTINEL_PASSWORD",
        "BROKER_SENTINEL_PASSWORD_FILE",
        "BROKER_URL",
        "BROKER_URL_FILE",
        "CA",
        "CONTEXT",
        "CONTROLLER_KEY",
        "DATABASE_URL",
        "DATABASE_URL_FILE",
        "DATA_PATH_PORT",
        "DOCKER_CA",
        "DOCKER_CERT",
        "DOCKER_HOST",
        "DOCKER_KEY",
        "DOCKER_PLAIN",
        "DOCKER_SOCKET",
        "DOCS_URL",
        "GRACE_SECONDS",
        "JOIN_TOKEN",
        "JOIN_TOKEN_FILE",
        "JOURNAL",
        "LISTEN",
        "LISTEN_CERT",
        "LISTEN_KEY",
        "LISTEN_PLAIN",
        "LOG_FORMAT",
        "LOG_LEVEL",
        "MAX_REMOVALS_PER_RUN",
        "METRICS_LISTEN",
        "MODE",
        "NODE_ID",
        "NOTIFY_ALLOW",
        "NOTIFY_CA",
        "PUBLIC_URL",
        "RESYNC_SECONDS",
        "RUN_RETENTION_DAYS",
        "RUN_TIMEOUT_SECONDS",
        "SIGNING_KEY",
        "SILENCE_SECONDS",
        "SMTP_FROM",
        "SMTP_HOST",
        "SMTP_PASSWORD_FILE",
        "SMTP_PORT",
        "SMTP_SECURITY",
        "SMTP_USER",
        "SYNC_SECONDS",
        "SYNC_SHARE",
        "TOKEN",
        "TOKEN_FILE",
        "TRACES_CA",
        "TRACES_ENDPOINT",
        "TRACES_HEADERS",
        "TRACES_HEADERS_FILE",
        "TRACE_URL",
        "UNCLAIMED_SECONDS",
        "URL",
        "WAIT_AT_START",
    ]
)
"""Of every program: one file of variables may serve all of them. Here, because a worker can be installed
without the controller's settings."""

_MAX_SHOWN: Final = 3


def refuse_unknown(environment: Iterable[str] = os.environ) -> None:
    """Check the names of all variables that begin with our prefix; case does not matter.

    Raises:
        UsageError: no program of ours reads one of them, so it is misspelt.
    """
    ours = (name for name in environment if name.upper().startswith(PREFIX))
    unknown = sorted(name for name in ours if name.upper() not in NAMES)
    if not unknown:
        return
    from difflib import get_close_matches  # Seldom needed.

    more = f" and {len(unknown) - _MAX_SHOWN} more" if len(unknown) > _MAX_SHOWN else ""
    listed = ", ".join(unknown[:_MAX_SHOWN]) + more
    # Without the prefix, which would make all names similar.
    names = [name.removeprefix(PREFIX) for name in sorted(NAMES)]
    near = get_close_matches(unknown[0][len(PREFIX) :].upper(), names, n=1)
    hint = f"set {PREFIX}{near[0]} instead of {unknown[0]}" if near else f"unset {unknown[0]}"
    raise UsageError(f"no setting has this name: {listed}", hint)
