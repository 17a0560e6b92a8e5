"""Signed messages: an envelope opens for whom it is meant, once, as it was made; anything else is refused."""

import base64
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from structlog.testing import capture_logs

from contract.messages import Hello, Introduction, KeyChange, ReconcileReport
from contract.queues import DRIFT_TASK, HELLO_TASK, RECONCILE_TASK, REPORT_TASK
from contract.runtime.refusals import Refusals
from contract.signing.bounds import BOUNDS
from contract.signing.envelope import (
    CONTROLLERS,
    DOMAIN,
    MARK,
    KnownKey,
    Opener,
    Signer,
    node_address,
)
from contract.signing.join import JoinToken, change_key, changes_key, joins
from contract.signing.keys import PublicKey, SigningKey, decoded, encoded
from contract.signing.refusals import Reason, RefusedError
from contract.signing.replays import Replays, Window

NODE = "n" * 25
OTHER = "m" * 25
NOW = datetime(2026, 11, 26, 12, tzinfo=UTC)
KEY = SigningKey.from_seed(bytes(range(32)))
FOREIGN = SigningKey.from_seed(bytes(range(1, 33)))


def hello(node_id: str = NODE, reason: str = "started", **fields: object) -> Hello:
    return Hello(
        node_id=node_id,
        worker_version="1",
        at=NOW,
        reason=reason,
        **fields,
    )


def signer(key: SigningKey = KEY, sender: str = node_address(NODE), now: datetime = NOW) -> Signer:
    return Signer(key, sender, now=lambda: now)


def sealed(
    payload: str | None = None,
    *,
    by: Signer | None = None,
    audience: str = CONTROLLERS,
    task: str = HELLO_TASK,
) -> str:
    text = hello().model_dump_json() if payload is None else payload
    return (by or signer()).seal(text, audience=audience, task=task)


def opener(
    now: datetime = NOW,
    known: dict[str, KnownKey] | None = None,
    me: str = CONTROLLERS,
    replays: Replays | None = None,
) -> Opener:
    if known is None:
        known = {KEY.public.id: KnownKey(KEY.public, node_address(NODE))}
    return Opener(me=me, lookup=known.get, replays=replays or Replays(), now=lambda: now)


def refused(action: Callable[[], object]) -> Reason:
    with pytest.raises(RefusedError) as caught:
        action()
    assert len(str(caught.value)) < 200
    return caught.value.reason


def signed_as(header: str, payload: str, key: SigningKey = KEY) -> str:
    """An envelope with a right signature over any text."""
    signed = f"{header}\n{payload}"
    return f"{MARK}{key.public.id}.{key.sign(DOMAIN + signed.encode())}.{signed}"


def header_of(text: str) -> dict[str, object]:
    return dict(json.loads(text.split(".", 3)[3].partition("\n")[0]))


def compact(value: object) -> str:
    return json.dumps(value, separators=(",", ":"))


class TestWhatOpens:
    def test_a_message_opens_as_it_was_sealed(self) -> None:
        opened = opener().open(sealed(), HELLO_TASK, Hello)
        assert opened.payload == hello()
        assert (opened.kid, opened.sender) == (KEY.public.id, node_address(NODE))
        assert opened.issued == NOW

    @given(reason=st.text(max_size=300).filter(lambda text: "\0" not in text))
    def test_any_text_comes_through(self, reason: str) -> None:
        said = hello(reason=reason)
        assert (
            opener().open(sealed(said.model_dump_json()), HELLO_TASK, Hello).payload.reason
            == reason
        )

    def test_a_request_of_the_controllers_opens_at_its_node(self) -> None:
        text = sealed(by=signer(sender=CONTROLLERS), audience=node_address(NODE))
        known = {KEY.public.id: KnownKey(KEY.public, CONTROLLERS)}
        opened = opener(known=known, me=node_address(NODE)).open(text, HELLO_TASK, Hello)
        assert opened.sender == CONTROLLERS

    def test_fields_of_a_newer_version_are_ignored_in_the_payload(self) -> None:
        newer = compact(json.loads(hello().model_dump_json()) | {"new": [1, 2]})
        assert opener().open(sealed(newer), HELLO_TASK, Hello).payload == hello()

    def test_what_is_read_again_and_again_opens_again(self) -> None:
        one, text = opener(), sealed()
        for _ in range(3):
            one.open(text, HELLO_TASK, Hello, once=False)
        one.open(text, HELLO_TASK, Hello)


class TestForgery:
    TEXT = sealed()

    @settings(max_examples=300)
    @given(st.integers(0, len(TEXT.encode()) * 8 - 1))
    def test_no_bit_can_be_changed(self, bit: int) -> None:
        raw = bytearray(self.TEXT.encode())
        raw[bit // 8] ^= 1 << bit % 8
        text = raw.decode("utf-8", errors="surrogateescape")
        reason = refused(lambda: opener().open(text, HELLO_TASK, Hello))
        assert reason in {
            Reason.UNSIGNED,
            Reason.MALFORMED,
            Reason.UNKNOWN_KEY,
            Reason.BAD_SIGNATURE,
        }

    @given(cut=st.integers(0, len(TEXT) - 1), tail=st.text(max_size=5))
    def test_nothing_can_be_cut_or_added(self, cut: int, tail: str) -> None:
        if self.TEXT[:cut] + tail != self.TEXT:
            refused(lambda: opener().open(self.TEXT[:cut] + tail, HELLO_TASK, Hello))
        refused(lambda: opener().open(self.TEXT + (tail or "x"), HELLO_TASK, Hello))

    @given(
        st.none() | st.integers() | st.binary() | st.text() | st.lists(st.text())
        | st.text().map(lambda text: MARK + text)
    )  # fmt: skip
    def test_anything_else_is_refused(self, garbage: object) -> None:
        refused(lambda: opener().open(garbage, HELLO_TASK, Hello))
        refused(lambda: opener().introduction(garbage))

    @pytest.mark.parametrize(
        "plain", [hello().model_dump_json(), hello().model_dump(mode="json"), None, "", b"vxs1."]
    )
    def test_unsigned(self, plain: object) -> None:
        assert refused(lambda: opener().open(plain, HELLO_TASK, Hello)) is Reason.UNSIGNED

    def test_a_key_that_is_not_known(self) -> None:
        text = sealed(by=signer(FOREIGN))
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.UNKNOWN_KEY

    def test_a_foreign_signature_under_a_known_id(self) -> None:
        text = sealed(by=signer(FOREIGN)).replace(FOREIGN.public.id, KEY.public.id, 1)
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.BAD_SIGNATURE

    def test_two_keys_of_one_id_are_two_keys(self) -> None:
        """As if somebody had found a key whose SHA-256 begins as ours."""
        known = {FOREIGN.public.id: KnownKey(KEY.public, node_address(NODE))}
        text = sealed(by=signer(FOREIGN))
        reason = refused(lambda: opener(known=known).open(text, HELLO_TASK, Hello))
        assert reason is Reason.BAD_SIGNATURE

    def test_a_signature_for_another_purpose_is_none_of_a_message(self) -> None:
        text = sealed()
        signed = text.split(".", 3)[3]
        bare = f"{MARK}{KEY.public.id}.{KEY.sign(signed.encode())}.{signed}"
        assert refused(lambda: opener().open(bare, HELLO_TASK, Hello)) is Reason.BAD_SIGNATURE

    @pytest.mark.parametrize("reason", [Reason.REVOKED_KEY, Reason.UNTRUSTED_KEY])
    def test_a_key_that_is_known_and_not_believed(self, reason: Reason) -> None:
        known = {KEY.public.id: KnownKey(KEY.public, node_address(NODE), reason)}
        assert refused(lambda: opener(known=known).open(sealed(), HELLO_TASK, Hello)) is reason


class TestOtherUse:
    def test_for_another_node(self) -> None:
        text = sealed(by=signer(sender=CONTROLLERS), audience=node_address(OTHER))
        known = {KEY.public.id: KnownKey(KEY.public, CONTROLLERS)}
        one = opener(known=known, me=node_address(NODE))
        assert refused(lambda: one.open(text, HELLO_TASK, Hello)) is Reason.WRONG_AUDIENCE

    def test_a_nodes_message_is_no_request_of_another_node(self) -> None:
        text = sealed(audience=node_address(OTHER))
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.WRONG_AUDIENCE

    @pytest.mark.parametrize("sender", [node_address(OTHER), CONTROLLERS])
    def test_a_node_that_signs_as_another_or_as_the_controllers(self, sender: str) -> None:
        told = hello(OTHER) if sender == node_address(OTHER) else hello()
        text = sealed(told.model_dump_json(), by=signer(sender=sender))
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.WRONG_SENDER

    def test_a_node_that_speaks_of_another(self) -> None:
        text = sealed(hello(OTHER).model_dump_json())
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.WRONG_SENDER

    def test_a_request_that_speaks_of_another_node_than_it_is_for(self) -> None:
        text = sealed(
            hello(OTHER).model_dump_json(),
            by=signer(sender=CONTROLLERS),
            audience=node_address(NODE),
        )
        known = {KEY.public.id: KnownKey(KEY.public, CONTROLLERS)}
        one = opener(known=known, me=node_address(NODE))
        assert refused(lambda: one.open(text, HELLO_TASK, Hello)) is Reason.WRONG_SENDER

    def test_under_the_name_of_another_task(self) -> None:
        text = sealed(task=DRIFT_TASK)
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.WRONG_TASK


class TestTimes:
    def test_it_opens_until_it_expires(self) -> None:
        lifetime = BOUNDS[HELLO_TASK].lifetime
        opener(NOW + lifetime).open(sealed(), HELLO_TASK, Hello)
        late = opener(NOW + lifetime + timedelta(seconds=1))
        assert refused(lambda: late.open(sealed(), HELLO_TASK, Hello)) is Reason.EXPIRED

    def test_a_clock_may_be_behind_by_five_minutes(self) -> None:
        opener(NOW - timedelta(seconds=300)).open(sealed(), HELLO_TASK, Hello)
        early = opener(NOW - timedelta(seconds=301))
        assert refused(lambda: early.open(sealed(), HELLO_TASK, Hello)) is Reason.FROM_THE_FUTURE

    @pytest.mark.parametrize("extra", [1, 10**12, -(10**12)])
    def test_not_even_a_known_key_may_sign_for_long(self, extra: int) -> None:
        header = header_of(sealed())
        header["expires"] = max(0, int(str(header["expires"])) + extra)
        text = signed_as(compact(header), hello().model_dump_json())
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.MALFORMED

    def test_one_signer_never_issues_two_at_the_same_time(self) -> None:
        one = signer()
        issued = [header_of(sealed(by=one))["issued"] for _ in range(5)]
        assert issued == sorted({*issued}, key=str)
        assert len({*issued}) == 5

    @pytest.mark.parametrize("ahead", [timedelta(minutes=10), timedelta(days=365)])
    def test_a_signer_follows_a_clock_that_was_put_right(self, ahead: timedelta) -> None:
        clock = [NOW + ahead]
        one = Signer(KEY, node_address(NODE), now=lambda: clock[0])
        sealed(by=one)
        clock[0] = NOW
        at_once = opener(NOW)
        for _ in range(3):
            at_once.open(sealed(by=one), HELLO_TASK, Hello)

    @pytest.mark.parametrize("seconds", [1, 60, 61, 120, 299])
    def test_a_clock_that_is_set_back_by_as_much_as_clocks_may_differ_shuts_nobody_out(
        self, seconds: int
    ) -> None:
        """Else all would be older than what is no longer remembered one by one, for as long."""
        clock = [NOW + timedelta(seconds=seconds)]
        one = Signer(KEY, node_address(NODE), now=lambda: clock[0])
        replays = Replays(2)
        at_once = opener(NOW, replays=replays)
        opened = [at_once.open(sealed(by=one), HELLO_TASK, Hello).issued for _ in range(5)]
        clock[0] = NOW
        later = opener(NOW + timedelta(milliseconds=1), replays=replays)
        texts = [sealed(by=one) for _ in range(5)]
        opened += [later.open(text, HELLO_TASK, Hello).issued for text in texts]
        assert opened == sorted({*opened}), "in the order in which they were sealed"
        for text in texts:
            with pytest.raises(RefusedError, match=r"came before|older than"):
                later.open(text, HELLO_TASK, Hello)


class TestReplays:
    def test_a_message_opens_once(self) -> None:
        one, text = opener(), sealed()
        one.open(text, HELLO_TASK, Hello)
        assert refused(lambda: one.open(text, HELLO_TASK, Hello)) is Reason.REPLAYED

    def test_nothing_is_remembered_of_a_message_that_was_refused(self) -> None:
        replays, text = Replays(), sealed("{}")
        one = opener(replays=replays)
        assert refused(lambda: one.open(text, HELLO_TASK, Hello)) is Reason.MALFORMED
        assert replays.state() == {}

    def test_messages_may_overtake_each_other(self) -> None:
        one, by = opener(), signer()
        for text in reversed([sealed(by=by) for _ in range(10)]):
            one.open(text, HELLO_TASK, Hello)

    @given(order=st.permutations(range(12)), size=st.integers(1, 12))
    def test_no_message_comes_twice_whatever_was_forgotten(
        self, order: list[int], size: int
    ) -> None:
        replays = Replays(size)
        taken = []
        for number in [*order, *order, *reversed(order)]:
            try:
                replays.check("k", str(number), number, 10**6)
            except RefusedError:
                continue
            replays.add("k", str(number), number)
            taken.append(number)
        assert len(taken) == len({*taken})
        assert len(replays.state()["k"].seen) <= size

    def test_a_key_does_not_crowd_out_another(self) -> None:
        replays = Replays(2)
        replays.add("a", "old", 1)
        for number in range(100):
            replays.add("b", str(number), 1000 + number)
        replays.check("a", "other", 2, 10**6)
        with pytest.raises(RefusedError):
            replays.check("a", "old", 1, 10**6)

    def test_it_survives_its_process(self) -> None:
        before = Replays(2)
        for number in (1, 2, 3):
            before.add("k", f"n{number}", number)
        stored = {
            kid: Window.model_validate_json(window.model_dump_json())
            for kid, window in before.state().items()
        }
        after = Replays(2, stored)
        for number in (1, 2, 3):
            with pytest.raises(RefusedError):
                after.check("k", f"n{number}", number, 10**6)
        after.check("k", "n4", 4, 10**6)
        after.keep(set())
        assert after.state() == {}

    def test_clocks_that_were_ahead_and_are_put_right_shut_nobody_out(self) -> None:
        """This machine's and the sender's were; also what was stored does not, after a restart."""
        ahead = NOW + timedelta(days=30)
        replays = Replays(2)
        wrong, by = opener(ahead, replays=replays), signer(now=ahead)
        early = [sealed(by=by) for _ in range(5)]
        for text in early:
            wrong.open(text, HELLO_TASK, Hello)
        replays = Replays(2, replays.state())
        after = opener(NOW, replays=replays)
        by = signer()
        for text in [sealed(by=by) for _ in range(5)]:
            after.open(text, HELLO_TASK, Hello)
            with pytest.raises(RefusedError, match=r"came before|older than"):
                after.open(text, HELLO_TASK, Hello)
        assert refused(lambda: after.open(early[-1], HELLO_TASK, Hello)) is Reason.FROM_THE_FUTURE
        later = opener(ahead, replays=Replays(2, replays.state()))
        assert refused(lambda: later.open(early[-1], HELLO_TASK, Hello)) is Reason.REPLAYED

    def test_a_bound_within_the_difference_of_clocks_stays(self) -> None:
        replays = Replays(1)
        for number in (100, 101):
            replays.add("k", str(number), number)
        with pytest.raises(RefusedError):
            replays.check("k", "x", 99, 100)
        replays.check("k", "x", 99, 99)


class TestHostileContent:
    """Also from somebody whose key is believed."""

    @pytest.mark.parametrize(
        "payload",
        [
            "",
            "null",
            "[" * 100_000,
            '{"a":' * 100_000,
            '{"version":1,"node_id":' + "[" * 5_000 + "]" * 5_000 + "}",
            "{" + '"version":1,' * 2_000 + "}",
            '{"version":' + "9" * 5_000 + "}",
            "NaN",
            "\ud800",
        ],
        ids=["empty", "null", "lists", "objects", "nested", "repeated", "number", "nan", "lone"],
    )
    def test_a_payload_that_is_none(self, payload: str) -> None:
        if payload == "\ud800":
            text = sealed() + payload
        else:
            text = signed_as(sealed().split(".", 3)[3].partition("\n")[0], payload)
        begun = time.perf_counter()
        reason = refused(lambda: opener().open(text, REPORT_TASK, ReconcileReport))
        assert reason in {Reason.MALFORMED, Reason.WRONG_TASK}
        reason = refused(lambda: opener().open(text, HELLO_TASK, Hello))
        assert reason in {Reason.MALFORMED, Reason.TOO_LARGE}
        assert time.perf_counter() - begun < 5

    @given(st.text(max_size=400))
    def test_a_header_that_is_none(self, header: str) -> None:
        header = header.encode("utf-8", "replace").decode()
        text = signed_as(header, hello().model_dump_json())
        refused(lambda: opener().open(text, HELLO_TASK, Hello))

    @pytest.mark.parametrize(
        "spelt",
        [
            lambda header: header.replace("{", '{"task":"controller.report",', 1),
            lambda header: header.replace("}", ',"task":"controller.hello"}', 1),
            lambda header: header.replace(":", ": ", 1),
            lambda header: header.replace("controllers", "\\u0063ontrollers", 1),
            lambda header: header.replace("}", ',"more":1}', 1),
            lambda header: header.replace(",", ", ", 1),
            lambda header: " " + header,
            lambda header: header + " " * 1_000,
        ],
    )
    def test_a_header_has_one_spelling(self, spelt: Callable[[str], str]) -> None:
        header = sealed().split(".", 3)[3].partition("\n")[0]
        text = signed_as(spelt(header), hello().model_dump_json())
        assert refused(lambda: opener().open(text, HELLO_TASK, Hello)) is Reason.MALFORMED

    def test_too_large_is_refused_before_anything_is_read(self) -> None:
        text = sealed() + "x" * BOUNDS[HELLO_TASK].size
        one = Opener(me=CONTROLLERS, lookup=lambda _: pytest.fail("looked up"), replays=Replays())
        assert refused(lambda: one.open(text, HELLO_TASK, Hello)) is Reason.TOO_LARGE
        wide = MARK + "a" * 16 + "." + "A" * 86 + "." + "é" * (BOUNDS[HELLO_TASK].size // 2 + 1)
        assert refused(lambda: one.open(wide, HELLO_TASK, Hello)) is Reason.TOO_LARGE

    def test_what_is_said_of_a_refusal_quotes_nothing_of_it(self) -> None:
        payload = compact({"node_id": "\x1b[31mred", "\x1b[31mred": 1})
        with pytest.raises(RefusedError) as caught:
            opener().open(sealed(payload), HELLO_TASK, Hello)
        assert "red" not in str(caught.value)
        assert str(caught.value).isprintable()


class TestKeys:
    def test_texts_come_back(self) -> None:
        assert PublicKey.from_text(KEY.public.text) == KEY.public
        assert SigningKey.from_pem(KEY.pem()).public == KEY.public
        assert len(KEY.public.text) == 43
        assert len(KEY.public.id) == 16

    def test_a_test_vector_of_rfc_8032(self) -> None:
        """Section 7.1, test 2."""
        secret = "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb"
        public = "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c"
        signature = (
            "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
            "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00"
        )
        key = SigningKey.from_seed(bytes.fromhex(secret))
        assert decoded(key.public.text, 32).hex() == public
        assert decoded(key.sign(b"\x72"), 64).hex() == signature

    @given(st.binary(min_size=64, max_size=64))
    def test_bytes_have_one_text(self, raw: bytes) -> None:
        text = encoded(raw)
        assert decoded(text, 64) == raw
        for other in (text + "=", text + "==", text + "\n", " " + text, text[:-1]):
            with pytest.raises(ValueError, match="base64url"):
                decoded(other, 64)
        with pytest.raises(ValueError, match="base64url"):
            decoded(base64.b64encode(b"\xff" * 64).decode().rstrip("="), 64)

    def test_a_signature_with_bits_to_spare_is_refused(self) -> None:
        signature = KEY.sign(b"x")
        other = signature[:-1] + chr(ord(signature[-1]) + 1)
        assert KEY.public.verifies(signature, b"x")
        assert base64.urlsafe_b64decode(other + "==") == decoded(signature, 64)
        assert not KEY.public.verifies(other, b"x")

    @pytest.mark.parametrize("pem", [b"", b"x", b"-----BEGIN PRIVATE KEY-----\n"])
    def test_a_file_that_is_no_key(self, pem: bytes) -> None:
        with pytest.raises(ValueError, match="PEM"):
            SigningKey.from_pem(pem)

    def test_no_secret_is_shown(self) -> None:
        token = JoinToken.create(KEY.public)
        for shown in (repr(KEY), repr(token), str(token)):
            assert encoded(KEY.seed()) not in shown
            assert token.text()[-43:] not in shown


class TestJoining:
    TOKEN = JoinToken.create(FOREIGN.public)

    def test_a_token_comes_back_from_its_text(self) -> None:
        token = JoinToken.parse(self.TOKEN.text())
        assert token.controllers == FOREIGN.public
        assert token.public == self.TOKEN.public

    @given(st.text(max_size=100))
    def test_any_other_text_is_no_token(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"join token|base64url"):
            JoinToken.parse(text)

    def test_it_vouches_for_one_key_of_one_node(self) -> None:
        proof = self.TOKEN.prove(NODE, KEY.public)
        assert joins(proof, self.TOKEN.public, NODE, KEY.public)
        assert not joins(proof, self.TOKEN.public, OTHER, KEY.public)
        assert not joins(proof, self.TOKEN.public, NODE, FOREIGN.public)
        assert not joins(proof, FOREIGN.public, NODE, KEY.public)

    def test_a_key_vouches_for_the_next(self) -> None:
        change = change_key(KEY, NODE, FOREIGN.public)
        assert changes_key(change, KEY.public, NODE, FOREIGN.public)
        assert not changes_key(change, KEY.public, OTHER, FOREIGN.public)
        assert not changes_key(change, FOREIGN.public, NODE, FOREIGN.public)

    def test_one_kind_of_proof_is_not_the_other(self) -> None:
        proof = self.TOKEN.prove(NODE, KEY.public)
        change = KeyChange(previous=proof.token, signature=proof.signature)
        assert not changes_key(change, self.TOKEN.public, NODE, KEY.public)

    def test_a_stranger_introduces_itself(self) -> None:
        said = hello(introduction=Introduction(key=KEY.public.text))
        opened = opener(known={}).introduction(sealed(said.model_dump_json()))
        assert opened.payload == said
        assert opened.kid == KEY.public.id

    @pytest.mark.parametrize(
        ("key", "reason"),
        [(FOREIGN.public.text, Reason.BAD_SIGNATURE), ("A" * 42 + "B", Reason.MALFORMED)],
    )
    def test_nobody_introduces_another_key(self, key: str, reason: Reason) -> None:
        text = sealed(hello(introduction=Introduction.model_construct(key=key)).model_dump_json())
        assert refused(lambda: opener(known={}).introduction(text)) is reason

    def test_nobody_introduces_another_node(self) -> None:
        said = hello(introduction=Introduction(key=KEY.public.text)).model_dump_json()
        text = sealed(said, by=signer(sender=node_address(OTHER)))
        assert refused(lambda: opener(known={}).introduction(text)) is Reason.WRONG_SENDER

    def test_a_hello_without_a_key_is_no_introduction(self) -> None:
        text = sealed()
        assert refused(lambda: opener(known={}).introduction(text)) is Reason.UNKNOWN_KEY

    def test_strangers_fill_no_memory(self) -> None:
        replays = Replays()
        said = hello(introduction=Introduction(key=KEY.public.text)).model_dump_json()
        opener(known={}, replays=replays).introduction(sealed(said))
        assert replays.state() == {}


def test_a_report_of_the_largest_size_opens() -> None:
    """The signature's time grows with the message; docs/performance.md has the figures."""
    report = {
        "version": 1,
        "run_id": str(UUID(int=1)),
        "node_id": NODE,
        "padding": "x" * 24_000_000,
    }
    text = sealed(compact(report), task=REPORT_TASK)
    reason = refused(lambda: opener().open(text, REPORT_TASK, ReconcileReport))
    assert reason is Reason.MALFORMED


@pytest.mark.parametrize("reason", [Reason.REPLAYED, Reason.EXPIRED, Reason.FROM_THE_FUTURE])
def test_what_a_clock_may_have_caused_is_said_to_be(reason: Reason) -> None:
    with capture_logs() as said:
        Refusals().add(RefusedError(reason, "x"))
    assert "compare the clocks of controllers and nodes" in said[0]["hint"]


def test_every_task_with_a_message_has_bounds() -> None:
    assert {RECONCILE_TASK, REPORT_TASK, DRIFT_TASK, HELLO_TASK} <= BOUNDS.keys()
