"""The verbs of `vxctl`: thin, each a question to the API and its answer on the screen."""

from typing import Annotated, Any

import typer

from contract import VERSION
from controller.cli import show
from controller.cli.client import Client, node_path
from controller.cli.show import Output

app = typer.Typer(
    name="vxctl",
    help="Keep Docker Swarm nodes free of orphaned VXLAN devices.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

# Their options are the settings, which bring their own help: see `vxctl controller --help`.
_PASS_ON = {"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []}

Url = Annotated[
    str,
    typer.Option(envvar="VXLAN_OPERATOR_URL", help="The controller's HTTP API."),
]
Form = Annotated[Output, typer.Option("--output", "-o", help="Form of output.")]
NodeArgument = Annotated[str, typer.Argument(help="Id, unique id prefix or hostname of a node.")]

_DEFAULT_URL = "http://127.0.0.1:8479"


@app.command(context_settings=_PASS_ON)
def controller(context: typer.Context) -> None:
    """Run the controller."""
    from controller.run import run
    from controller.settings import ControllerSettings

    settings = ControllerSettings.load(context.args)
    run(settings, settings.broker_url.get_secret_value())


@app.command(context_settings=_PASS_ON)
def up(context: typer.Context) -> None:
    """Run controller and worker of this machine in one process, with SQLite and without Redis."""
    from controller.local import up as run_both
    from controller.settings import LocalSettings

    run_both(LocalSettings.load(context.args))


@app.command()
def status(url: Url = _DEFAULT_URL, output: Form = Output.TABLE) -> None:
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


@app.command()
def audit(
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows at most.")] = 50,
    url: Url = _DEFAULT_URL,
    output: Form = Output.TABLE,
) -> None:
    """Show what was found and done, the newest first."""
    rows = Client(url).get("/api/v1/audit", node=node, limit=limit)
    if output is Output.JSON:
        show.as_json(rows)
        return
    show.table(
        ("TIME", "NODE", "STAGE", "DEVICE", "PLACE", "VNI", "NETWORK", "URGENCY", "REASON"),
        [
            (
                show.clock(row["at"]),
                row["node_name"],
                row["stage"],
                f"{row['name']}#{row['ifindex']}",
                row["place"],
                str(row["vni"]),
                row["network_name"] or row["network_id"] or "?",
                row["urgency"],
                row["reason"],
            )
            for row in rows
        ],
        empty="nothing was found or done yet",
    )


@app.command()
def requeue(node: NodeArgument, url: Url = _DEFAULT_URL, output: Form = Output.TABLE) -> None:
    """Look at a node now, whatever its backoff says."""
    answer = Client(url).post(node_path(node, "/requeue"))
    if output is Output.JSON:
        show.as_json(answer)
        return
    name = f"{answer['node_name']} ({answer['node_id']})"
    if answer["waits_for_run"]:
        show.line(f"{name} is being looked at; it is looked at once more after that")
    else:
        show.line(f"{name} is looked at now")


@app.command()
def version() -> None:
    """Show the version."""
    show.line(f"vxctl {VERSION}")


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
