"""A real Prometheus scrapes a real controller and a real worker: alert rules and the dashboard's queries."""

import json
import re
import shutil
import sys
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

import httpx
import pytest
import yaml

from tests.conftest import cannot
from tests.controller_process import controller_of, free_port
from tests.fake_docker import FakeDocker
from tests.fake_swarm import snapshot, swarm_id
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import running
from tests.servers import RedisServer, Server, await_true
from tests.unit.test_alerts import ALERTS, DASHBOARD, RULES

pytestmark = pytest.mark.privileged

_METRIC: Final = re.compile(r"\b(?:vxlan_operator|process)_\w+")
_OURS: Final = Path(sys.executable).with_name("prometheus")
_JOBS: Final = {"$job": "vxlan-operator", "$worker_job": "vxlan-operator-worker"}
_PANELS: Final = {
    f"{panel['title']} {target['refId']}": target["expr"]
    for panel in json.loads(DASHBOARD.read_text())["panels"]
    for target in panel.get("targets", ())
}
_MAY_BE_EMPTY: Final = {
    "Orphans by urgency and proof A",
    "What is wrong with the cluster A",
    "Removals held back A",
    "Journal backlog A",
    "Requests overdue A",
}
"""Where all is well."""


class Prometheus(Server):
    """Debian's Prometheus with our rules, looking each second."""

    def __init__(self, folder: Path, token: str, controller: str, worker: str) -> None:
        program = str(_OURS) if _OURS.exists() else shutil.which("prometheus")
        if program is None:
            cannot("prometheus is missing: run scripts/install (as root where apt has no lists)")
        folder.mkdir()
        super().__init__(folder)
        self._program = program
        self._address = f"127.0.0.1:{free_port()}"
        self.api = httpx.Client(base_url=f"http://{self._address}/api/v1/", timeout=30)
        controllers: dict[str, Any] = {
            "job_name": _JOBS["$job"],
            "authorization": {"credentials": token},
            "static_configs": [{"targets": [controller]}],
        }
        workers = {
            "job_name": _JOBS["$worker_job"],
            "static_configs": [{"targets": [worker]}],
        }
        settings = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(RULES)],
            "scrape_configs": [controllers, workers],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(settings))

    def command(self) -> Sequence[str]:
        """See `Server.command`."""
        return (
            self._program, f"--config.file={self.folder / 'prometheus.yml'}",
            f"--storage.tsdb.path={self.folder / 'data'}", f"--web.listen-address={self._address}",
        )  # fmt: skip

    def ready(self) -> bool:
        """See `Server.ready`."""
        try:
            return self.api.get(f"http://{self._address}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def query(self, expression: str) -> list[Any]:
        """The series that an expression has now."""
        answer = self.api.get("query", params={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        found: list[Any] = answer["data"]["result"]
        return found

    def rules(self) -> dict[str, Any]:
        """The alert rules that it has evaluated, by name."""
        groups = self.api.get("rules").json()["data"]["groups"]
        return {
            rule["name"]: rule
            for group in groups
            for rule in group["rules"]
            if rule["health"] != "unknown"
        }


@pytest.fixture
def worker_metrics(tmp_path: Path) -> Iterator[str]:
    """Where the metrics of a worker with a Unix socket are for Prometheus, which knows TCP alone."""
    socket = str(tmp_path / "metrics.sock")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            with httpx.Client(transport=httpx.HTTPTransport(uds=socket)) as client:
                answer = client.get("http://node/metrics")
            self.send_response(answer.status_code)
            self.send_header("Content-Type", answer.headers["content-type"])
            self.end_headers()
            self.wfile.write(answer.content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_port}"
        server.shutdown()


def panel(prometheus: Prometheus, query: str) -> list[Any]:
    """The series of a panel's query, with its variables as Grafana fills them in."""
    for variable, value in {"$__rate_interval": "10s", **_JOBS}.items():
        query = query.replace(variable, value)
    return prometheus.query(query)


def test_every_rule_and_query_finds_what_it_looks_for(
    tmp_path: Path, in_empty_namespace: int, redis_server: RedisServer, worker_metrics: str
) -> None:
    host = Namespace(in_empty_namespace)
    host.ip("link add of-somebody type vxlan id 7 dstport 4789")
    settings = {"NODE_ID": swarm_id("one"), "METRICS_LISTEN": str(tmp_path / "metrics.sock")}
    with (
        FakeDocker(tmp_path / "docker.sock", snapshot("one")) as docker,
        controller_of(tmp_path / "c", docker, redis_server.url) as controller,
        running(host, tmp_path, redis_server.url, **settings),
    ):
        token = controller.json("token", "create", "prometheus", "--role", "metrics")["token"]
        address = controller.url.removeprefix("http://")
        with Prometheus(tmp_path / "p", token, address, worker_metrics) as prometheus:
            await_true(lambda: len(prometheus.query("up == 1")) == 2, "both are scraped")
            await_true(
                lambda: prometheus.rules().keys() == ALERTS.keys(), "all rules were evaluated"
            )
            for name, rule in prometheus.rules().items():
                assert (rule["health"], rule["state"] == "firing") == ("ok", False), (name, rule)

            def empty() -> set[str]:
                return {name for name, query in _PANELS.items() if not panel(prometheus, query)}

            await_true(lambda: empty() <= _MAY_BE_EMPTY, "rates have two samples", pause=0.5)
            names = set(prometheus.api.get("label/__name__/values").json()["data"])
            for query in [*_PANELS.values(), *(alert["expr"] for alert in ALERTS.values())]:
                assert set(_METRIC.findall(query)) <= names, query
            await_true(
                lambda: panel(prometheus, _PANELS["Nodes not ready A"])[0]["value"][1] == "0",
                "the node is ready",
            )
            controller.end()
            await_true(
                lambda: prometheus.rules()["VxlanOperatorDown"]["state"] == "pending",
                "the last controller's end is seen",
            )
