"""compose.yml, and the scripts that install it, agree with each other and with the programs."""

import hashlib
import re
import stat
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from contract import VERSION
from contract.runtime.variables import NAMES
from contract.signing.bounds import MAX_MESSAGE_BYTES
from controller.cli.stack import DATABASE_PORT, REDIS_PORT

ROOT = Path(__file__).parents[2]
FILES = ("compose.yml", "compose.sqlite.yml")
SCRIPTS = ("install", "uninstall", "copy-images")
STACK = "vxlan-operator"
COMMON = (ROOT / "packaging" / "stack" / "common.sh").read_text()


def of(name: str) -> dict[str, Any]:
    """A compose file."""
    loaded: dict[str, Any] = yaml.safe_load((ROOT / name).read_text())
    return loaded


@pytest.mark.parametrize("file", FILES)
def test_a_config_has_a_name_of_its_content(file: str) -> None:
    """Docker changes no config, so an upgrade with the same name would be refused."""
    for config in of(file)["configs"].values():
        digest = hashlib.sha256((ROOT / config["file"]).read_bytes()).hexdigest()[:8]
        assert config["name"].endswith(f"-{digest}"), config["file"]


def test_no_part_uses_an_overlay_network_or_has_more_rights_than_it_needs() -> None:
    parts = of("compose.yml")["services"]
    assert of("compose.yml")["networks"] == {"host": {"external": True, "name": "host"}}
    rights = {
        "worker": ["NET_ADMIN", "NET_BROADCAST"],
        "docker-proxy": ["CHOWN", "FOWNER"],
    }
    for name, part in parts.items():
        assert part["networks"] == ["host"], name
        assert part["cap_drop"] == ["ALL"], name
        assert part["read_only"] is True, name
        assert part.get("cap_add", []) == rights.get(name, []), name
        assert part["logging"]["options"]["max-size"], name
        assert part["deploy"]["resources"]["limits"]["memory"], name
        assert part["deploy"]["restart_policy"]["condition"] == "any", name
        assert part["deploy"]["update_config"]["failure_action"] == "rollback", name
        shown = str(part.get("volumes"))
        assert ("/docker.sock" in shown) == (name == "docker-proxy")
        # A password in an environment or a command is shown by `docker service inspect`.
        assert "PASSWORD" not in str(part.get("environment", ""))


def test_the_variables_are_those_of_the_programs() -> None:
    used = {
        name
        for file in FILES
        for part in of(file)["services"].values()
        for name in part.get("environment", {})
        if name.startswith("VXLAN_OPERATOR_")
    }
    assert used
    assert used <= NAMES


def test_the_images_are_those_of_this_version() -> None:
    text = (ROOT / "compose.yml").read_text()
    for name in ("worker", "controller"):
        assert f":-vxlan-operator-{name}:{VERSION}}}" in text
    for variable in ("REDIS", "POSTGRES", "HAPROXY"):
        (image,) = re.findall(rf"\${{{variable}_IMAGE:-(\S+)}}$", text, re.MULTILINE)
        assert f"${{{variable}_IMAGE:-{image}}}" in COMMON


def test_the_secrets_are_those_that_the_installation_makes() -> None:
    listed = re.search(r'^secrets="([^"]+)"', COMMON, re.MULTILINE)
    assert listed is not None
    declared = of("compose.yml")["secrets"]
    assert set(listed[1].split()) == set(declared)
    for name, secret in declared.items():
        assert secret == {"external": True, "name": f"vxlan-operator-{name}"}
    used = {
        each["source"]
        for part in of("compose.yml")["services"].values()
        for each in part.get("secrets", [])
    }
    assert used == set(declared)


def test_the_ports_and_the_largest_message_are_those_of_the_programs() -> None:
    parts = of("compose.yml")["services"]
    redis = parts["redis"]["command"]
    assert redis[redis.index("--tls-port") + 1] == str(REDIS_PORT)
    assert redis[redis.index("--proto-max-bulk-len") + 1] == f"{MAX_MESSAGE_BYTES // 2**20}mb"
    assert parts["postgres"]["environment"]["PGPORT"] == str(DATABASE_PORT)
    install = (ROOT / "packaging" / "stack" / "install").read_text()
    assert f'("0.0.0.0", {REDIS_PORT}), ("0.0.0.0", {DATABASE_PORT})' in install


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_is_posix_and_says_what_it_takes(script: str) -> None:
    path = ROOT / "packaging" / "stack" / script
    assert path.stat().st_mode & stat.S_IXUSR
    subprocess.run(["dash", "-n", str(path)], check=True, timeout=20)
    shown = subprocess.run(
        [str(path), "--help"], check=True, capture_output=True, text=True, timeout=20
    )
    assert len(shown.stdout.splitlines()) >= 1
    assert "#" not in shown.stdout
    wrong = subprocess.run(
        [str(path), "--bogus"], check=False, capture_output=True, text=True, timeout=20
    )
    assert wrong.returncode == 2
    error, hint = wrong.stderr.splitlines()
    assert error == "error: there is no option --bogus"
    assert hint.startswith("hint: ")


def test_a_docker_that_does_not_answer_is_told_in_its_own_words(tmp_path: Path) -> None:
    for script in ("install", "uninstall"):
        done = subprocess.run(
            [str(ROOT / "packaging" / "stack" / script)],
            env={"PATH": "/usr/bin:/bin", "DOCKER_HOST": f"unix://{tmp_path}/none.sock"},
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert done.returncode == 1
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: Docker does not answer: ")
        assert "none.sock" in error
        assert hint == "hint: docker info"


# A docker that answers as a manager with the stack, and does nothing: tests/installed has a real one. What
# would change something is written to a file.
_DOCKER = """#!/bin/sh
case "$*" in
  version*) echo 20.10.24 ;;
  info*) echo "active true n1 192.0.2.7" ;;
  "node ls --quiet"* | "node ls --filter"* | "image inspect"* | "volume inspect"* | "stack ps"*) ;;
  "node ls"*) printf '%s\\n' "Ready node1" "$NODE2 node2" ;;
  "service ls"*) echo s1 ;;
  "secret ls"*) printf '%s\\n' $SECRETS ;;
  "volume create"*) ;;
  *" stack secrets "*) echo "error: it cannot be made"; exit "$MAKING_FAILS" ;;
  "service inspect"*vxlan-operator-database*) echo postgresql ;;
  "service inspect"*vxlan-operator_postgres) echo "$POSTGRES_BEFORE" ;;
  "service inspect"*vxlan-operator_redis) echo "$REDIS_BEFORE" ;;
  *) echo "$*" >>"$CHANGED"; exit 1 ;;
esac
"""


def installed_on(
    folder: Path, *options: str, **variables: str
) -> tuple["subprocess.CompletedProcess[str]", str]:
    """What `install` says to that docker, and the first thing that it would have changed."""
    (folder / "docker").write_text(_DOCKER)
    (folder / "docker").chmod(0o755)
    defaults = {
        "NODE2": "Ready",
        "POSTGRES_BEFORE": "1",
        "REDIS_BEFORE": "1",
        "SECRETS": f"{STACK}-ca",
        "MAKING_FAILS": "0",
    }
    done = subprocess.run(
        [str(ROOT / "packaging" / "stack" / "install"), *options],
        env={
            "PATH": f"{folder}:/usr/bin:/bin",
            "CHANGED": str(folder / "changed"),
            **defaults,
            **variables,
        },
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    changed = folder / "changed"
    return done, changed.read_text() if changed.exists() else ""


@pytest.mark.parametrize("part", ["POSTGRES", "REDIS"])
def test_a_part_that_was_turned_off_is_not_started_by_a_forgotten_variable(
    tmp_path: Path, part: str
) -> None:
    done, changed = installed_on(tmp_path, **{f"{part}_BEFORE": "0"})
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error == (
        f"error: the operator runs with another {part.lower()}, and this would start an empty one"
    )
    assert "options and variables of before" in hint
    assert changed == ""
    same, changed = installed_on(tmp_path, **{f"{part}_BEFORE": "0", f"{part}_REPLICAS": "0"})
    assert "would start" not in same.stderr
    assert changed != "", "it went on"


def test_nothing_is_removed_for_new_secrets_while_a_node_is_away(tmp_path: Path) -> None:
    done, changed = installed_on(tmp_path, "--renew", "broker", NODE2="Down")
    assert done.returncode == 1
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: node node2 is Down, ")
    assert "docker node rm node2" in hint
    assert changed == ""
    _, changed = installed_on(tmp_path, "--renew", "broker")
    assert changed == "stack rm vxlan-operator\n"


@pytest.mark.parametrize("options", [("--renew", "certificates"), ()])
def test_nothing_is_removed_for_new_secrets_that_cannot_be_made(
    tmp_path: Path, options: tuple[str, ...]
) -> None:
    done, changed = installed_on(tmp_path, *options, MAKING_FAILS="1")
    assert done.returncode == 1
    assert done.stderr == "error: it cannot be made\n"
    assert changed == ""


def test_a_rotation_of_the_controllers_key_is_not_cut_off(tmp_path: Path) -> None:
    """The next key's secret would go, and maybe with it the only copy of the key that signs."""
    for options in ((), ("--renew", "join-token")):
        done, changed = installed_on(
            tmp_path, *options, SECRETS=f"{STACK}-ca {STACK}-signing-key-next"
        )
        assert done.returncode == 1
        error, hint = done.stderr.splitlines()
        assert error.startswith("error: the controllers' key is being rotated: ")
        assert f"docker secret rm {STACK}-signing-key-next" in hint
        assert changed == ""


def copied(folder: Path, *arguments: str) -> "tuple[subprocess.CompletedProcess[str], list[str]]":
    """What copy-images did with these arguments, and each argument that ssh got."""
    log = folder / "log"
    for name, does in (("docker", ":"), ("ssh", f'printf "%s\\n" "$@" >>{log}')):
        (folder / name).write_text(f"#!/bin/sh\n{does}\n")
        (folder / name).chmod(0o755)
    done = subprocess.run(
        [str(ROOT / "packaging" / "stack" / "copy-images"), *arguments],
        env={"PATH": f"{folder}:/usr/bin:/bin"},
        check=False,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return done, log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize(
    "node",
    ["-oProxyCommand=reboot", "zz -oProxyCommand=reboot", "a\x1b[2J", "a;b", "", "n\u00f6de"],
)
def test_no_name_of_a_node_is_an_option_of_ssh(tmp_path: Path, node: str) -> None:
    """A node chooses its hostname, and who copies runs this as root."""
    for before in (["--all"], ["node4"], ["--all", "node4"]):
        done, asked = copied(tmp_path, *before, node)
        assert (done.returncode, asked) == (2, [])
        error, hint = done.stderr.splitlines()
        assert error.endswith(" is no name of a node for ssh")
        assert error.isascii()
        assert error.isprintable()
        assert hint.startswith("hint: ")


def test_images_are_copied_to_each_node(tmp_path: Path) -> None:
    nodes = ["node4", "root@192.0.2.7", "fe80::1", "n_5.example"]
    done, asked = copied(tmp_path, *nodes)
    assert done.returncode == 0, done.stderr
    assert asked == [word for node in nodes for word in ("--", node, "docker", "load", "--quiet")]


def test_what_secrets_are_printed_with_reaches_no_log() -> None:
    """Dockerd's log driver keeps what a container prints, wherever that goes."""
    install = (ROOT / "packaging" / "stack" / "install").read_text()
    (body,) = re.findall(r"^in_volume\(\) {\n(.*?)^}", install, re.MULTILINE | re.DOTALL)
    assert "docker run --rm --log-driver none " in body
