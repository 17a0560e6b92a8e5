"""The columns of each table: headings and cells."""

from collections.abc import Callable
from typing import Final

from contract.runtime.text import with_file
from controller.cli.output import formats, phrases
from controller.cli.output.table import Columns, Row


def value(name: str) -> Callable[[Row], str]:
    """Return the cell of a field as it is, `-` for none."""
    return lambda row: "-" if row[name] in (None, "") else str(row[name])


def plain(*headings: str) -> Columns:
    """Return columns of fields as they are, whose names are the headings in lower case."""
    return [(heading, value(heading.lower().replace(" ", "_"))) for heading in headings]


def _age(name: str) -> Callable[[Row], str]:
    return lambda row: formats.age(row[name])


def _joined(name: str, separator: str) -> Callable[[Row], str]:
    return lambda row: separator.join(map(str, row[name])) or "-"


def _flag(name: str) -> Callable[[Row], str]:
    return lambda row: "yes" if row[name] else "no"


def netns(row: Row) -> str:
    """Return the network namespace of a device."""
    return with_file(row["netns"], row["netns_file"])


def verdict(row: Row) -> str:
    """Return the verdict of a device, with the urgency of an orphan."""
    return f"{row['verdict']}/{row['urgency']}" if row["urgency"] else str(row["verdict"])


def network(row: Row) -> str:
    """Return the network of a device by name; `-`: no known network has its VNI."""
    return str(row["network_name"] or row["network_id"] or "-")


def _running(row: Row) -> str:
    # The ingress network belongs on every node, and no task is attached to it.
    if row["reasons"] == ["ingress"]:
        return "-"
    return "yes" if row["running"] else "no"


_GENERATION: Final = (
    "GENERATION",
    lambda row: f"{row['converged_generation']}/{row['generation']}",
)

NODES: Final[Columns] = (
    ("NODE", phrases.node_name),
    ("READY", phrases.ready_or_away),
    ("SINCE", phrases.ready_since),
    ("REASON", phrases.reason),
    ("WORKER", phrases.seen),
    ("DEVICES", phrases.device_counts),
    ("NEXT RUN", phrases.next_run),
)
NODES_WIDE: Final[Columns] = (
    _GENERATION,
    *plain("ID"),
    ("STATE", lambda row: f"{row['state']}/{row['availability']}"),
    *plain("ROLE", "ADDRESS"),
    ("VERSION", value("worker_version")),
    ("MODE", phrases.mode),
    *plain("FAILURES"),
)
STATUS: Final[Columns] = (
    *NODES[:4],
    _GENERATION,
    NODES[4],
    ("LAST RUN", phrases.last_run),
    *NODES[5:],
    ("MODE", phrases.mode),
)
NETWORKS: Final[Columns] = (
    ("NETWORK", value("name")),
    *plain("ID"),
    ("VNI", _joined("vnis", ",")),
    *plain("NODES"),
    ("MODE", phrases.mode),
)
NETWORKS_WIDE: Final[Columns] = (("INGRESS", _flag("ingress")), *plain("PAUSED BY"))
DEVICES: Final[Columns] = (
    ("NODE", phrases.on_node),
    ("DEVICE", formats.device),
    ("NETNS", netns),
    *plain("VNI"),
    ("NETWORK", network),
    ("VERDICT", verdict),
    ("AGE", _age("first_seen_at")),
    ("REASON", phrases.device_reason),
)
DEVICES_WIDE: Final[Columns] = (
    *plain("PORT"),
    *plain("NETWORK ID", "PROOF"),
    ("JUDGED", _age("verdict_at")),
    ("LOOKED AT", _age("looked_at")),
    *plain("EVIDENCE"),
)
SUPPRESSED: Final[Columns] = (
    ("NODE", phrases.on_node),
    ("DEVICE", formats.device),
    ("NETNS", netns),
    ("NETWORK", network),
    ("HELD BACK BY", lambda row: ", ".join(hold["reason"] for hold in row["held_back"])),
    ("SINCE", lambda row: formats.age(min(hold["since"] for hold in row["held_back"]))),
)
HOLDS: Final[Columns] = (
    ("HELD BACK BY", value("reason")),
    ("WHAT, AND WHAT ENDS IT", lambda hold: f"{hold['text']}; {hold['until']}"),
)
SUPPRESSED_WIDE: Final[Columns] = (
    ("VERDICT", verdict),
    *plain("VNI"),
    ("WHAT", lambda row: "; ".join(hold["text"] for hold in row["held_back"])),
    ("ENDED BY", lambda row: "; ".join(hold["until"] for hold in row["held_back"])),
)
_REASONS: Final = ("REASONS", _joined("reasons", "; "))
RUNS: Final[Columns] = (
    ("RUN", phrases.run_id),
    ("NODE", phrases.on_node),
    *plain("STATE"),
    ("AGE", _age("requested_at")),
    ("TOOK", phrases.took),
    *plain("DEVICES", "REMOVED", "ERROR"),
)
RUNS_WIDE: Final[Columns] = (*plain("ID", "GENERATION", "ORPHANS"), _REASONS)
NODE_RUNS: Final[Columns] = (RUNS[0], *RUNS[2:5], *plain("REMOVED"), _REASONS)
CONDITIONS: Final[Columns] = (
    *plain("TYPE"),
    ("STATUS", phrases.status_and_sign),
    *plain("REASON"),
    ("SINCE", _age("since")),
    *plain("MESSAGE"),
)
_BECAUSE: Final[Columns] = (("RUNNING", _running), ("BECAUSE OF", _joined("reasons", ", ")))
NODE_NETWORKS: Final[Columns] = (
    ("NETWORK", value("network_name")),
    ("ID", value("network_id")),
    *_BECAUSE,
)
NETWORK_NODES: Final[Columns] = (("NODE", value("node_name")), ("ID", value("node_id")), *_BECAUSE)


def _object(row: Row) -> str:
    """Return what an event is about: `node/one`, `network/shop` or `cluster`."""
    if row["node_id"] is not None:
        name = formats.short(row["node_id"]) if row["node_name"] is None else phrases.on_node(row)
        return f"node/{name}"
    if row["network_id"] is not None:
        return f"network/{formats.short(row['network_name'] or row['network_id'])}"
    return "cluster"


def _repeated(row: Row) -> str:
    """Return when an event last happened, and how often: `53m (x20 over 19h)`."""
    last = formats.ago(row["at"]).removesuffix(" ago")
    if row["count"] == 1:
        return last
    over = formats.age_of(formats.seconds_between(row["first_at"], row["at"]))
    return f"{last} (x{row['count']} over {over})"


EVENTS: Final[Columns] = (
    ("LAST SEEN", _repeated),
    *plain("TYPE"),
    ("REASON", value("kind")),
    ("OBJECT", _object),
    *plain("MESSAGE"),
)
FOLLOWED_EVENTS: Final[Columns] = (("AT", lambda row: formats.clock(row["at"])[:-4]), *EVENTS[1:])
"""The time instead of an age: lines that stay would not be true for long."""


def _located(row: Row) -> str:
    """Return a device of a difference or of a plan, `-` where it is missing."""
    return f"{row['device']}#{row['ifindex']} in {row['netns']}" if row["device"] else "-"


DIFFERENCES: Final[Columns] = (
    ("NODE", phrases.on_node),
    ("DIFFERENCE", value("kind")),
    ("NETWORK", lambda row: row["network_name"] or "-"),
    *plain("VNI"),
    ("DEVICE", _located),
    ("SINCE", _age("since")),
    *plain("REASON"),
)
PLAN: Final[Columns] = (
    *plain("ACTION"),
    ("DEVICE", _located),
    *plain("VNI"),
    ("NETWORK", lambda row: row["network_name"] or "-"),
    *plain("PROOF"),
    ("BECAUSE", lambda row: row["missing"] or row["reason"]),
)
AUDIT: Final[Columns] = (
    ("AGE", _age("at")),
    *plain("STAGE", "ACTOR"),
    ("DEVICE", formats.device),
    *plain("REASON"),
)
