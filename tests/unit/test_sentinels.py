"""The error when no Sentinel tells the master."""

from typing import Any, Final

import pytest
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import MasterNotFoundError, Sentinel

from contract.runtime import sentinels
from tests.controller_process import free_port

_SENTINEL: Final[Any] = Sentinel
"""redis-py gives it no types."""


def test_sentinels_that_do_not_answer_are_named_with_the_reason() -> None:
    ports = free_port(), free_port()
    options = {"retry": Retry(NoBackoff(), 0)}
    manager = _SENTINEL([("127.0.0.1", port) for port in ports], sentinel_kwargs=options)
    sentinels.explain(manager)
    with pytest.raises(MasterNotFoundError) as raised:
        manager.discover_master("ours")
    said = str(raised.value)
    assert said.startswith("no Sentinel knows a master 'ours' that is up; no answer from 2 of 2: ")
    assert f"127.0.0.1:{ports[0]}: Error 111 connecting to 127.0.0.1:{ports[0]}" in said
    assert "object at" not in said


def test_a_master_that_no_sentinel_watches_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    manager = _SENTINEL([("127.0.0.1", 1)])
    monkeypatch.setattr(manager.sentinels[0], "sentinel_masters", dict)
    sentinels.explain(manager)
    with pytest.raises(
        MasterNotFoundError, match=r"^no Sentinel knows a master 'ours' that is up$"
    ):
        manager.discover_master("ours")
