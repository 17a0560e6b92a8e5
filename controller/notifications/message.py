"""The text of a notification: its values, templates, and its form for each kind of target. Pure.

Values hold names and errors from elsewhere. They are one printable line each, so no name can begin a line or
a header; for chats they are kept from being markup, mentions or links.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from string import Template
from typing import Any, Final
from urllib.parse import urlsplit

from contract.runtime.text import printable, redacted
from controller.notifications.errors import TargetError

VARIABLES: Final = {
    "title": "what happened, in a few fixed words",
    "event": "its name, as in `vxctl notify add --event`",
    "state": "problem, over or done",
    "problem": "the same from a problem's begin to its end; empty: of what is none, or several",
    "reminder": "yes: it was told before, and lasts; else empty",
    "where": "node, network and device, as far as there are any",
    "why": "the reason, or what is wrong and its remedy",
    "todo": "what to do",
    "link": "page of the dashboard; empty without VXLAN_OPERATOR_PUBLIC_URL",
    "runbook": "page of the documents",
    "time": "when it happened, ISO 8601 in UTC",
    "since": "of a problem: when it began, ISO 8601 in UTC; else empty",
    "node": "hostname of the node; empty: it is about none, or several",
    "network": "name of the network; empty: it is about none",
    "count": "how many times it happened: 1, or that of a summary",
    "swarm": "id of the Swarm",
}
"""Of templates, as `$name` or `${name}`, with their meaning."""

MAX_VALUE: Final = 1000
MAX_TEXT: Final = 4000
MAX_TEMPLATE: Final = 4000
_MAX_SUBJECT: Final = 150
_LINKS: Final = ("link", "runbook")

Values = Mapping[str, str]


def values_of(**given: object) -> dict[str, str]:
    """Return all variables: one printable line each, without passwords; those not given are empty."""
    return {name: _line(given.get(name, "")) for name in VARIABLES}


def _line(value: object) -> str:
    text = printable(redacted(str(value)[: 4 * MAX_VALUE]))
    return text if len(text) <= MAX_VALUE else text[: MAX_VALUE - 3] + "..."


def iso(at: datetime) -> str:
    """Return a time as ISO 8601 in UTC, to the second."""
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def check_template(text: str) -> None:
    """Check a template.

    Raises:
        TargetError: it is too long, or names what there is not.
    """
    listed = ", ".join(f"${name}" for name in sorted(VARIABLES))
    hint = f"the variables are {listed}; write $$ for a $"
    if len(text) > MAX_TEMPLATE or not text.strip():
        raise TargetError(f"a template has 1 to {MAX_TEMPLATE} characters", hint)
    template = Template(text)
    if not template.is_valid():
        raise TargetError("the template has a $ with no name behind it", hint)
    unknown = sorted(set(template.get_identifiers()) - set(VARIABLES))
    if unknown:
        names = ", ".join(f"${printable(name)[:40]}" for name in unknown[:5])
        raise TargetError(f"the template names what there is not: {names}", hint)


def text_of(values: Values, template: str | None = None) -> str:
    """Return the text of a notification, by a template or the built-in form."""
    if template is not None:
        text = Template(template).safe_substitute(values)
    else:
        text = "\n".join([heading_of(values), *_details(values), *_links(values)])
    return text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 3] + "..."


def _details(values: Values) -> list[str]:
    named = (
        ("where", "where"), ("why", "why"), ("do", "todo"), ("since", "since"), ("when", "time"),
        ("Swarm", "swarm"),
    )  # fmt: skip
    # Of what lasts the time is only that of the message.
    lasts = values.get("since") and values["state"] == "problem"
    return [
        f"{name}: {values[key]}"
        for name, key in named
        if values.get(key) and not (lasts and key == "time")
    ]


def _links(values: Values) -> list[str]:
    return [values[key] for key in _LINKS if values[key]]


def heading_of(values: Values) -> str:
    """Return the first line, which may be all that a telephone shows: the node, and what happened there."""
    return f"{values['node']}: {values['title']}" if values["node"] else values["title"]


def subject_of(values: Values) -> str:
    """Return the subject of a mail: a line, which tells clusters apart by the host of their dashboard."""
    host = urlsplit(values["link"]).hostname if values["link"] else None
    operator = f"vxlan-operator {host}" if host else "vxlan-operator"
    return f"[{operator}] {heading_of(values)}"[:_MAX_SUBJECT]


def chat_of(values: Values, template: str | None = None) -> dict[str, Any]:
    """Return the body for Slack and what takes its format (Mattermost, Rocket.Chat, Discord's `/slack`).

    What comes from elsewhere is in a block of code, where none of them knows markup or mentions.
    """
    safe = {name: _unmarked(value) for name, value in values.items()}
    links = {name: values[name].translate(_ENTITIES) for name in _LINKS}
    if template is not None:
        text = text_of({**unmarked(safe), **links}, template)
    else:
        block = "\n".join(_details(safe))
        heading = heading_of(unmarked(safe))
        text = "\n".join([heading, f"```\n{block}\n```", *_links(links)])
    return {"text": text, "link_names": 0, "unfurl_links": False}


_ENTITIES: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;"})
"""What Slack asks for; its other markup has no escape."""
_BEHIND_AT: Final = "\u200b"


_EMPHASIS: Final = str.maketrans({"*": "\u2217", "~": "\u223c", "<": "\u2039", ">": "\u203a"})
"""Their likes: no service takes these for markup, and there is no escape that all know."""
_OUTER_UNDERSCORES: Final = re.compile(r"(?<![^\W_])_+|_+(?![^\W_])")
"""Emphasis, unlike those within a name."""


def unmarked(values: Values) -> dict[str, str]:
    """Return values that no chat takes for markup, a mention or a named link; links stay as they are."""
    return {
        name: value if name in _LINKS else _without_emphasis(value)
        for name, value in values.items()
    }


def _without_emphasis(value: str) -> str:
    value = value.replace("`", "'").replace("](", "] (")
    value = value.replace(f"@{_BEHIND_AT}", "@").replace("@", f"@{_BEHIND_AT}")
    value = _OUTER_UNDERSCORES.sub(lambda found: "\u02cd" * len(found[0]), value)
    return value.translate(_EMPHASIS)


def _unmarked(value: str) -> str:
    """Keep a value from ending a block of code, mentioning people, or being a link with another text."""
    value = value.replace("`", "'").replace("@", f"@{_BEHIND_AT}").replace("](", "] (")
    return value.translate(_ENTITIES)


def payload_of(values: Values, *, id_: str, created_at: str, template: str | None = None) -> bytes:
    """Return the body of a webhook, as the specification Standard Webhooks recommends it.

    Args:
        id_: of the notice: the same for all targets.
        created_at: ISO 8601.
    """
    data = {
        "id": id_,
        **values,
        "count": int(values["count"] or 1),
        "reminder": values.get("reminder") == "yes",
        "text": text_of(values, template),
    }
    body = {"type": values["event"], "timestamp": created_at, "data": data}
    return json.dumps(body, ensure_ascii=True, separators=(",", ":")).encode()
