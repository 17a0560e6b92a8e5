"""`vxlan-worker` where the extra of the worker is not installed."""

import subprocess
import sys

import pytest

from contract.runtime.exit_status import ExitStatus


@pytest.mark.parametrize("verb", ["run", "scan"])
def test_without_its_extra_it_says_what_to_install(verb: str) -> None:
    program = (
        "import sys; sys.modules['pyroute2'] = None; "
        f"sys.argv = ['vxlan-worker', '{verb}']; from worker.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == ExitStatus.USAGE
    error, hint = done.stderr.splitlines()
    assert error.startswith("error: ")
    assert "pyroute2" in error
    assert hint == "hint: pip install 'vxlan-operator[worker]'"
