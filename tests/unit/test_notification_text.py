"""The text of notifications: templates with wrong names, hostile values, and every event's words."""

import re
from pathlib import Path

import pytest

from controller.notifications.errors import TargetError
from controller.notifications.events import SITE, TEXTS, Event, runbook
from controller.notifications.message import (
    MAX_TEXT,
    MAX_VALUE,
    VARIABLES,
    chat_of,
    check_template,
    subject_of,
    text_of,
    unmarked,
    values_of,
)

DOCUMENT = (Path(__file__).parents[2] / "docs" / "notifications.md").read_text()
HOSTILE = "a\nb\x1b[2J\u202e`<!here> @all [x](http://evil) postgres://u:hunter2@h/db"


def test_a_template_gets_values() -> None:
    template = "$title: ${node} costs $$5"
    check_template(template)
    values = values_of(title="Node silent", node="one")
    assert text_of(values, template) == "Node silent: one costs $5"


@pytest.mark.parametrize(
    ("template", "problem"),
    [
        ("$titel on $node", r"names what there is not: \$titel"),
        ("${node.__class__}", r"has a \$ with no name"),
        ("5 $ more", r"has a \$ with no name"),
        ("  ", "1 to 4000 characters"),
        ("x" * 4001, "1 to 4000 characters"),
    ],
)
def test_a_wrong_template_is_refused_with_the_names(template: str, problem: str) -> None:
    with pytest.raises(TargetError, match=problem) as caught:
        check_template(template)
    for name in VARIABLES:
        assert f"${name}" in caught.value.hint


def test_a_value_is_no_template() -> None:
    assert text_of(values_of(node="$why"), "$node") == "$why"


def test_values_are_one_printable_line_without_passwords() -> None:
    values = values_of(title="t", why=HOSTILE, node="n" * 5000)
    assert values["why"].isprintable()
    assert "hunter2" not in values["why"]
    assert len(values["node"]) == MAX_VALUE
    assert len(text_of(dict.fromkeys(VARIABLES, "y" * MAX_VALUE))) == MAX_TEXT


@pytest.mark.parametrize("template", [None, "$title\n$why"])
def test_a_chat_sees_no_markup_of_others(template: str | None) -> None:
    text = chat_of(values_of(title="t", why=HOSTILE), template)["text"]
    assert "<!here>" not in text
    assert "@all" not in text
    assert "[x](" not in text
    assert text.count("`") == (6 if template is None else 0)


def test_where_no_block_of_code_protects_values_are_no_emphasis() -> None:
    hostile = "<!channel> *b* ~x~ _i_ __u__ `c` [x](http://evil) @all my_net_1"
    values = values_of(title="t", why=hostile, link="https://ops.example/_a_")
    for text in (chat_of(values, "$why")["text"], text_of(unmarked(values), "$why")):
        assert not set("*~`") & set(text)
        assert not any(part in text for part in ("<!", "_i_", "__u__", "](", "@all"))
        assert "my_net_1" in text
    assert unmarked(values)["link"] == "https://ops.example/_a_"


def test_what_a_telephone_shows_first_names_the_node_and_a_mail_the_cluster_too() -> None:
    values = values_of(title="Node silent", node="_w3_*b*", link="https://ops.example/nodes/n")
    assert text_of(values).splitlines()[0] == "_w3_*b*: Node silent"
    assert subject_of(values) == "[vxlan-operator ops.example] _w3_*b*: Node silent"
    assert subject_of(values_of(title="x")) == "[vxlan-operator] x"
    # Outside of the block of code a name is no markup.
    first = chat_of(values)["text"].splitlines()[0]
    assert first.endswith(": Node silent")
    assert not {"*", "_"} & set(first)


def test_a_link_in_a_chat_can_be_clicked() -> None:
    values = values_of(title="t", link="https://ops.example/nodes/n?a=1&b=2")
    assert chat_of(values)["text"].endswith("https://ops.example/nodes/n?a=1&amp;b=2")


def test_every_event_is_documented_with_its_section_and_delay() -> None:
    assert TEXTS.keys() == {*Event}
    rows = re.findall(r"^\| \[`(\w+)`\]\(#([\w-]+)\) \|.*\| ([^|]+) \|$", DOCUMENT, re.MULTILINE)
    assert [name for name, *_ in rows] == [event.value for event in Event]
    for name, anchor, delay in rows:
        event = Event(name)
        assert runbook(event) == f"{SITE}/notifications.html#{anchor}"
        assert f"\n### {name.replace('_', ' ').capitalize()}\n" in DOCUMENT
        seconds = TEXTS[event].hold.total_seconds()
        assert delay == (f"{seconds:g} s" if seconds else "at once")


def test_every_variable_is_documented() -> None:
    table = DOCUMENT.partition("## Templates")[2]
    assert set(re.findall(r"`\$(\w+)`", table)) >= VARIABLES.keys()
