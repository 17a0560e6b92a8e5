"""`vxlan-worker` where the extra of the worker is not installed."""

import subprocess
import sys

import pytest

from contract.runtime.exit_status import ExitStatus
from worker.doctor import _namespaces


def main(verb: str, setup: str) -> tuple[int, list[str]]:
    """Run the command after some lines of Python; return its status and standard error."""
    program = f"{setup}; sys.argv = ['vxlan-worker', '{verb}']; from worker.cli import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("verb", ["run", "doctor", "key"])
def test_the_single_file_says_that_it_has_scan_alone(verb: str) -> None:
    without = "for each in ('celery', 'kombu', 'redis', 'cryptography'): sys.modules[each] = None"
    status, lines = main(verb, f"import sys\nsys.frozen = True\n{without}\n0")
    assert status == ExitStatus.USAGE
    assert lines[0].startswith("error: this single file has `scan` alone")
    assert lines[1].startswith("hint: install the package vxlan-operator-worker")


def test_scan_needs_no_celery() -> None:
    """The single file has none of these."""
    unused = ["amqp", "celery", "cryptography", "kombu", "pygments", "redis", "rich", "vine"]
    without = f"for each in {unused}: sys.modules[each] = None"
    done = subprocess.run(
        [sys.executable, "-c", f"import sys\n{without}\nimport worker.scan"],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("verb", ["run", "scan"])
def test_without_its_extra_it_says_what_to_install(verb: str) -> None:
    status, (error, hint) = main(verb, "import sys; sys.modules['pyroute2'] = None")
    assert status == ExitStatus.USAGE
    assert error.startswith("error: ")
    assert "pyroute2" in error
    assert hint == "hint: pip install 'vxlan-operator[worker]'"


def test_the_doctor_says_so_beside_what_else_it_finds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "worker.access", None)
    (result,) = _namespaces()
    assert "worker.access" in result.message
    assert result.hint == "pip install 'vxlan-operator[worker]'"


def test_of_pyroute2_only_its_messages_are_imported_and_others_have_the_whole() -> None:
    """All of it takes 19 MB."""
    program = """
import sys
import worker.kernel.requests
assert "pyroute2.netlink.rtnl.ifinfmsg" in sys.modules
assert not {"pyroute2.iproute", "pyroute2.ndb", "pyroute2.netlink.nlsocket"} & sys.modules.keys()
from pyroute2 import IPRoute
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
