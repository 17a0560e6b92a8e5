"""The life of an installation: refused, made, healing, upgraded, hurt, removed, restored; in this order."""

import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import partial
from pathlib import Path

import pytest

from tests import documents, old_database
from tests.images import CONTROLLER, WORKER
from tests.installed.installed import LABEL, STACK, Installed
from tests.lab import Lab, LabError, Node, OrphanDevice
from tests.servers import await_true
from tests.swarm.services import failures, make_network, make_service, scale
from tests.swarm.witness import Witness

pytestmark = [pytest.mark.swarm, pytest.mark.stack, pytest.mark.timeout(600)]

commands = partial(documents.commands, "install-stack.md")
HEALED = ["detected", "planned", "applied", "verified"]
_FAULT = "error creating vxlan interface: file exists"
_HEAL_SECONDS = 120.0


@pytest.fixture(autouse=True)
def led(lab: Lab) -> None:
    """Each test begins with a Swarm that has a leader: on a busy machine managers elect another."""

    def answers() -> bool:
        try:
            lab.manager.api.get("/nodes")
        except LabError:
            return False
        return True

    await_true(answers, "the Swarm has a leader", _HEAL_SECONDS)


def refused(
    operator: Installed, script: str, *arguments: str, node: Node | None = None
) -> tuple[str, str]:
    """Error and hint of a script that does nothing."""
    done = operator.script(script, *arguments, node=node)
    assert done.returncode == 1, done.stdout + done.stderr
    *_, error, hint = done.stderr.splitlines()
    return error.removeprefix("error: "), hint.removeprefix("hint: ")


def await_healed(operator: Installed, left: OrphanDevice) -> None:
    """Wait until the device is gone, and the audit trail says so."""
    await_true(lambda: not left.exists(), f"{left.name} is removed", _HEAL_SECONDS)
    await_true(
        lambda: operator.stages(left.node, left.name)[-1:] == ["verified"],
        f"the removal of {left.name} is recorded",
        _HEAL_SECONDS,
    )


def test_what_is_missing_is_told_before_anything_is_made(lab: Lab, operator: Installed) -> None:
    other = lab.nodes[2]
    assert refused(operator, "install", node=other)[0] == "this node is no manager of its Swarm"
    lab.manager.docker("node", "promote", "node2", "node3")
    for node in lab.nodes:
        await_true(lambda node=node: operator.manages(node), f"{node.name} is a manager")  # type: ignore[misc]

    error, hint = refused(operator, "install", node=other)
    assert error == f"this manager has no image {WORKER}"
    assert hint == "make images"

    listener = lab.manager.popen(
        [
            sys.executable,
            "-c",
            "import socket, time\ns = socket.create_server(('', 8480))\ntime.sleep(60)",
        ]
    )
    try:
        await_true(
            lambda: ":8480 " in lab.manager.run(["ss", "-ltn"]).stdout,
            "somebody listens at the port",
        )
        error, _ = refused(operator, "install")
        assert error == "port 8480 of this manager: Address already in use"
    finally:
        listener.kill()
        listener.wait(10)

    assert operator.docker("secret", "ls", "--quiet") == ""
    assert operator.docker("service", "ls", "--quiet") == ""
    assert [operator.labels(node) for node in lab.nodes] == [{}, {}, {}]
    assert operator.script("uninstall").returncode == 0, "of what is not there"


def test_it_is_installed_and_goes_on_after_an_interruption(lab: Lab, operator: Installed) -> None:
    # A ninth of that passes before an image is missed.
    error, hint = refused(operator, "install", "--wait", "90")
    assert error in {f"node node{number} has no image {WORKER}" for number in (2, 3)}
    assert hint.startswith("packaging/stack/copy-images node")

    def made() -> bool:
        try:
            database = operator.docker("ps", "--quiet", "--filter", f"name={STACK}_postgres")
            return operator.docker("exec", database, "cat", "/proc/1/comm") == "postgres"
        except LabError:
            return False

    # Ended before it has made its role, PostgreSQL has to be made anew (docs/install-stack.md).
    await_true(made, "PostgreSQL is made", _HEAL_SECONDS)
    # As it is when somebody presses Ctrl-C just then.
    operator.docker("stack", "rm", STACK)
    await_true(lambda: operator.tasks_left() == "", "the tasks end")
    operator.docker("secret", "rm", f"{STACK}-ca", f"{STACK}-signing-key")

    copied = operator.script("copy-images", "node2", "node3")
    assert copied.returncode == 0, copied.stderr
    said = operator.install()
    assert "secrets: all secrets are there" in said
    await_true(operator.well, "all is well", _HEAL_SECONDS)

    assert len(operator.tasks("worker")) == 3
    assert len(set(operator.tasks("controller").values())) == 2, "on two managers"
    assert "node1" in operator.tasks("controller").values(), "one where it was installed"
    overlays = operator.docker("network", "ls", "--filter", f"label={LABEL}", "--quiet")
    assert overlays == "", "it must work when overlay networks do not"
    keys = operator.rows("node", "keys")
    assert [row["state"] for row in keys] == ["trusted"] * 3, "one deploy, and no person in between"


def test_installed_again_it_changes_nothing(operator: Installed) -> None:
    before = operator.state()
    operator.install()
    assert operator.state() == before


def test_the_controllers_key_is_rotated_as_documented(operator: Installed, tmp_path: Path) -> None:
    *begin, finish = commands("**The controllers' key** is a secret")
    former = operator.rows("keys")[0]["id"]
    operator.shell(tmp_path, *begin)
    error, _ = refused(operator, "install")
    assert error.startswith("the controllers' key is being rotated")
    # Each worker hears of the next key by its next run.
    for node in operator.lab.nodes:
        operator.vxctl("requeue", node.name, "--reason", "it is to know the next key")

    def finished() -> bool:
        try:
            return "is signing" in operator.shell(tmp_path, finish)
        except LabError:
            return False

    await_true(finished, "all nodes know the next key", _HEAL_SECONDS)
    keys = {row["id"]: row["state"] for row in operator.rows("keys")}
    assert keys.pop(former) == "retired"
    assert list(keys.values()) == ["signing"]


def test_what_is_renewed_is_new_and_all_is_well_again(operator: Installed, tmp_path: Path) -> None:
    """One deployment with all: the rotated key in its place, a token for a revoked one, new secrets."""
    before = operator.state()["secrets"]
    signing = operator.rows("keys")[0]["id"]
    into, *place, _list = commands("From then on the next key signs.")
    rescue, _install = commands("### If the API token `admin` was revoked")
    operator.vxctl("token", "revoke", "admin")
    with pytest.raises(LabError, match="--database-url URL"):
        operator.vxctl("status")
    install = place.pop()
    operator.shell(tmp_path, into, rescue, *place)
    assert install.startswith("packaging/stack/install --renew join-token")
    operator.install("--renew", "join-token", "--renew", "certificates", "--renew", "broker")
    after = operator.state()["secrets"]
    assert len(after) == len(before) - 1, "without the next key's"
    assert set(after).isdisjoint(before), "all are given to Swarm again"
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.rows("keys")[0]["id"] == signing
    assert [row["name"] for row in operator.rows("token", "list")] == ["rescue"]
    assert operator.verified()


def test_what_docker_leaked_is_removed_and_its_tasks_run(lab: Lab, operator: Installed) -> None:
    node = lab.nodes[1]
    network = make_network(lab, "healed")
    make_service(lab, "healed", network.name, node)
    leaked = lab.leak(node, network, "healed", replicas=1).device
    await_true(
        lambda: any(_FAULT in error for error in lab.task_errors("healed")),
        "Swarm rejects the task",
    )
    await_healed(operator, leaked)
    lab.wait_tasks("healed", node=node)
    assert operator.stages(node, leaked.name) == HEALED


@contextmanager
def churn(lab: Lab) -> Iterator[list[str]]:
    """Services that start and stop on all nodes meanwhile; their names."""
    networks = [make_network(lab, f"churn{number}") for number in range(3)]
    services = [f"churn{number}" for number in range(6)]
    for number, service in enumerate(services):
        make_service(
            lab, service, networks[number % 3].name, lab.nodes[number % 3], replicas=number % 2
        )
    code = (
        "import subprocess, sys, time\n"
        "ones = 0\n"
        "while True:\n"
        "    ones = 1 - ones\n"
        "    for number in range(6):\n"
        "        subprocess.run([*sys.argv[1:], 'service', 'scale', '--detach',\n"
        "            f'churn{number}={(number + ones) % 2}'], stdout=subprocess.DEVNULL, timeout=60)\n"
        "    time.sleep(5)\n"
    )
    scaler = lab.manager.popen([sys.executable, "-c", code, *lab.manager.docker_command()])
    try:
        yield services
        assert scaler.poll() is None, "the load went on to the end"
    finally:
        scaler.kill()
        scaler.wait(20)


def test_a_new_version_is_rolled_out_under_load(
    lab: Lab, operator: Installed, tmp_path: Path
) -> None:
    """Nothing is lost: each orphan is removed once and recorded once, and no task fails."""
    planted_on = lab.nodes[2]
    networks = [make_network(lab, f"rolled{number}") for number in range(8)]
    images = operator.next_images()
    before = set(operator.tasks("worker")) | set(operator.tasks("controller"))
    with Witness(planted_on) as witness, churn(lab) as services:
        log = (tmp_path / "install.log").open("w+")
        upgrade = subprocess.Popen(
            [str(operator.path("install"))],
            env=operator.environment(variables=images), stdout=log, stderr=log, text=True,
        )  # fmt: skip
        planted = []
        for network in networks:
            planted.append(lab.plant_orphan(planted_on, network))
            time.sleep(4)
        assert upgrade.wait(400) == 0, (tmp_path / "install.log").read_text()
        log.close()
        for each in planted:
            await_healed(operator, each)
        for each in planted:
            assert witness.deletions(each.name) == [each.ifindex]
            assert operator.stages(planted_on, each.name) == HEALED
    for service in services:
        scale(lab, service, 1)
    for service in services:
        lab.wait_tasks(service)
    assert failures(lab, services) == {}

    after = set(operator.tasks("worker")) | set(operator.tasks("controller"))
    assert before.isdisjoint(after)
    for name in ("worker", "controller"):
        assert operator.image(name).endswith("-next")
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.verified()


def test_a_version_that_does_not_run_is_rolled_back(operator: Installed) -> None:
    runs = {f"{name.upper()}_IMAGE": operator.image(name) for name in ("worker", "controller")}
    broken = operator.image_of(WORKER, "broken", 'ENTRYPOINT ["false"]')
    done = operator.script("install", variables=runs | {"WORKER_IMAGE": broken})
    assert done.returncode == 1, done.stdout + done.stderr
    assert "error: a new version did not run, and was rolled back" in done.stderr
    assert operator.image("worker") == runs["WORKER_IMAGE"]
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.verified()


def test_a_manager_that_is_lost_stops_nothing(lab: Lab, operator: Installed) -> None:
    """The other one with a controller, whether that leads or not: the rest goes on within seconds."""
    lost = next(node for node, _ in operator.controllers() if node is not lab.manager)
    other = next(node for node in lab.nodes[1:] if node is not lost)
    network = make_network(lab, "lost")
    lost.cut()
    try:
        planted = lab.plant_orphan(other, network)
        await_true(lambda: not planted.exists(), f"{planted.name} is removed", _HEAL_SECONDS)
    finally:
        lost.reconnect()
    lab.wait_ready()
    await_healed(operator, planted)
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.verified()


def test_the_manager_with_the_data_that_is_lost_stops_the_healing_and_loses_nothing(
    lab: Lab, operator: Installed
) -> None:
    """docs/install-stack.md: nothing is removed while Redis and PostgreSQL are away, and all is after."""
    network = make_network(lab, "away")
    node = lab.nodes[1]
    rows = len(operator.rows("audit", "--all"))
    lab.manager.cut()
    try:
        planted = lab.plant_orphan(node, network)
        time.sleep(10)
        assert planted.exists()
    finally:
        lab.manager.reconnect()
    lab.wait_ready()
    await_healed(operator, planted)
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.verified()
    assert len(operator.rows("audit", "--all")) > rows


@pytest.fixture(scope="module")
def backup(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a backup."""
    return tmp_path_factory.mktemp("backup")


def test_it_is_backed_up_as_documented(operator: Installed, backup: Path) -> None:
    operator.shell(backup, *commands("## Backup"))
    assert {file.name for file in backup.iterdir()} == {"secrets.tar", "audit.sql"}
    assert {file.stat().st_mode & 0o777 for file in backup.iterdir()} == {0o600}


def test_removed_it_leaves_nothing_but_the_volumes_that_it_names(
    lab: Lab, operator: Installed
) -> None:
    done = operator.script("uninstall")
    assert done.returncode == 0, done.stderr
    assert operator.docker("service", "ls", "--quiet", "--filter", f"label={LABEL}") == ""
    assert operator.docker("secret", "ls", "--quiet") == ""
    assert operator.docker("config", "ls", "--quiet") == ""
    assert [operator.labels(node) for node in lab.nodes] == [{}, {}, {}]
    for node in lab.nodes:
        await_true(
            lambda node=node: operator.docker(  # type: ignore[misc]
                "ps", "--all", "--quiet", "--filter", f"name={STACK}", node=node
            ) == "",
            f"no container is left on {node.name}",
        )  # fmt: skip
        networks = operator.docker(
            "network", "ls", "--filter", f"name={STACK}", "--quiet", node=node
        )
        assert networks == ""
        for volume in operator.docker(
            "volume", "ls", "--quiet", "--filter", f"name={STACK}", node=node
        ).split():
            assert f"  {volume} " in done.stdout, "each volume that stays is named"
    assert operator.script("uninstall").returncode == 0


def test_a_backup_is_restored_on_another_manager_as_documented(
    lab: Lab, operator: Installed, backup: Path
) -> None:
    """The same key, the same trail: no worker has to be trusted again, and no task notices."""
    lost, *steps = commands("### Restore")
    assert lost.startswith("docker node demote"), "what the other tests need"
    running = {task.id for task in lab.tasks("healed") if task.state == "running"}
    operator.home = lab.nodes[1]
    operator.shell(backup, *steps)
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    assert operator.verified()
    stages = [row["stage"] for row in operator.rows("audit", "--all")]
    assert stages.count("join_created") == 2, "the first, and the renewed one"
    assert {task.id for task in lab.tasks("healed") if task.state == "running"} == running
    await_healed(operator, lab.plant_orphan(lab.nodes[0], make_network(lab, "restored")))
    assert operator.verified()


def test_a_database_of_version_0_1_0_is_taken_over_with_sqlite(
    lab: Lab, operator: Installed, tmp_path: Path
) -> None:
    """compose.sqlite.yml: one controller, and no PostgreSQL; nobody has to trust a worker by hand."""
    assert operator.script("uninstall").returncode == 0
    old = tmp_path / "audit.db"
    old_database.make(f"sqlite:///{old}", nodes=1, networks=1, runs=1, audit_rows=20)
    swarm = operator.docker("info", "--format", "{{.Swarm.Cluster.ID}}")
    with closing(sqlite3.connect(old)) as database, database:
        database.execute("UPDATE cluster SET swarm_id = ?", (swarm,))
        # Made up: nodes that all left would hold the first reading of the Swarm back.
        for table in ("attachments", "devices", "due_nodes", "network_vnis", "networks", "nodes"):
            database.execute(f"DELETE FROM {table}")
    (restore,) = commands("With `--sqlite` there is one")
    operator.shell(tmp_path, restore.replace("docker run", "docker run --user 0"))
    *_others, chown, _install = commands("## From 0.1.0")
    operator.shell(tmp_path, chown, CONTROLLER_IMAGE=CONTROLLER)
    operator.install("--sqlite")
    assert operator.tasks("postgres") == {}
    reasons = [row["reason"] for row in operator.rows("audit", "--all")]
    assert len([reason for reason in reasons if reason.startswith("removed, ü")]) == 20
    await_true(operator.well, "all is well", _HEAL_SECONDS)
    network = make_network(lab, "on-sqlite")
    await_healed(operator, lab.plant_orphan(lab.nodes[1], network))
    assert operator.verified()
    operator.shell(tmp_path, *commands("With `--sqlite` these are"))
    with closing(sqlite3.connect(old)) as copy:
        stages = [stage for (stage,) in copy.execute("SELECT stage FROM audit")]
    assert "verified" in stages, "a backup of SQLite has what is in its log, too"
