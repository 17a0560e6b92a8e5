"""Writes vxlan-operator.json, the dashboard for Grafana 10 or newer, from panels.txt: `make dashboard`."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

FILE: Final = Path(__file__).with_name("vxlan-operator.json")
PANELS: Final = FILE.with_name("panels.txt")

_STATS: Final[dict[str, list[tuple[float | None, str]]]] = {
    "number": [(None, "blue")],
    "zero": [(None, "green"), (1, "red")],
    "one": [(None, "red"), (1, "green")],
    "minutes": [(None, "green"), (60, "orange"), (180, "red")],
}
_METRIC: Final = re.compile(r"\b((?:vxlan_operator|process)_\w+)(?:\{(.*?)\})?")
_SOURCE: Final = {"type": "prometheus", "uid": "${datasource}"}


def _queries(query: str, job: str) -> Iterator[tuple[str, str]]:
    """Yield the queries of a panel with their legends."""
    if not query.startswith("QUANTILES"):
        labels = re.search(r"by \((.*?)\)", query)
        names = labels[1].split(", ") if labels else []
        yield _selected(query, job), " ".join(f"{{{{{name}}}}}" for name in names)
        return
    _, over, change, metric = query.split()
    for share in (0.5, 0.9, 0.99):
        buckets = f"{over} by (le) ({change}({metric}_bucket[$__rate_interval]))"
        yield (
            _selected(f"histogram_quantile({share}, {buckets})", job),
            f"{share:.0%} take at most",
        )


def _selected(query: str, job: str) -> str:
    """Return the query with a selector of the job at each metric."""

    def select(found: re.Match[str]) -> str:
        selector = 'job=~"{}"'.format("$worker_job" if "_worker_" in found[1] else job)
        return f"{found[1]}{{{selector}{f',{found[2]}' if found[2] else ''}}}"

    return _METRIC.sub(select, query)


def _panels() -> Iterator[dict[str, Any]]:
    left = top = height = 0
    row = ""
    lines = [line for line in PANELS.read_text().splitlines() if line and line[0] != ";"]
    for number, line in enumerate(lines, 1):
        if line.startswith("# "):
            row, top, left = line[2:], top + height, 0
            place = {"h": 1, "w": 24, "x": 0, "y": top}
            top += 1
            yield {"id": number, "type": "row", "title": row, "gridPos": place, "panels": []}
            continue
        kind, title, query = (part.strip() for part in line.split("|", 2))
        width, height = (4, 4) if kind in _STATS else (8, 8)
        if left + width > 24:
            left, top = 0, top + height
        job = "$worker_job" if row == "Workers" else "$job"
        yield _panel(kind, title, list(_queries(query, job))) | {
            "id": number,
            "gridPos": {"h": height, "w": width, "x": left, "y": top},
        }
        left += width


def _panel(kind: str, title: str, queries: list[tuple[str, str]]) -> dict[str, Any]:
    steps = [{"value": value, "color": colour} for value, colour in _STATS.get(kind, [])]
    options: dict[str, Any] = {"tooltip": {"mode": "multi", "sort": "desc"}}
    if kind in _STATS:
        options = {"colorMode": "background", "reduceOptions": {"calcs": ["lastNotNull"]}}
    return {
        "type": "stat" if kind in _STATS else "timeseries",
        "title": title,
        "datasource": _SOURCE,
        "targets": [
            {"refId": "ABC"[index], "expr": query, "legendFormat": legend, "datasource": _SOURCE}
            for index, (query, legend) in enumerate(queries)
        ],
        "fieldConfig": {
            "defaults": {
                "unit": "short" if kind in _STATS else kind,
                "thresholds": {"mode": "absolute", "steps": steps or [{"value": None, "color": "green"}]},
            },
            "overrides": [],
        },
        "options": options,
    }  # fmt: skip


def _job(name: str, label: str, value: str) -> dict[str, Any]:
    """Return a variable for the name of a job."""
    option = {"selected": True, "text": value, "value": value}
    texts = {"name": name, "label": label, "type": "textbox", "query": value}
    return texts | {"current": option, "options": [option]}


def text() -> str:
    """Return the file's content: the dashboard as Grafana imports it."""
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource"}
    source["query"] = "prometheus"
    jobs = [
        _job("job", "job of controllers", "vxlan-operator"),
        _job("worker_job", "job of workers", "vxlan-operator-worker"),
    ]
    dashboard = {
        "uid": "vxlan-operator",
        "title": "vxlan-operator",
        "tags": ["docker", "swarm", "vxlan"],
        "schemaVersion": 38,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {"list": [source, *jobs]},
        "panels": list(_panels()),
    }
    return json.dumps(dashboard, indent=2) + "\n"


if __name__ == "__main__":
    FILE.write_text(text())
