"""Whom a worker believes, and how its own key is told and replaced, across restarts and crashes."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from contract.messages import KEY_KEPT, Introduction, ReconcileRequest
from contract.runtime.errors import OperatorError
from contract.runtime.key_file import read_key
from contract.signing.join import changes_key, joins
from contract.signing.keys import PublicKey, SigningKey
from contract.signing.succession import Link, vouch, write
from tests.builders import NODE, request
from tests.signed import CONTROLLERS_KEY, JOIN_TOKEN, key_of
from worker.trust import Paths, Trust, rotate

NEXT = key_of("next controllers")
THIRD = key_of("the one after")
OTHER = key_of("other controllers").public
KID = CONTROLLERS_KEY.public.id


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    return Paths(tmp_path / "state" / "journal.jsonl")


def opened(paths: Paths, given: PublicKey | None = CONTROLLERS_KEY.public) -> Trust:
    return Trust.open(paths, NODE, token=None, given=given)


def saying(*keys: SigningKey, node_key: str | None = None) -> ReconcileRequest:
    texts = tuple(key.public.text for key in keys)
    return request(issued_at=datetime.now(UTC)).model_copy(
        update={"controller_keys": texts, "node_key": node_key}
    )


def succession(*keys: SigningKey) -> str:
    """What the controllers send once each of these keys has followed the one before."""
    return write(
        [
            Link(old.public.id, new.public.text, vouch(old, new.public))
            for old, new in pairwise(keys)
        ]
    )


def ids(trust: Trust) -> set[str]:
    return {*trust.controller_ids}


class TestControllers:
    def test_without_any_key_it_does_not_start_and_makes_no_file(self, paths: Paths) -> None:
        with pytest.raises(OperatorError, match="believe nobody") as caught:
            opened(paths, given=None)
        assert "vxctl node join-token create" in caught.value.hint
        assert not paths.key.exists()

    def test_the_first_start_pins_what_is_given_for_good(self, paths: Paths) -> None:
        first = opened(paths)
        again = opened(paths, given=None)
        assert ids(first) == ids(again) == {KID}
        assert again.key.public == first.key.public
        assert again.lookup(OTHER.id) is None
        for path in (paths.key, paths.trust):
            assert path.stat().st_mode & 0o777 == 0o600

    def test_the_controllers_tell_their_next_key_and_then_drop_the_old(self, paths: Paths) -> None:
        trust = opened(paths)
        trust.heed(saying(CONTROLLERS_KEY, NEXT), KID)
        assert ids(opened(paths)) == {KID, NEXT.public.id}
        trust.heed(saying(), KID)
        assert ids(trust) == {KID, NEXT.public.id}, "who says nothing has not read them yet"
        trust.heed(saying(NEXT), NEXT.public.id)
        assert ids(opened(paths)) == {NEXT.public.id} == ids(trust)

    def test_settings_that_are_old_bring_no_old_key_back(self, paths: Paths) -> None:
        """It may be retired because somebody has it."""
        trust = opened(paths)
        trust.heed(saying(CONTROLLERS_KEY, NEXT), KID)
        trust.heed(saying(NEXT), NEXT.public.id)
        assert ids(opened(paths)) == {NEXT.public.id}

    def test_settings_that_are_new_replace_all(self, paths: Paths) -> None:
        """Of a cluster that lost its key, and was set up again."""
        opened(paths)
        assert ids(opened(paths, given=OTHER)) == {OTHER.id}
        assert ids(opened(paths, given=OTHER)) == {OTHER.id}

    def test_the_key_that_signs_cannot_be_left_out(self, paths: Paths) -> None:
        trust = opened(paths)
        trust.heed(saying(NEXT), KID)
        assert ids(trust) == ids(opened(paths)) == {KID}

    def test_nothing_said_changes_nothing(self, paths: Paths) -> None:
        trust = opened(paths)
        before = paths.trust.stat().st_mtime_ns
        trust.heed(saying(), KID)
        trust.heed(saying(CONTROLLERS_KEY), KID)
        assert paths.trust.stat().st_mtime_ns == before

    def test_a_key_that_cannot_be_stored_is_not_reported_as_held(self, paths: Paths) -> None:
        trust = opened(paths)
        paths.trust.with_name("trust.json.new").mkdir()
        with capture_logs() as said:
            trust.heed(saying(CONTROLLERS_KEY, NEXT), KID)
        assert ids(trust) == {KID}
        assert [each["log_level"] for each in said] == ["error"]

    def test_who_was_away_for_rotations_follows_the_keys(self, paths: Paths) -> None:
        trust = opened(paths)
        chain = succession(CONTROLLERS_KEY, NEXT, THIRD)
        assert not trust.follow(succession(CONTROLLERS_KEY, NEXT), THIRD.public.id)
        assert trust.follow(chain, THIRD.public.id)
        assert ids(trust) == ids(opened(paths)) == {THIRD.public.id}, "and the former sign no more"

    @pytest.mark.parametrize(
        "forged",
        [
            "", "x", None, 5, {"a": 1}, "x" * 10**6, "\n" * 2_000, "é" * 100,
            "of another key", "begins elsewhere", "has a gap", "is too long",
        ],
    )  # fmt: skip
    def test_no_succession_of_anybody_else_leads_anywhere(
        self, paths: Paths, forged: object
    ) -> None:
        trust, chain = opened(paths), succession(CONTROLLERS_KEY, NEXT, THIRD)
        if forged == "of another key":
            forged = chain.replace(THIRD.public.text, OTHER.text)
        elif forged == "begins elsewhere":
            forged = succession(key_of("eve"), THIRD).replace(key_of("eve").public.id, KID)
        elif forged == "has a gap":
            forged = chain.partition("\n")[2]
        elif forged == "is too long":
            forged = chain + " " * 10_000
        assert not trust.follow(forged, THIRD.public.id)
        assert not trust.follow(forged, OTHER.id)
        assert ids(trust) == {KID}

    @pytest.mark.parametrize("content", [b"", b"{", b'{"controllers": ["x"]}', b"\xff"])
    def test_a_damaged_file_is_told(self, paths: Paths, content: bytes) -> None:
        opened(paths)
        paths.trust.write_bytes(content)
        with pytest.raises(OperatorError, match="damaged"):
            opened(paths)


class TestOwnKey:
    def test_it_introduces_itself_until_it_is_believed(self, paths: Paths) -> None:
        trust = Trust.open(paths, NODE, token=JOIN_TOKEN, given=JOIN_TOKEN.controllers)
        said = introduced(trust)
        assert said.key == trust.key.public.text
        assert said.join is not None
        assert joins(said.join, JOIN_TOKEN.public, NODE, trust.key.public)
        assert not trust.heed(saying(node_key=None), KID)
        assert not trust.heed(saying(node_key=OTHER.id), KID)
        assert trust.introduction() is not None
        assert trust.heed(saying(node_key=trust.key.public.id), KID)
        assert trust.introduction() is None
        trust.heed(saying(node_key=None), KID)
        assert trust.introduction() is not None, "the controllers lost their database"

    def test_without_a_token_nobody_vouches(self, paths: Paths) -> None:
        assert introduced(opened(paths)).join is None

    def test_the_next_key_is_vouched_for_by_the_previous(self, paths: Paths) -> None:
        old = opened(paths).key.public
        made = rotate(paths)
        trust = opened(paths)
        assert trust.key.public == made.public != old
        change = introduced(trust).change
        assert change is not None
        assert changes_key(change, old, NODE, made.public)
        with pytest.raises(OperatorError, match="have not said yet"):
            rotate(paths)
        trust.heed(saying(node_key=old.id), KID)
        assert paths.previous.exists()
        trust.heed(saying(node_key=made.public.id), KID)
        assert not paths.previous.exists()
        rotate(paths)

    def test_it_is_replaced_in_the_same_process_when_the_controllers_ask(
        self, paths: Paths
    ) -> None:
        trust = opened(paths)
        old = trust.key.public
        assert trust.heed(saying(node_key=old.id), KID)
        assert trust.rotate(old.id)
        new = trust.key.public
        assert new != old
        assert opened(paths).key.public == new, "it is on disk"
        said = introduced(trust)
        assert said.key == new.text
        assert said.change is not None
        assert changes_key(said.change, old, NODE, new)
        with capture_logs() as logs:
            assert not trust.rotate(old.id), "a request that is repeated asks for what was done"
            assert not trust.rotate(new.id), "the controllers do not believe it yet"
        assert logs == [], "neither is an error"
        assert trust.key.public == new
        assert trust.heed(saying(node_key=new.id), KID)
        assert not paths.previous.exists()
        assert trust.rotate(new.id)

    @pytest.mark.parametrize("asked", [None, OTHER.id])
    def test_a_key_that_it_has_not_is_not_replaced(self, paths: Paths, asked: str | None) -> None:
        trust = opened(paths)
        old = trust.key.public
        assert not trust.rotate(asked)
        assert trust.key.public == opened(paths).key.public == old

    @pytest.mark.parametrize("fails", ["hardlink_to", "replace"])
    def test_a_disk_that_takes_no_new_key_leaves_the_present_one(
        self, paths: Paths, monkeypatch: pytest.MonkeyPatch, fails: str
    ) -> None:
        trust = opened(paths)
        old = trust.key.public
        trust.heed(saying(node_key=old.id), KID)

        def full(*_: object) -> None:
            raise OSError(28, "No space left on device")

        with monkeypatch.context() as patched, capture_logs() as logs:
            patched.setattr(Path, fails, full)
            assert not trust.rotate(old.id)
        assert "No space left" in logs[0]["error"]
        assert trust.introduction() is None, "the present key is believed as before"
        assert trust.key.public == opened(paths).key.public == old
        (told,) = trust.kept
        assert re.fullmatch(f"{KEY_KEPT}: .*No space left.*", told)
        assert trust.rotate(old.id), "asked again, when there is room"
        assert trust.kept == ()

    def test_a_previous_key_that_cannot_be_removed_stops_nothing(
        self, paths: Paths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened(paths)
        rotate(paths)
        trust = opened(paths)

        def fails(*_: object, **__: object) -> None:
            raise OSError(30, "read-only")

        monkeypatch.setattr(Path, "unlink", fails)
        assert trust.heed(saying(node_key=trust.key.public.id), KID)

    def test_a_request_may_come_while_it_introduces_itself(
        self, paths: Paths, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """It does so in other threads: what it looked at may be gone when it looks again."""
        opened(paths)
        rotate(paths)
        trust = opened(paths)
        looks = iter([read_key(paths.previous)])
        gone = property(lambda _: next(looks, None))
        monkeypatch.setattr(Trust, "_previous", gone, raising=False)
        assert introduced(trust).change is not None

    @pytest.mark.parametrize("done", [0, 1, 2])
    def test_a_rotation_that_is_cut_short_loses_no_key(
        self, paths: Paths, monkeypatch: pytest.MonkeyPatch, done: int
    ) -> None:
        old = opened(paths).key.public

        def fails(*_: object) -> None:
            raise OSError(5, "killed")

        for name in ("hardlink_to", "replace")[max(done - 1, 0) : done]:
            monkeypatch.setattr(Path, name, fails)
        if done:
            with pytest.raises(OperatorError):
                rotate(paths)
        monkeypatch.undo()
        trust = opened(paths)
        assert trust.key.public == old
        change = introduced(trust).change
        assert change is None
        rotate(paths)
        assert opened(paths).key.public != old

    def test_there_is_nothing_to_rotate_before_the_first_start(self, paths: Paths) -> None:
        with pytest.raises(OperatorError, match="no key"):
            rotate(paths)


def introduced(trust: Trust) -> Introduction:
    said = trust.introduction()
    assert said is not None
    return said
