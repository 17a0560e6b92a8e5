"""Keys that an installation makes before any controller starts: the join token, and the controllers' own."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from contract.runtime.errors import OperatorError, UsageError
from contract.signing.join import JoinToken
from contract.verdicts import Stage
from controller.access.store import By
from controller.db.engine import Database
from controller.trust import given_token, own_key, store
from tests.fake_clock import START
from tests.signed import CONTROLLERS_KEY, key_of
from tests.stored import audit

ANN = By("ann", None, START)


class TestGivenToken:
    """A join token that was made before there was a controller."""

    TOKEN = JoinToken.create(CONTROLLERS_KEY.public)

    @pytest.fixture
    def file(self, tmp_path: Path) -> Path:
        file = tmp_path / "join-token"
        file.write_text(self.TOKEN.text() + "\n")
        file.chmod(0o400)
        return file

    def given(self, database: Database, file: Path) -> None:
        given_token.ensure(database, str(file), CONTROLLERS_KEY.public)

    def test_it_is_stored_once_with_an_audit_row(self, database: Database, file: Path) -> None:
        self.given(database, file)
        self.given(database, file)
        with database.read() as session:
            (row,) = store.join_tokens(session, revoked=True)
            assert (row.id, row.created_by, row.expires_at) == (
                self.TOKEN.public.id,
                "system",
                None,
            )
        stages = [entry.stage for entry in audit(database)]
        assert stages.count(Stage.JOIN_CREATED) == 1

    def test_one_that_was_revoked_stays_so(self, database: Database, file: Path) -> None:
        self.given(database, file)
        with database.write() as session:
            store.revoke_join_token(session, self.TOKEN.public.id, ANN)
        self.given(database, file)
        with database.read() as session:
            assert store.join_tokens(session, revoked=False) == []

    def test_controllers_that_start_together_store_one(
        self, database: Database, file: Path
    ) -> None:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: self.given(database, file), range(8)))
        with database.read() as session:
            assert len(store.join_tokens(session, revoked=True)) == 1

    def test_one_for_other_controllers_is_not_taken(self, database: Database, file: Path) -> None:
        given_token.ensure(database, str(file), key_of("other").public)
        with database.read() as session:
            assert store.join_tokens(session, revoked=True) == []

    def test_a_file_that_is_missing_is_no_error_and_a_wrong_one_is(
        self, database: Database, file: Path
    ) -> None:
        self.given(database, file.with_name("missing"))
        file.unlink()
        file.write_text("vxj1_secret")
        with pytest.raises(OperatorError, match="not a join token") as told:
            self.given(database, file)
        assert "secret" not in told.value.problem

    @pytest.mark.parametrize(
        ("name", "why"),
        [
            ("join-token/below", "Not a directory"),
            ("itself", "Too many levels of symbolic links"),
            ("x" * 300, "File name too long"),
        ],
    )
    def test_only_a_file_that_is_not_there_is_missing(
        self, database: Database, file: Path, name: str, why: str
    ) -> None:
        file.with_name("itself").symlink_to("itself")
        with pytest.raises(UsageError, match=f"cannot be read: {why}"):
            self.given(database, file.parent / name)

    @pytest.mark.privileged
    def test_a_folder_that_may_not_be_searched_is_told(
        self, database: Database, file: Path
    ) -> None:
        file.parent.chmod(0o700)
        os.seteuid(65534)
        try:
            with pytest.raises(UsageError, match="cannot be read: Permission denied"):
                self.given(database, file)
        finally:
            os.seteuid(0)


def test_two_controllers_take_one_key_from_read_only_files(
    database: Database, tmp_path: Path
) -> None:
    """As from a secret of Docker's, of which each container has a copy."""
    key = key_of("installed")
    files = []
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        files.append(folder / "signing-key")
        files[-1].write_bytes(key.pem())
        files[-1].chmod(0o400)
        folder.chmod(0o500)
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda file: own_key.ensure(database, file), files))
    assert {each.public.id for each in found} == {key.public.id}
    with database.read() as session:
        assert store.signing_key(session).id == key.public.id
