"""The verbs about nodes: looking."""

from typing import Any

import typer

from controller.cli import show
from controller.cli.client import Client
from controller.cli.options import DEFAULT_URL, Form, Url
from controller.cli.show import Output


def install(app: typer.Typer) -> None:
    """Add the verbs."""
    app.command()(status)


def status(url: Url = DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Show every node: what was last seen there, and what is due."""
    answer = Client(url).get("/api/v1/status")
    if output is Output.JSON:
        show.as_json(answer)
        return
    _show_cluster(answer)
    show.table(
        ("NODE", "ID", "STATE", "GENERATION", "WORKER SEEN", "DEVICES", "NEXT RUN", "TROUBLE"),
        [
            (
                node["hostname"],
                node["id"],
                f"{node['state']}/{node['availability']}",
                f"{node['converged_generation']}/{node['generation']}",
                "never" if node["worker_seen_at"] is None else show.ago(node["worker_seen_at"]),
                ", ".join(f"{count} {word}" for word, count in sorted(node["devices"].items()))
                or "-",
                "running" if node["running"] else show.ago(node["due_at"]),
                "; ".join(_troubles(node)) or "-",
            )
            for node in answer["nodes"]
        ],
        empty="no nodes yet",
    )


def _troubles(node: dict[str, Any]) -> list[str]:
    troubles = [] if node["last_error"] is None else [node["last_error"]]
    troubles += node["limits"]
    if node["missing"]:
        troubles.append(f"no device for network(s) {', '.join(node['missing'])}")
    return troubles


def _show_cluster(answer: dict[str, Any]) -> None:
    cluster = answer["cluster"]
    if cluster is None:
        show.line("The Swarm has not been read yet.")
        return
    show.line(
        f"Swarm {cluster['swarm_id']}, mode {answer['mode']}, "
        f"read {show.ago(cluster['synced_at'])}, data path port {cluster['data_path_port']}"
    )
    if cluster["sync_error"]:
        show.line(
            f"The last reading failed {show.ago(cluster['sync_error_at'])}: {cluster['sync_error']}"
        )
    show.line("")
