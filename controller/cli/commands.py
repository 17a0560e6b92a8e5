"""The typer application `vxctl`: the tree of its verbs, each with its help in a line."""

from typing import Annotated, Final

import typer

from controller.cli.verbs import Group, Verb, application

_SUMMARY: Final = "Keep Docker Swarm nodes free of orphaned VXLAN devices."

TREE: Final = Group(
    _SUMMARY,
    {
        "status": Verb(
            "status:status",
            "Show whether all is well, what is wrong, and the nodes, worst first.",
            more="Exit status: 0 all is well, 3 something is not as it should be, 1 it could not be asked.",
        ),
        "get": Group(
            "List nodes, networks, devices or runs.",
            {
                "nodes": Verb("get:nodes", "List the nodes of the Swarm.", ("node", "no")),
                "networks": Verb(
                    "get:networks", "List the overlay networks of the Swarm.", ("network", "net")
                ),
                "devices": Verb(
                    "get:devices",
                    "List the VXLAN devices that the workers last reported.",
                    ("device", "dev"),
                ),
                "runs": Verb("get:runs", "List runs, the newest first.", ("run",)),
            },
        ),
        "describe": Group(
            "Show all about a node or a network.",
            {
                "node": Verb(
                    "describe:node",
                    "Show a node: its conditions, networks, devices and last runs.",
                    ("nodes", "no"),
                ),
                "network": Verb(
                    "describe:network",
                    "Show a network: its VNIs, the nodes it is attached to, and its devices.",
                    ("networks", "net"),
                ),
            },
        ),
        "explain": Verb(
            "explain:explain",
            "Explain an error of Docker or Swarm: its meaning, what was done about it, and what to do.",
            more="Takes one line, or a whole log: the same fault in many lines is told once. Messages may be "
            "cut, wrapped, coloured, or in JSON.",
            takes_text=True,
        ),
        "events": Verb(
            "events:events",
            "Show what happened, newest last: findings, decisions, rejections, removals, lost runs.",
        ),
        "tree": Group(
            "Show what hangs on a network or a node.",
            {
                "network": Verb(
                    "tree:network",
                    "Show a network, its nodes with their last runs, and its devices there.",
                    ("net",),
                ),
                "node": Verb(
                    "tree:node",
                    "Show a node with its last run, its networks, and their devices.",
                    ("no",),
                ),
            },
        ),
        "diff": Verb(
            "diff:diff",
            "Compare desired state with what was seen. Exit status: 0 same, 3 it differs or is unknown.",
        ),
        "plan": Verb(
            "diff:plan",
            "Show what the next run of a node would remove, and what is missing or in the way.",
        ),
        "suppressed": Verb(
            "suppressed:suppressed",
            "Show the devices that would be removed but for what holds them back, and what ends that.",
        ),
        "wait": Group(
            "Wait for a condition of a node, or a run.",
            {
                "node": Verb(
                    "wait:node",
                    "Wait for a condition of a node. Exit status: 0 it is met, 3 the time is over.",
                    ("no",),
                ),
                "run": Verb(
                    "wait:run",
                    "Wait for the end of a run. Exit status: 0 it is met, 3 the time is over, "
                    "or it did not succeed.",
                ),
            },
        ),
        "doctor": Verb(
            "doctor:doctor",
            "Check what a controller on this machine needs. Exit status: 0 all is well, 3 it is not.",
        ),
        "requeue": Verb(
            "requeue:requeue",
            "Reconcile a node now, regardless of its backoff.",
            more="Exit status 3: the request is stored, and not sent yet.",
        ),
        "pause": Verb(
            "safety:pause",
            "Pause runs of a node or of the cluster, or removals of a network's devices.",
        ),
        "resume": Verb("safety:resume", "Undo a pause, and reconcile the nodes concerned now."),
        "mode": Verb(
            "safety:mode",
            "Set the mode of a node, a network or the cluster; the strictest mode wins.",
        ),
        "breaker": Group(
            "Show the breaker: removals, limits, and where it has tripped.",
            {
                "reset": Verb(
                    "safety:reset",
                    "Allow removals again on a node, or everywhere without NODE. "
                    "First find out why it tripped.",
                ),
            },
            Verb("safety:breaker", "Show the breaker: removals, limits, and where it has tripped."),
        ),
        "audit": Group(
            "Show what was found, done and decided, the newest first; also of past nodes and networks.",
            {
                "show": Verb(
                    "audit:show",
                    "Show the timeline of a run: who requested it, what was found, what was done.",
                ),
                "stats": Verb(
                    "audit:stats",
                    "Count removals by node, network and day; of the last 30 days by default.",
                ),
                "verify": Verb(
                    "chain:verify",
                    "Check that the audit trail was not edited. Exit status 3: it was.",
                ),
                "export": Verb(
                    "chain:export",
                    "Write the audit trail to standard output, as JSON lines that `verify` can check.",
                ),
            },
            Verb(
                "audit:audit",
                "Show what was found, done and decided, the newest first; also of past nodes and networks.",
            ),
        ),
        "notify": Group(
            "Say who is told of problems and removals: targets of notifications.",
            {
                "add": Verb(
                    "notify:add",
                    "Add a target: a webhook, a chat, mail, a service of apprise, or a heartbeat.",
                    more="Events: orphan_removed, removal_failed, tasks_rejected, node_silent, node_stalled, "
                    "clock, breaker_tripped, desired_state_unknown, broker_unreachable, messages_refused, "
                    "certificate.",
                ),
                "list": Verb("notify:list_", "List the targets, and how they fare."),
                "test": Verb(
                    "notify:try_",
                    "Send a test, and show the answer. Exit status 3: it was not taken.",
                ),
                "mute": Verb(
                    "notify:mute",
                    "Send nothing to a target for a while.",
                    more="Problems that are still there at the end are told then; removals are not.",
                ),
                "unmute": Verb("notify:unmute", "End a mute."),
                "rotate": Verb(
                    "notify:rotate",
                    "Give a webhook another secret, and show it this once.",
                    more="The former secret signs beside it for a day.",
                ),
                "remove": Verb("notify:remove", "Remove a target, and what waits for it."),
            },
        ),
        "token": Group(
            "Create, list and revoke tokens of the API.",
            {
                "create": Verb("token:create", "Create an API token, and show it this once."),
                "list": Verb("token:list_", "List the API tokens, without their secrets."),
                "revoke": Verb("token:revoke", "Revoke an API token: it is refused from now on."),
            },
        ),
        "node": Group(
            "Say whose keys are believed: nodes' keys, and tokens for nodes to join with.",
            {
                "keys": Verb(
                    "node_keys:keys", "List the keys that the workers of nodes have shown."
                ),
                "trust": Verb(
                    "node_keys:trust",
                    "Believe the key of a node's worker, in place of those before.",
                    more="Compare it first with what `vxlan-worker key` shows on the node: anybody who can "
                    "write to the broker can show a key for any node.",
                ),
                "revoke": Verb(
                    "node_keys:revoke",
                    "Believe a key of a node no more.",
                    more="Its worker's messages then do nothing, and it does nothing new, until "
                    "`vxctl node trust`.",
                ),
                "rotate": Verb(
                    "node_keys:rotate",
                    "Ask a node's worker to replace its key.",
                    more="It makes the next one in its next run, which is asked for at once unless the node "
                    "is paused; the key before vouches for it. `vxctl node keys` shows when it is trusted. "
                    "At most once in ten minutes. --withdraw ends the wish.",
                ),
                "join-token": Group(
                    "Create, list or revoke join tokens, which vouch for the first key of a node.",
                    {
                        "create": Verb(
                            "join_token:create",
                            "Create a join token, and show it this once.",
                            more="Workers need it at their first start "
                            "(VXLAN_OPERATOR_JOIN_TOKEN_FILE): it names the controllers' key, and "
                            "vouches for the first key of each node.",
                        ),
                        "list": Verb(
                            "join_token:list_", "List the join tokens, without their secrets."
                        ),
                        "revoke": Verb(
                            "join_token:revoke",
                            "Revoke a join token: it pins no more keys; nodes that joined with it stay.",
                        ),
                    },
                ),
            },
        ),
        "keys": Group(
            "Show the controllers' keys, rotate them, or replace one that is lost.",
            {
                "rotate": Verb(
                    "keys:rotate",
                    "Make the controllers' next key and let the workers know it; with --finish, let it sign.",
                    more="After that, make new join tokens: those of before name the former key.",
                ),
                "replace": Verb(
                    "keys:replace",
                    "Retire the controllers' key, which is lost, in the database, while no controller runs: "
                    "the next start makes another.",
                    more="Then every worker needs a new join token.",
                ),
            },
            alone=Verb("keys:keys", "Show the controllers' keys."),
        ),
        "broker": Group(
            "Make the users of the broker, Redis.",
            {
                "acl": Verb(
                    "broker:acl_",
                    "Print Redis' users as an aclfile: each may do what it needs, and nothing else.",
                    more="With --bootstrap, makes the users and passwords of a new Redis, without a "
                    "controller. With --passwords, adds the users of all nodes that are believed; the "
                    "leader keeps those by itself where VXLAN_OPERATOR_BROKER_ACL is true.",
                ),
            },
        ),
        "login": Verb(
            "login:login",
            "Check a token with a controller, and keep both as a context.",
            more="The token is asked for, or read from standard input.",
        ),
        "config": Group(
            "Show and change contexts: controllers by name, each with URL, token and CA.",
            {
                "list": Verb("config:list_", "List the contexts; `*` marks the current one."),
                "use": Verb("config:use", "Make a context the current one."),
                "set": Verb("config:set_", "Create a context, or change it."),
                "remove": Verb("config:remove", "Remove a context."),
                "path": Verb("config:path", "Print the path of the file with the contexts."),
            },
        ),
        "stack": Group(
            "Make what the Swarm stack (compose.yml) needs.",
            {
                "secrets": Verb(
                    "stack:secrets",
                    "Make keys, certificates, passwords and tokens for packaging/stack/install.",
                    more="What is there already stays. Needs no controller.",
                ),
            },
        ),
        "db": Group(
            "Show, upgrade or check the database schema.",
            {
                "current": Verb("db:current", "Show the version of the schema. Changes nothing."),
                "upgrade": Verb(
                    "db:upgrade",
                    "Upgrade the schema to the newest version in one transaction, "
                    "as a starting controller does.",
                ),
                "check": Verb(
                    "db:check",
                    "Compare the schema with that of this version. Changes nothing. "
                    "Exit status 3: it differs.",
                ),
            },
        ),
        "version": Verb(
            "version:version",
            "Show the versions of vxctl, the controller, its database schema, and the workers.",
        ),
        "completion": Verb(
            "completion:completion",
            "Print the completion of a shell: `source <(vxctl completion bash)` in its start-up file.",
        ),
        "controller": Verb("serve:controller", "Run the controller."),
        "up": Verb(
            "serve:up",
            "Run controller and worker of this machine in one process, with SQLite and no Redis.",
        ),
    },
)


def _show_version(wanted: bool) -> None:
    if wanted:
        from contract import VERSION

        typer.echo(f"vxctl {VERSION}")
        raise typer.Exit


def _options(
    version: Annotated[
        bool,
        typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version."),
    ] = False,
) -> None:
    """Take the options of `vxctl` itself."""


app = application("vxctl", TREE, _options)
