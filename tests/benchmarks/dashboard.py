"""What a person waits for in Chromium: first load of the dashboard, and a removal on an open page.

At 500 and 5,000 nodes with 60 networks, of which each node has 20; one node in fifty is not as it should be.
"""

import argparse
import hashlib
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import Browser, Page, sync_playwright
from sqlalchemy import insert

from contract.verdicts import Proof, Stage, Urgency, Verdict
from controller.db.engine import Database
from controller.db.models import (
    Attachment,
    Cluster,
    Device,
    DueNode,
    Lease,
    Network,
    NetworkVni,
    Node,
)
from tests.audit_rows import add, row
from tests.browser.chromium import launch
from tests.browser.dashboard import Dashboard
from tests.tokens import ADMIN, give_token

SIZES: Final = (500, 5_000)
NETWORKS: Final = 60
OF_A_NODE: Final = 20
LOADS: Final = 9
REMOVALS: Final = 15
_BATCH: Final = 500
_WRONG_EACH: Final = 50
_DIGITS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_PAGES: Final = ("/", "/matrix", "/matrix?everything=true")
_TIMES: Final = """() => {
  const [page] = performance.getEntriesByType("navigation");
  const [paint] = performance.getEntriesByName("first-contentful-paint");
  return { answered: page.responseStart, paint: paint.startTime, ready: page.domContentLoadedEventEnd };
}"""
_WATCH: Final = """() => {
  window.seen = [];
  const had = new Set([...document.querySelectorAll(".feed li")].map((row) => row.id));
  new MutationObserver(() => {
    for (const row of document.querySelectorAll(".feed li")) {
      if (!had.has(row.id)) { had.add(row.id); window.seen.push(Date.now()); }
    }
  }).observe(document.getElementById("main"), { childList: true, subtree: true, attributes: true });
}"""


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("nodes", type=int, nargs="*", default=SIZES)
    for nodes in parser.parse_args().nodes:
        with (
            tempfile.TemporaryDirectory() as folder,
            Dashboard(Path(folder)) as dashboard,
            sync_playwright() as playwright,
        ):
            fill(dashboard.database, nodes)
            browser = launch(playwright)
            for path in _PAGES:
                print(f"{nodes} nodes, {path}: {_loads(browser, dashboard, path)}")
            print(f"{nodes} nodes: a removal is on the page after {_removals(browser, dashboard)}")
            browser.close()


def _open(browser: Browser, dashboard: Dashboard) -> Page:
    context = browser.new_context(base_url=dashboard.url, viewport={"width": 1280, "height": 900})
    name, value = dashboard.cookie(ADMIN)
    context.add_cookies([{"name": name, "value": value, "url": dashboard.url}])
    return context.new_page()


def _loads(browser: Browser, dashboard: Dashboard, path: str) -> str:
    """Load a page a few times, in a browser that runs and has nothing of it in its cache."""
    found: list[dict[str, float]] = []
    page = _open(browser, dashboard)
    session = page.context.new_cdp_session(page)
    session.send("Network.enable")
    session.send("Network.setCacheDisabled", {"cacheDisabled": True})
    events: list[dict[str, float]] = []
    session.on("Network.loadingFinished", _into(events))
    for _ in range(LOADS + 1):
        page.goto("about:blank")
        events.clear()
        page.goto(path, wait_until="load")
        page.wait_for_selector("#live[data-state=live]")
        page.wait_for_timeout(300)
        found.append(page.evaluate(_TIMES))
    size = round(sum(event["encodedDataLength"] for event in events))
    page.context.close()
    median = {key: statistics.median(each[key] for each in found[1:]) for key in found[0]}
    return (
        f"{size / 1000:.1f} kB in all; answered after {median['answered']:.0f} ms, "
        f"painted {median['paint']:.0f}, interactive {median['ready']:.0f}"
    )


def _into(events: list[dict[str, float]]) -> Callable[[dict[str, float]], None]:
    """Return a handler, which must be a function of Python's, that notes what it is called with."""

    def note(event: dict[str, float]) -> None:
        events.append(event)

    return note


def _removals(browser: Browser, dashboard: Dashboard) -> str:
    """Store removals while the overview is open; return after how long they stand there."""
    page = _open(browser, dashboard)
    page.goto("/")
    page.wait_for_selector("#live[data-state=live]")
    page.evaluate(_WATCH)
    delays = []
    for number in range(REMOVALS):
        page.wait_for_timeout(700 + 37 * number)
        stored = _remove(dashboard.database, number)
        page.wait_for_function("(count) => window.seen.length >= count", arg=number + 1)
        delays.append(page.evaluate("window.seen.at(-1)") / 1000 - stored)
    page.context.close()
    return (
        f"{statistics.median(delays) * 1000:.0f} ms (median of {len(delays)}; "
        f"slowest {max(delays) * 1000:.0f})"
    )


def _remove(database: Database, number: int) -> float:
    """Store the audit row of a removal; return when it was there."""
    now = datetime.now(UTC)
    add(database, row(stage=Stage.APPLIED, at=now, node_id=_id("n", number)))
    return time.time()


def fill(database: Database, nodes: int) -> None:
    """Store a cluster; in an empty database."""
    now = datetime.now(UTC)
    give_token(database)
    with database.write() as session:
        session.add(
            Cluster(
                id=1,
                swarm_id="s" * 25,
                data_path_port=4789,
                synced_at=now,
                conditions=_conditions(
                    now, DesiredStateKnown="SwarmRead", RemovalsAllowed="Enforcing"
                ),
                conditions_at=now,
                conditions_until=now + timedelta(days=1),
            )
        )
        session.add(
            Lease(name="controller", holder="hub:1:0", fence=1, expires_at=now + timedelta(days=1))
        )
        networks = [
            {"id": _id("x", number), "name": f"net{number:02d}", "ingress": False}
            for number in range(NETWORKS)
        ]
        session.execute(insert(Network), networks)
        vnis = [
            {"network_id": _id("x", number), "vni": 4096 + number} for number in range(NETWORKS)
        ]
        session.execute(insert(NetworkVni), vnis)
        session.execute(insert(Node), [_node(number, now) for number in range(nodes)])
        due = [{"node_id": _id("n", number), "due_at": now} for number in range(nodes)]
        session.execute(insert(DueNode), due)
    for first in range(0, nodes, _BATCH):
        numbers = range(first, min(first + _BATCH, nodes))
        pairs = [(node, (node + each) % NETWORKS) for node in numbers for each in range(OF_A_NODE)]
        with database.write() as session:
            session.execute(insert(Attachment), [_attachment(*pair) for pair in pairs])
            session.execute(insert(Device), [_device(*pair, now) for pair in pairs])


def _id(kind: str, number: int) -> str:
    """An id of 25 characters that compresses as badly as Swarm's own."""
    value = int.from_bytes(hashlib.sha256(f"{kind}{number}".encode()).digest())
    return "".join(_DIGITS[value // 36**place % 36] for place in range(25))


def _is_wrong(number: int) -> bool:
    return number % _WRONG_EACH == 7


def _node(number: int, now: datetime) -> dict[str, Any]:
    ready = ("False", "TasksRejected") if _is_wrong(number) else ("True", "Converged")
    return {
        "id": _id("n", number),
        "hostname": f"node-{number:04d}",
        "role": "worker",
        "availability": "active",
        "state": "ready",
        "address": "192.0.2.1",
        "worker_version": "0.2.0",
        "worker_seen_at": now,
        "looked_at": now,
        "conditions": _conditions(
            now, Degraded="NothingWrong", Stalled="Progressing", Paused="NotPaused"
        )
        | _conditions(now, ready[0], Ready=ready[1]),
    }


def _conditions(now: datetime, status: str = "", **reasons: str) -> dict[str, dict[str, str]]:
    false = ("Degraded", "Stalled", "Paused")
    return {
        kind: {
            "status": status or ("False" if kind in false else "True"),
            "reason": reason,
            "message": f"a message of some length, about {kind} and the reason {reason}, with what to do",
            "since": now.isoformat(),
        }
        for kind, reason in reasons.items()
    }


def _attachment(node: int, network: int) -> dict[str, Any]:
    return {
        "node_id": _id("n", node),
        "network_id": _id("x", network),
        "reasons": ["task web.1"],
        "running": True,
    }


def _device(node: int, network: int, now: datetime) -> dict[str, Any]:
    is_orphan = _is_wrong(node) and network % 7 == 0
    return {
        "node_id": _id("n", node),
        "netns": "host" if is_orphan else f"nsid:{network}",
        "ifindex": 10 + network,
        "name": f"vx-{4096 + network:06x}-{_id('x', network)[:5]}",
        "vni": 4096 + network,
        "port": 4789,
        "verdict": Verdict.ORPHAN if is_orphan else Verdict.IN_USE,
        "urgency": Urgency.BLOCKING if is_orphan else None,
        "network_id": _id("x", network),
        "reason": "idle, and a task was rejected" if is_orphan else "an endpoint is on its bridge",
        "evidence": "flags up, running; master br0; one endpoint",
        "proof": Proof.REJECTED if is_orphan else None,
        "first_seen_at": now,
        "judged_at": now,
        "verdict_at": now,
    }


if __name__ == "__main__":
    main()
