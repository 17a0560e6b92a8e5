"""The lab itself: a Swarm that works, faults that are the real ones, and an end that leaves nothing."""

import json
import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from urllib.request import urlopen

import pytest

from tests.controller_process import free_port
from tests.lab import Lab, LabError, LabNetwork, Node, cgroups, prerequisites, reap, wait_until
from tests.lab.folder import BASE, Folder

pytestmark = pytest.mark.swarm

_REPOSITORY = Path(__file__).resolve().parents[2]
_FAULT = "error creating vxlan interface: file exists"
_GONE_SECONDS = 60.0

# A process with the time of its start, in ticks since the machine's: ids are used again.
Process = tuple[int, int]


@pytest.fixture(scope="module")
def lab(engine: Path | None) -> Iterator[Lab]:
    """A lab of this module's own: its dockerds are killed and cut off here."""
    with Lab.create(f"lab-{os.getpid()}", engine=engine) as booted:
        yield booted


@pytest.fixture
def name(request: pytest.FixtureRequest) -> Iterator[str]:
    """A name for another lab, which is ended if the test did not."""
    name = f"{request.node.originalname.replace('_', '-')[5:25]}-{os.getpid()}"
    yield name
    if Folder(name).is_alive():
        Lab.attach(name).destroy()


def make_network(lab: Lab, name: str) -> LabNetwork:
    lab.manager.docker("network", "create", "--driver", "overlay", name)
    return lab.network(name)


def make_service(lab: Lab, network: LabNetwork, node: Node) -> str:
    """A service of one task, that stays on `node`; it is named like its network."""
    lab.manager.docker(
        *("service", "create", "--detach", "--no-resolve-image", "--name", network.name),
        *("--network", network.name, "--constraint", f"node.hostname=={node.name}"),
        *("--restart-delay", "1s", "bb:1"),
    )
    return network.name


def answers(lab: Lab, node: Node) -> bool:
    ping = ["busybox", "ping", "-c", "1", "-W", "1", node.address]
    return lab.hub_run(ping, check=False).returncode == 0


def links(node: Node) -> list[str]:
    shown: list[dict[str, str]] = json.loads(node.run(["ip", "-json", "link", "show"]).stdout)
    return [link["ifname"] for link in shown]


def await_fault(lab: Lab, service: str) -> None:
    wait_until(
        lambda: any(_FAULT in error for error in lab.task_errors(service)),
        30,
        f"a task of {service} to be rejected because of the device",
        state=lambda: lab.tasks(service),
    )


# A Swarm that works


def test_three_nodes_are_ready_and_have_the_image(lab: Lab) -> None:
    shown = lab.manager.docker("node", "ls", "--format", "{{.ID}} {{.Hostname}} {{.Status}}")
    assert sorted(shown.splitlines()) == sorted(f"{n.swarm_id} {n.name} Ready" for n in lab.nodes)
    assert len(lab.nodes) == 3
    for node in lab.nodes:
        assert node.docker("image", "ls", "--quiet", "bb:1").strip()
        assert answers(lab, node)


def test_a_killed_dockerd_is_away_until_it_is_started(lab: Lab) -> None:
    node = lab.nodes[2]
    before = node.swarm_id
    node.kill_dockerd()
    assert node.dockerd_exit_status() == -signal.SIGKILL
    with pytest.raises(LabError, match="Cannot connect"):
        node.docker("ps")
    node.start_dockerd()
    assert node.docker("info", "--format", "{{.Swarm.NodeID}}").strip() == before
    with pytest.raises(LabError, match="running already"):
        node.start_dockerd()


def test_a_dockerd_can_be_restarted(lab: Lab) -> None:
    node = lab.nodes[2]
    logged = node.log.stat().st_size
    node.restart_dockerd()
    assert b"terminated" in node.log.read_bytes()[logged:]
    lab.wait_ready()


def test_a_cut_node_answers_nobody_until_it_is_reconnected(lab: Lab) -> None:
    node, other = lab.nodes[1], lab.nodes[2]
    node.cut()
    try:
        assert not answers(lab, node)
        assert answers(lab, other)
    finally:
        node.reconnect()
    wait_until(lambda: answers(lab, node), 60, "the node to answer")


def test_commands_run_where_they_are_told_to(lab: Lab) -> None:
    node = lab.nodes[1]
    address = f"inet {node.address}/24"
    assert address in node.run(["ip", "address"]).stdout
    assert node.run(["hostname"], inside=True).stdout.strip() == node.name
    assert node.run(["hostname"]).stdout.strip() != node.name
    assert lab.hub_address in lab.hub_run(["ip", "address"]).stdout
    with pytest.raises(LabError, match="exit status 3: woe"):
        node.run(["sh", "-c", "echo woe >&2; exit 3"])
    with pytest.raises(LabError, match=r"longer than 0\.2 s"):
        node.run(["sleep", "10"], timeout=0.2)


def test_a_port_of_the_hub_is_shown_on_this_machines_loopback(lab: Lab, tmp_path: Path) -> None:
    (tmp_path / "page").write_text("from the hub")
    there, here = "8479", str(free_port())
    server = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1", there]
    serving = lab.hub.popen(server, cwd=tmp_path, stderr=subprocess.DEVNULL)
    command = [sys.executable, "-m", "tests.lab", "forward", "--name", lab.name, there]
    forwarding = subprocess.Popen(
        [*command, "--here", here], cwd=_REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    try:
        assert forwarding.stdout is not None
        assert forwarding.stdout.readline().startswith(f"127.0.0.1:{here} leads to")

        def answers_from_the_hub() -> bool:
            try:
                with urlopen(f"http://127.0.0.1:{here}/page", timeout=5) as answer:
                    return bool(answer.read() == b"from the hub")
            except OSError:
                return False

        wait_until(answers_from_the_hub, 60, "the page of the hub")
    finally:
        for process in (forwarding, serving):
            process.terminate()
            process.wait(60)
        if forwarding.stdout is not None:
            forwarding.stdout.close()


def test_exec_and_health_checks_see_the_files_of_their_container(lab: Lab) -> None:
    node = lab.nodes[1]
    made = "touch /made-here && sleep 100000"
    health = ("--health-cmd", "test -e /made-here", "--health-interval", "1s")
    node.docker("run", "--detach", "--name", "seen", *health, "bb:1", "sh", "-c", made)
    shown = ("inspect", "--format", "{{.State.Health.Status}}", "seen")
    try:
        wait_until(
            lambda: node.docker(*shown).strip() == "healthy",
            60,
            "the container to be healthy",
            state=lambda: node.docker("inspect", "--format", "{{json .State.Health}}", "seen"),
        )
        found = node.docker("exec", "seen", "ls", "/").split()
        assert "made-here" in found
        assert "usr" not in found, "the machine has it, and every engine, but not the image"
    finally:
        node.docker("rm", "--force", "seen")


def test_a_network_is_found_by_name_and_by_id(lab: Lab) -> None:
    made = make_network(lab, "found")
    assert made == lab.network(made.id)
    assert len(made.vnis) == len(made.subnets) == 1
    with pytest.raises(LabError, match="no network 'lost'"):
        lab.network("lost")


def test_another_process_may_attach_and_leave(lab: Lab) -> None:
    with Lab.attach(lab.name) as attached:
        assert attached.manager.swarm_id == lab.manager.swarm_id
    assert answers(lab, lab.manager)
    with pytest.raises(LabError, match=f"no lab named 'nobody' is running; running: .*{lab.name}"):
        Lab.attach("nobody")


def test_a_name_is_taken_once(lab: Lab) -> None:
    with pytest.raises(LabError, match=f"a lab named '{lab.name}' is running"):
        Lab.create(lab.name)
    assert answers(lab, lab.manager)


# Faults that are the real ones


def test_an_orphan_gets_tasks_rejected_until_it_is_deleted(lab: Lab) -> None:
    node = lab.nodes[1]
    network = make_network(lab, "orphaned")
    orphan = lab.plant_orphan(node, network)
    assert orphan.name == f"vx-{network.vnis[0]:06x}-{network.id[:5]}"
    service = make_service(lab, network, node)
    await_fault(lab, service)
    assert orphan.exists()
    orphan.delete()
    lab.wait_tasks(service, node=node)
    with pytest.raises(LabError, match="does the node carry the network already"):
        lab.plant_orphan(node, network)


def test_docker_itself_leaves_a_device_that_gets_tasks_rejected(lab: Lab) -> None:
    node = lab.nodes[2]
    network = make_network(lab, "leaked")
    leaked = lab.leak(node, network)
    assert leaked.device.name == f"vx-{network.vnis[0]:06x}-{network.id[:5]}"
    assert leaked.device.name in links(node)
    service = make_service(lab, network, node)
    await_fault(lab, service)
    assert leaked.device.exists()
    leaked.device.delete()
    lab.wait_tasks(service, node=node)


def test_the_recipe_of_the_documentation_makes_docker_leak(
    name: str, engine: Path | None, tmp_path: Path
) -> None:
    """Its script as printed; whoever follows it is told to try again if dockerd was faster."""
    text = (_REPOSITORY / "docs" / "leak-recipe.md").read_text()
    script = tmp_path / "leak.py"
    script.write_text(text.split("```python\n")[1].split("```")[0])
    # One node: in a larger Swarm a killed dockerd may take 30 s until it starts tasks again.
    with Lab.create(name, nodes=1, engine=engine) as lab:
        node = lab.manager
        network = make_network(lab, "recipe")
        service = make_service(lab, network, node)

        def leaked() -> bool:
            node.docker("service", "scale", "--detach", f"{service}=1")
            lab.wait_tasks(service)
            recipe = node.popen(
                [sys.executable, script, str(node.dockerd_pid()), network.id],
                stdout=subprocess.PIPE,
                text=True,
            )
            assert recipe.stdout is not None
            assert "now stop the last task" in recipe.stdout.readline()
            node.docker("service", "scale", "--detach", f"{service}=0")
            device = recipe.communicate(timeout=30)[0].split()[-1]
            node.await_dockerd_end()
            found = device in links(node)
            node.start_dockerd()
            return found

        assert any(leaked() for _ in range(3))
        node.docker("service", "scale", "--detach", f"{service}=1")
        await_fault(lab, service)


def test_a_hidden_device_gets_tasks_rejected_and_shows_nowhere(
    name: str, engine: Path | None
) -> None:
    # One node: in a larger Swarm a killed dockerd may take 30 s until it starts tasks again.
    with Lab.create(name, nodes=1, engine=engine) as lab:
        node = lab.manager
        network = make_network(lab, "hidden")
        service = make_service(lab, network, node)
        lab.wait_tasks(service)
        hidden = lab.plant_hidden(node, network)
        await_fault(lab, service)
        assert not [link for link in links(node) if link.startswith("vx")]
        assert sorted(hidden.interfaces()) == ["br0", "lo", "vxlan0"]
        assert "running" not in {task.state for task in lab.tasks(service)}
        hidden.release()
        lab.wait_tasks(service)


# An end that leaves nothing


def test_destroy_leaves_nothing(name: str, engine: Path | None) -> None:
    before = machine()
    lab = Lab.create(name, nodes=1, engine=engine)
    run_container(lab)
    lasting = family(lab.init_pid)
    started = [lab.hub_popen(["sleep", "600"]), lab.manager.popen(["sleep", "600"])]
    lab.destroy()
    assert not left_of(lab, lasting)
    assert [process.poll() for process in started] == [-signal.SIGTERM, -signal.SIGTERM]
    assert machine() == before
    lab.destroy()


def test_a_lasting_process_that_is_stopped_does_not_keep_the_lab_from_ending(name: str) -> None:
    lab = Lab.create(name, nodes=1)
    before = family(lab.init_pid)
    lab.hub.start_lasting(["sleep", "600"])

    def sleeping() -> list[int]:
        """The process as it is once it has become `sleep`: for a moment it still is `setsid`."""
        new = family(lab.init_pid) - before
        return [pid for pid, _ in new if name_of(pid) == "sleep"]

    (pid,) = wait_until(sleeping, 60, "`sleep` to run")
    os.kill(pid, signal.SIGSTOP)
    processes = family(lab.init_pid)
    lab.destroy()
    assert not left_of(lab, processes)


def test_nothing_is_left_when_the_owner_is_killed(name: str) -> None:
    program = f"""
        import time
        from tests.lab import Lab
        lab = Lab.create("{name}", nodes=1)
        lab.hub_popen(["sleep", "600"])
        print("ready", flush=True)
        time.sleep(600)
    """
    owner = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], cwd=_REPOSITORY, stdout=subprocess.PIPE
    )
    with owner:
        assert owner.stdout is not None
        try:
            assert owner.stdout.readline() == b"ready\n"
            lab = Lab.attach(name)
            run_container(lab)
            processes = family(owner.pid)
            assert len(processes) > len(family(lab.init_pid)) + 1
        finally:
            owner.kill()
    await_gone(lab, processes)


def test_a_lab_ends_itself_when_its_time_is_over(name: str) -> None:
    # So short that nobody waits long; longer where so short a life is over before there is a container.
    for seconds in (4, 16, 64):
        lab = None
        try:
            lab = Lab.create(name, nodes=1, lifetime=timedelta(seconds=seconds))
            run_container(lab)
            processes = family(lab.init_pid)
            assert 0 < lab.seconds_left() < seconds
            break
        except LabError:
            if lab is not None:
                lab.destroy()
    else:
        pytest.fail("no lab lived for long enough")
    await_gone(lab, processes, seconds + _GONE_SECONDS)
    lab.destroy()


@pytest.mark.parametrize("victim", ["init", "parent of init"])
def test_what_a_killed_lab_leaves_is_reaped(name: str, victim: str) -> None:
    lab = Lab.create(name, nodes=1)
    run_container(lab)
    processes = family(lab.init_pid)
    parent = int(stat(Path(f"/proc/{lab.init_pid}"))[1])
    os.kill(lab.init_pid if victim == "init" else parent, signal.SIGKILL)
    wait_until(lambda: not still_there(processes), _GONE_SECONDS, "the kernel to kill the lab")
    # Init's parent has the lab's lock, too, and notices a moment later.
    wait_until(lambda: not Folder(name).is_alive(), _GONE_SECONDS, "the lab's lock to be free")
    with pytest.raises(LabError, match="no lab named"):
        Lab.attach(name)
    reap()
    assert not left_of(lab, processes)
    lab.destroy()


def test_a_dockerd_that_does_not_start_says_why(name: str, tmp_path: Path) -> None:
    for folder in ("etc", "run", "proc", "sys", "dev", "usr/sbin"):
        (tmp_path / folder).mkdir(parents=True)
    busybox = prerequisites.find("busybox")
    assert busybox is not None
    shutil.copy(busybox, tmp_path / "usr/sbin/dockerd")
    with pytest.raises(LabError, match=r"node1: dockerd ended with status 127: .*\n.*not found"):
        Lab.create(name, nodes=1, engine=tmp_path)
    assert not (BASE / name).exists()


def test_what_is_missing_is_named(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(LabError, match=r"is no engine's root folder .* tests\.lab engine"):
        Lab.create(name, engine=tmp_path)
    with pytest.raises(LabError, match="cannot name a lab"):
        Lab.create("no/name")
    monkeypatch.setattr(prerequisites, "SEARCH_PATH", str(tmp_path))
    with pytest.raises(LabError, match=r"missing .*dockerd.*apt-get install .*docker\.io"):
        Lab.create(name)
    assert not (BASE / name).exists()


def test_the_command_keeps_a_lab_until_it_is_told_to_end_it(name: str) -> None:
    said = command("up", "--name", name, "--nodes", "1", "--hours", "0.1")
    assert f"down --name {name}" in said
    lab = Lab.attach(name)
    processes = family(lab.init_pid)
    assert name in command("list")
    assert "dockerd runs" in command("status", "--name", name)
    command("docker", "--name", name, "node1", "network", "create", "--driver", "overlay", "net1")
    said = command("leak", "--name", name, "node1", "net1")
    assert "by Docker itself" in said
    command("exec", "--name", name, "node1", "ip", "link", "delete", said.split()[0])
    assert "vx-" in command("plant-orphan", "--name", name, "node1", "net1")
    assert "vx-" in command("exec", "--name", name, "node1", "ip", "link")
    assert f"{lab.hub_address}/24" in command("exec", "--name", name, "hub", "ip", "address")
    assert not command("kill-dockerd", "--name", name, "node1")
    assert "status -9" in command("status", "--name", name)
    command("down", "--name", name)
    assert not left_of(lab, processes)
    with pytest.raises(AssertionError, match=f"no lab named '{name}' is running"):
        command("down", "--name", name)


def command(*arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, "-m", "tests.lab", *arguments],
        cwd=_REPOSITORY,
        capture_output=True,
        text=True,
        timeout=90,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def run_container(lab: Lab) -> None:
    """Give the lab what an end must not forget: a container, with its shim and its cgroups."""
    lab.manager.docker("run", "--detach", "bb:1")
    assert cgroups.paths(lab.spec.cgroup)


def family(ancestor: int) -> set[Process]:
    """A process with all its descendants."""
    stats = {int(path.name): stat(path) for path in Path("/proc").iterdir() if path.name.isdigit()}
    found = {ancestor}
    grown = True
    while grown:
        children = {pid for pid, fields in stats.items() if fields and int(fields[1]) in found}
        grown = not children <= found
        found |= children
    return {(pid, int(stats[pid][19])) for pid in found if stats[pid]}


def still_there(processes: set[Process]) -> set[Process]:
    stats = {process: stat(Path(f"/proc/{process[0]}")) for process in processes}
    return {
        process
        for process, fields in stats.items()
        if fields and fields[0] != "Z" and int(fields[19]) == process[1]
    }


def stat(process: Path) -> list[str]:
    """The fields of /proc/PID/stat from the state on (parent: 1, start: 19); empty if it ended."""
    try:
        return (process / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []


def name_of(pid: int) -> str:
    """The name of a process; empty if it ended."""
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


def left_of(lab: Lab, processes: set[Process]) -> list[object]:
    """What is left of a lab: processes, folder, cgroups."""
    folder = [lab.folder] if lab.folder.exists() else []
    return [*still_there(processes), *folder, *cgroups.paths(lab.spec.cgroup)]


def await_gone(lab: Lab, processes: set[Process], seconds: float = _GONE_SECONDS) -> None:
    wait_until(
        lambda: not left_of(lab, processes),
        seconds,
        "the lab to end itself",
        state=lambda: left_of(lab, processes),
    )


def machine() -> tuple[set[str], str]:
    """What a lab must never touch: the machine's own network devices and mounts."""
    return {path.name for path in Path("/sys/class/net").iterdir()}, Path(
        "/proc/self/mounts"
    ).read_text()
