"""Interfaces with names that drive terminals or are no UTF-8, in a real kernel, before a real worker."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from contract.runtime.text import printable
from contract.verdicts import Outcome, Verdict
from tests.integration.namespaces import Namespace
from tests.integration.test_worker_process import PROGRAM, Controller, Worker, running
from tests.servers import RedisServer

pytestmark = pytest.mark.privileged

NAMES: Final = (
    b"vx-\xff\xfe", b"\x1b[31mred", b"vx-001002-\xe2\x80\xae", b"a;reboot", b"$(id)", b"'\"`",
    b"\x07\x08\x7f", b"-rf", b"vx-001002-\xc3", b"<b>&amp;", b"{}[]", b"=1+1", b"123456789012345",
)  # fmt: skip
"""Whatever has no slash, colon or space, up to 15 bytes (dev_valid_name in net/core/dev.c)."""


@pytest.fixture
def host(in_empty_namespace: int) -> Namespace:
    return Namespace(in_empty_namespace)


@pytest.fixture
def worker(host: Namespace, redis_server: RedisServer, tmp_path: Path) -> Iterator[Worker]:
    with running(host, tmp_path, redis_server.url) as worker:
        yield worker


def test_no_name_of_an_interface_does_any_harm(
    host: Namespace, worker: Worker, redis_server: RedisServer, tmp_path: Path
) -> None:
    for number, name in enumerate(NAMES, start=1):
        link = ["ip", "link", "add", "dev", os.fsdecode(name), "type", "vxlan"]
        subprocess.run(
            host.command(*link, "id", str(number), "dstport", "4789"), check=True, timeout=60
        )
    controller = Controller(redis_server)
    report = controller.report_on(controller.ask())
    assert report.outcome is Outcome.DONE
    assert len(report.devices) == len({each.identity.name for each in report.devices}) == len(NAMES)
    assert {each.verdict for each in report.devices} == {Verdict.FOREIGN}
    scan = subprocess.run(
        host.command(PROGRAM, "scan"), capture_output=True, timeout=60, cwd=tmp_path, check=False
    )
    for said in (scan.stdout, scan.stderr):
        text = said.decode()
        assert all(printable(line) == line for line in text.splitlines()), text
    assert b"\\xff\\xfe" in scan.stdout
    # The controllers' answer travels back as JSON, and the worker goes on.
    assert controller.report_on(controller.ask()).outcome is Outcome.DONE
    assert worker.process.poll() is None
