"""`vxlan-worker key`: shows what is believed, and makes a node's next key."""

from pathlib import Path

import pytest

from contract.runtime.errors import OperatorError
from contract.runtime.exit_status import ExitStatus
from tests.builders import NODE
from tests.signed import CONTROLLERS_KEY
from worker.key_command import key, parser
from worker.trust import Paths, Trust


def run(*arguments: str) -> ExitStatus:
    return key(parser().parse_args(arguments))


def test_it_shows_and_replaces_the_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    journal = tmp_path / "journal.jsonl"
    at = ("--journal", str(journal))
    with pytest.raises(OperatorError, match="there is no key"):
        run(*at)
    given = CONTROLLERS_KEY.public
    old = Trust.open(Paths(journal), NODE, token=None, given=given).key
    assert run("show", *at) is ExitStatus.DONE
    assert capsys.readouterr().out.split() == [
        "node", old.public.id, old.public.text, "controllers", given.id, given.text,
    ]  # fmt: skip
    assert run("rotate", *at) is ExitStatus.DONE
    assert "restart the worker" in capsys.readouterr().out
    run(*at)
    shown = capsys.readouterr().out
    assert f"previous    {old.public.id}" in shown
    new = Trust.open(Paths(journal), NODE, token=None, given=None).key
    assert f"node        {new.public.id}" in shown
    for secret in (old, new):
        assert secret.pem().split(b"\n")[1].decode() not in shown
