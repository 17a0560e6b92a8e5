"""The worker's file of life, and the health check that reads it."""

import threading
import time
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from worker import healthcheck
from worker.pulse import Pulse


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "alive"
    monkeypatch.setenv("VXLAN_OPERATOR_ALIVE_FILE", str(path))
    return path


def test_healthy_while_it_is_written(file: Path) -> None:
    Pulse(file).step()
    assert healthcheck.check() is None
    assert file.stat().st_mode & 0o777 == 0o600


def test_names_the_loops_that_have_stalled(file: Path) -> None:
    pulse = Pulse(file)
    pulse.watch(lambda: ["outbox", "beacon"])
    pulse.step()
    assert healthcheck.check() == "stalled: outbox, beacon"


def test_a_process_that_hangs_shows_no_life(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Pulse(file).step()
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now + 60)
    assert healthcheck.check() == "the worker has shown no life for 60 s"
    monkeypatch.setattr(time, "monotonic", lambda: now - 60)
    assert "no life" in str(healthcheck.check())


@pytest.mark.parametrize("content", [b"", b"\n", b"x\noutbox", b"1.0 2.0", b"\xff"])
def test_what_cannot_be_read_is_unhealthy(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert f"{file} cannot be read" in str(healthcheck.check())


def test_no_file_is_unhealthy(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert f"{file} cannot be read" in str(healthcheck.check())
    monkeypatch.delenv("VXLAN_OPERATOR_ALIVE_FILE")
    assert "VXLAN_OPERATOR_ALIVE_FILE is not set" in str(healthcheck.check())


def test_the_result_is_the_exit_status(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for expected in (1, 0):
        with pytest.raises(SystemExit) as ended:
            healthcheck.main()
        assert ended.value.code == expected
        Pulse(file).step()
    assert capsys.readouterr().out.endswith("\nok\n")


def test_the_thread_goes_on_whatever_happens(file: Path) -> None:
    asked = threading.Event()

    def stalled() -> list[str]:
        asked.set()
        raise RuntimeError

    pulse = Pulse(file)
    pulse.watch(stalled)
    with capture_logs() as logs:
        pulse.start()
        assert asked.wait(30)
        assert "pulse" in [thread.name for thread in threading.enumerate()]
        pulse.stop()
    assert [entry["event"] for entry in logs] == ["the pulse failed, going on"]


def test_without_a_file_no_thread_is_started() -> None:
    before = threading.active_count()
    pulse = Pulse(None)
    pulse.start()
    pulse.step()
    assert threading.active_count() == before
    pulse.stop()


def test_a_file_that_cannot_be_written_is_logged_once(tmp_path: Path) -> None:
    folder = tmp_path / "missing"
    pulse = Pulse(folder / "alive")
    with capture_logs() as logs:
        pulse.step()
        pulse.step()
        folder.mkdir()
        pulse.step()
        folder.joinpath("alive").unlink()
        folder.rmdir()
        pulse.step()
    assert [entry["event"] for entry in logs] == [
        "the file of the health check cannot be written"
    ] * 2


def test_a_link_in_its_place_is_replaced_and_not_followed(file: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("precious")
    file.symlink_to(other)
    Pulse(file).step()
    assert other.read_text() == "precious"
    assert healthcheck.check() is None
