"""`vxctl up` without the worker's packages, and what its worker is given."""

import sys
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from celery import Celery

from contract.runtime.errors import OperatorError
from controller.db.engine import open_database
from controller.process import all_in_one
from controller.process.controller import LocalWorker
from controller.process.settings import LocalSettings
from tests.builders import NODE
from tests.signed import CONTROLLERS_KEY, key_of, keyring
from worker.agent import Agent
from worker.settings import WorkerSettings


def test_a_missing_worker_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "worker.agent", None)
    with pytest.raises(OperatorError) as caught:
        all_in_one.up(LocalSettings())
    assert caught.value.problem.startswith("the worker cannot be loaded: ")
    assert caught.value.hint == "pip install 'vxlan-operator[worker]'"


def test_the_worker_has_the_settings_of_the_program(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    given = {"journal": "/x/journal", "grace_seconds": "7", "unclaimed_seconds": "0"}
    opened: list[WorkerSettings] = []
    attached: list[Callable[..., LocalWorker]] = []

    class Stub:
        key = key_of(NODE).public

        def start(self) -> None: ...
        def stop(self) -> None: ...

    def open_(settings: WorkerSettings, _app: Celery) -> Stub:
        opened.append(settings)
        return Stub()

    monkeypatch.setattr(Agent, "open", open_)
    monkeypatch.setattr(all_in_one, "_node_id", lambda _host: NODE)
    monkeypatch.setattr(all_in_one, "run", lambda *args: attached.append(args[2]))
    all_in_one.up(LocalSettings.load(given | {"mode": "observe", "log_level": "debug"}))
    with closing(open_database(f"sqlite:///{tmp_path / 'local.db'}")) as database:
        worker = attached[0](Celery(), database, CONTROLLERS_KEY.public)
        keys = keyring(database)
        keys.refresh()
    assert keys.of_node(NODE) == key_of(NODE).public.id, "its own worker is believed"
    (settings,) = opened
    assert settings.controller_key == CONTROLLERS_KEY.public.text
    assert worker.queue.name == f"node.{NODE}"
    assert settings.node_id == NODE
    assert str(settings.journal) == "/x/journal"
    assert (settings.grace_seconds, settings.unclaimed_seconds) == (7, 0)
    assert (settings.mode, settings.log_level) == ("observe", "debug")
