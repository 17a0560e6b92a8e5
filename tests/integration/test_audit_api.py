"""Questions to the audit trail over HTTP: answers, and a clear line for every question that is none."""

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from contract.verdicts import Mode, Stage, Verdict
from controller.api.app import build
from controller.api.context import Context
from controller.audit.queries import counts
from controller.db.engine import Database
from controller.runs.reports import ReportIntake
from tests.api_client import TestClient, assert_problem, shared_app
from tests.audit_rows import add, row
from tests.fake_clock import START
from tests.fake_swarm import MAIL, SHOP, network, node, snapshot, swarm_id
from tests.reports import believed, device, entry, report
from tests.stored import RESYNC, claim, put

PATH = "/api/v1/audit"


@pytest.fixture
def api(database: Database) -> Iterator[TestClient]:
    """The API over a database with nodes `one` and `two`."""
    put(database, snapshot())
    with TestClient(
        shared_app(database, Mode.OBSERVE),
        raise_server_exceptions=False,
    ) as client:
        yield client


def page(api: TestClient, **parameters: Any) -> dict[str, Any]:
    """A page."""
    answer = api.get(PATH, params=parameters)
    assert answer.status_code == 200, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ids(api: TestClient, **parameters: Any) -> list[int]:
    """The ids of all rows, page by page."""
    told: list[int] = []
    cursor = None
    while True:
        found = page(api, **parameters, **({} if cursor is None else {"cursor": cursor}))
        told += [each["id"] for each in found["items"]]
        cursor = found["next"]
        if cursor is None:
            return told


def test_a_row(api: TestClient, database: Database) -> None:
    run = uuid4()
    (number,) = add(database, row(run_id=run, position=1))
    (told,) = page(api)["items"]
    assert told == api.get(f"{PATH}/{number}").json()
    entry_id = told.pop("entry_id")
    assert str(UUID(entry_id)) == entry_id
    assert told == {
        "id": number,
        "at": "2030-01-01T12:00:00Z",
        "stored_at": "2030-01-01T12:00:00Z",
        "stage": "applied",
        "actor": "controller",
        "claimed_name": None,
        "node_id": swarm_id("one"),
        "node_name": "one",
        "node_name_is_shared": False,
        "network_id": swarm_id("shop"),
        "network_name": "shop",
        "netns": "host",
        "ifindex": 7,
        "name": "vx-001001-shopz",
        "vni": 4097,
        "port": 4789,
        "verdict": "orphan",
        "urgency": "stale",
        "reason": "reason",
        "evidence": "what",
        "run_id": str(run),
        "worker_version": "1.2.3",
        "key_id": None,
        "position": 1,
        "trace_url": None,
    }


def test_rows_of_a_run_link_to_its_trace(database: Database) -> None:
    pattern = "https://jaeger.example/trace/{trace_id}"
    app = build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, trace_url=pattern))
    api, run = TestClient(app), uuid4()
    # What a node calls the run of a scan was no run, and a pause is none.
    add(
        database,
        row(run_id=run),
        row(run_id=uuid4(), actor="scan"),
        row(stage=Stage.PAUSED, run_id=None),
    )
    url = f"https://jaeger.example/trace/{run.hex}"
    assert [each["trace_url"] for each in page(api)["items"]] == [None, None, url]
    shown = api.get(f"{PATH}/{run}/timeline").json()
    assert (shown["trace_url"], shown["rows"][0]["trace_url"]) == (url, url)


def test_each_filter_and_all_together(api: TestClient, database: Database) -> None:
    run = UUID("abcdef12-0000-4000-8000-000000000000")
    asked: dict[str, tuple[dict[str, Any], str | int]] = {
        "node": ({"node": "two"}, "two"),
        "network": ({"network": "mail"}, "mail"),
        "vni": ({"vni": 4098}, 4098),
        "device": ({"name": "vxlan0", "ifindex": 9}, "vxlan0#9"),
        "stage": ({"stage": Stage.FAILED}, "failed"),
        "verdict": ({"verdict": Verdict.FOREIGN}, "foreign"),
        "urgency": ({"urgency": "blocking"}, "blocking"),
        "actor": ({"actor": "alice@host"}, "alice@host"),
        "run": ({"run_id": run}, "ABCDEF"),
        "since": ({"at": START + timedelta(days=2)}, "2030-01-03T12:00:00Z"),
        "until": ({"at": START - timedelta(days=2)}, "2029-12-31T00:00:00+02:00"),
    }
    add(database, row(), row(name="vxlan0", ifindex=8))
    rows = {name: add(database, row(**values))[0] for name, (values, _) in asked.items()}
    for name, (_, given) in asked.items():
        assert ids(api, **{name: given}) == [rows[name]], name
    together = {
        key: value for values, _ in list(asked.values())[:-2] for key, value in values.items()
    }
    (one,) = add(database, row(**together))
    question = {name: given for name, (_, given) in list(asked.items())[:-2]}
    assert ids(api, **question) == [one]
    assert ids(api, stage=["failed", "applied"], node="two") == [one, rows["node"]]


def test_pages_hold_all_of_a_span_that_was_said_as_how_long_ago(
    api: TestClient, database: Database
) -> None:
    now = datetime.now(UTC)
    add(database, row(now - timedelta(hours=5)))
    mine = add(database, *(row(now - timedelta(minutes=number)) for number in range(9)))
    assert ids(api, since="2h", limit=2, node="one") == list(mine)


def test_a_cursor_of_another_question_is_refused(api: TestClient, database: Database) -> None:
    add(database, row(), row())
    cursor = page(api, node="one", limit=1)["next"]
    assert page(api, node="one", limit=1000, cursor=cursor)["next"] is None
    for other in ({"node": "two"}, {}, {"node": "one", "vni": 4097}):
        answer = api.get(PATH, params={**other, "cursor": cursor})
        assert_problem(answer, 404, "cursor: belongs to a request with other parameters")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("bogus=1", "bogus: is not a parameter of this path"),
        ("Node=one", "Node: "),
        ("before=7", "before: "),
        ("node=one&node=two", "node: is given more than once"),
        ("node=", "node: "),
        ("vni=-1", "vni: "),
        ("vni=16777216", "vni: "),
        ("vni=x", "vni: "),
        ("vni=" + "9" * 5000, "vni: "),
        ("device=", "device: "),
        ("device=%23", "device: must be NAME or NAME#IFINDEX"),
        ("device=%237", "device: must be NAME or NAME#IFINDEX"),
        ("device=vx%23x", "device: must be NAME or NAME#IFINDEX"),
        ("device=vx%23-1", "device: must be NAME or NAME#IFINDEX"),
        ("device=vx%23%D9%A3", "device: must be NAME or NAME#IFINDEX"),
        ("device=a%00", "device: must be NAME or NAME#IFINDEX"),
        ("device=" + "x" * 256, "device: "),
        ("stage=removed", "stage.0: "),
        ("stage=", "stage.0: "),
        ("&".join(["stage=applied"] * 30), "stage: "),
        ("verdict=ORPHAN", "verdict: "),
        ("urgency=high", "urgency: "),
        ("actor=", "actor: "),
        ("actor=%00", "actor: must not contain control characters"),
        ("actor=" + "x" * 256, "actor: "),
        ("since=yesterday", "since: 'yesterday' is no time"),
        ("since=2030-01-01T12:00:00", "since: '2030-01-01T12:00:00' has no zone"),
        ("since=", "since: "),
        ("since=2030-02-30", "since: "),
        ("until=99999999999999d", "until: "),
        ("limit=0", "limit: "),
        ("limit=1001", "limit: "),
        ("limit=1e9", "limit: "),
        ("limit=", "limit: "),
        ("limit=" + "9" * 5000, "limit: "),
        ("cursor=", "cursor: is not a cursor of this list"),
        ("cursor=" + "A" * 4097, "cursor: "),
        ("after=-1", "after: "),
        (f"after={2**63}", "after: "),
    ],
)
def test_a_question_that_is_none_names_the_parameter(
    api: TestClient, query: str, words: str
) -> None:
    assert_problem(api.get(f"{PATH}?{query}"), 422, words)


@pytest.mark.parametrize(
    ("path", "status", "words"),
    [
        ("stats?node=one", 422, "node: is not a parameter of this path"),
        ("?cursor=x", 404, "cursor: is not a cursor of this list"),
        ("?after=1&cursor=x", 404, "cursor: is not a cursor of this list"),
        ("stats?since=x", 422, "since: 'x' is no time"),
        ("0", 422, "id: "),
        ("x", 422, "id: "),
        (str(2**63), 422, "id: "),
        ("77", 404, "no audit row has the id 77"),
        ("77/timeline", 404, "no run has the id, or id prefix of at least 6 characters, '77'"),
        (
            "abcdef/timeline",
            404,
            "no run has the id, or id prefix of at least 6 characters, 'abcdef'",
        ),
        (f"{'f' * 33}/timeline", 404, "no run has the id"),
        ("%00/timeline", 404, "no run has the id"),
        (f"{'x' * 300}/timeline", 422, "id: "),
    ],
)
def test_what_is_not_there(api: TestClient, path: str, status: int, words: str) -> None:
    assert_problem(api.get(f"{PATH}{path if path.startswith('?') else f'/{path}'}"), status, words)


@pytest.mark.parametrize(
    "period",
    [
        "since=1h&until=2h",
        "since=2030-01-01&until=2030-01-01",
        "until=0001-01-01T00:00:00%2B14:00",
        "since=9999-12-31T23:59:59-14:00",
        "until=999999999w",
    ],
)
def test_nothing_was_in_an_empty_period(api: TestClient, database: Database, period: str) -> None:
    add(database, row())
    assert api.get(f"{PATH}?{period}").json()["items"] == []
    assert api.get(f"{PATH}/stats?{period}").json()["removals"] == 0
    lines = api.get(f"{PATH}/export?{period}").text.splitlines()
    assert [line.split('"rows":')[1] for line in lines[1:]] == ["0}"]


def test_what_is_stored_after_a_row(api: TestClient, database: Database) -> None:
    first = add(database, row(START))
    told = page(api)
    assert told["after"] == first[0]
    late = add(database, row(START - timedelta(days=9)), row(START, stage=Stage.FAILED))
    arrived = page(api, after=told["after"])
    assert [each["id"] for each in arrived["items"]] == list(late)
    assert (arrived["after"], arrived["next"]) == (late[-1], None)
    assert page(api, after=arrived["after"])["items"] == []
    assert [each["id"] for each in page(api, after=0, stage="failed")["items"]] == [late[1]]


def test_nodes_and_networks_that_are_gone_are_found(api: TestClient, database: Database) -> None:
    put(database, snapshot("two", networks=[MAIL]))
    asked = ({"node": "one"}, {"node": "on"}, {"node": swarm_id("one")}, {"network": "shop"})
    assert [ids(api, **given) for given in asked] == [[]] * 4
    (one,) = add(database, row())
    assert [ids(api, **given) for given in asked] == [[one]] * 4


def pages_of(api: TestClient, **asked: Any) -> list[dict[str, Any]]:
    """The rows of all pages."""
    answer = page(api, **asked)
    rows: list[dict[str, Any]] = answer["items"]
    while answer["next"]:
        answer = page(api, **asked, cursor=answer["next"])
        rows += answer["items"]
    return rows


def test_a_name_finds_what_was_written_under_it_whoever_has_it_now(
    api: TestClient, database: Database
) -> None:
    again = network("shop2", 4099)
    joined_again = replace(node("one"), id=swarm_id("one2"))
    put(
        database,
        snapshot("two", joined_again, networks=[MAIL, replace(again, name="shop")]),
    )
    before, after = add(
        database, row(), row(START + timedelta(1), node="one2", node_name="one", network="shop2")
    )
    for given, old, new in (
        ({"node": "one"}, "one", "one2"),
        ({"network": "shop"}, "shop", "shop2"),
    ):
        answer = page(api, **given)
        assert [each["id"] for each in answer["items"]] == [after, before]
        (note,) = answer["notes"]
        assert f"{swarm_id(new)}, {swarm_id(old)} (gone)" in note
        assert page(api, **given, stage="applied", limit=1)["items"][0]["id"] == after
        found = pages_of(api, **given, limit=1)
        assert [each["id"] for each in found] == [after, before]
        assert [each["id"] for each in page(api, **given, after=0)["items"]] == [before, after]
    assert ids(api, node=swarm_id("one")) == [before], "an id means one"
    assert page(api, node=swarm_id("one"))["notes"] == []


def test_a_node_is_found_by_a_name_that_it_had(api: TestClient, database: Database) -> None:
    renamed, other = add(database, row(node_name="before"), row(node="two"))
    assert ids(api, node="before") == [renamed]
    assert other in ids(api, node="two")


def test_nodes_that_only_the_trail_knows_are_found(api: TestClient, database: Database) -> None:
    (first, second) = add(
        database,
        row(node="ancient"),
        row(START + timedelta(1), node="ancient", node_name="renamed"),
    )
    for given in ("ancient", "anci", swarm_id("ancient")):
        assert ids(api, node=given) == [second, first]


def test_who_is_meant_by_nothing_is_told_what_is_near(api: TestClient, database: Database) -> None:
    add(database, row(node="ancient"))
    assert_problem(api.get(PATH, params={"node": "ancien7"}), 404, "near it are ancient")
    assert_problem(api.get(PATH, params={"network": "shpo"}), 404, "near it are shop")
    assert_problem(api.get(PATH, params={"node": "t\0"}), 404, "no node that is or was known")


def test_who_is_meant_by_several_is_told_whom(api: TestClient, database: Database) -> None:
    put(database, snapshot("two", "twofold"))
    assert_problem(api.get(PATH, params={"node": "tw"}), 409, f"two ({swarm_id('two')})")


def test_the_story_of_a_run_is_in_the_order_in_which_it_was_stored(
    api: TestClient, database: Database
) -> None:
    (claimed,) = claim(database, limit=1).values()
    name = "one" if claimed.node_id == swarm_id("one") else "two"
    entries = [
        entry(number, stage=stage, at=START + timedelta(milliseconds=number)).model_copy(
            update={"run_id": claimed.run_id}
        )
        for number, stage in enumerate((Stage.DETECTED, Stage.PLANNED, Stage.APPLIED), 1)
    ]
    intake = ReportIntake(database, resync=RESYNC, notify=lambda *_: None, utcnow=lambda: START)
    told = report(
        claimed.run_id,
        node=name,
        devices=[device(7, Verdict.ORPHAN, removed=True)],
        entries=entries,
        journal_id=uuid4(),
    )
    intake.reports([believed(told)])
    add(database, row(run_id=uuid4()))

    story = api.get(f"{PATH}/{claimed.run_id}/timeline").json()
    assert story["run"]["id"] == str(claimed.run_id)
    assert (story["run"]["state"], story["run"]["node_name"]) == ("succeeded", name)
    stages = [each["stage"] for each in story["rows"]]
    assert [each for each in stages if each in ("detected", "planned", "applied")] == [
        "detected", "planned", "applied",
    ]  # fmt: skip
    for given in (claimed.run_id.hex[:8], str(claimed.run_id).upper(), story["rows"][-1]["id"]):
        assert api.get(f"{PATH}/{given}/timeline").json() == story


def test_the_story_of_what_happened_without_a_run(api: TestClient, database: Database) -> None:
    (paused,) = add(database, row(stage=Stage.PAUSED, network=None, name=None, actor="alice"))
    story = api.get(f"{PATH}/{paused}/timeline").json()
    assert story["run"] is None
    assert [each["id"] for each in story["rows"]] == [paused]


def test_runs_that_begin_alike(api: TestClient, database: Database) -> None:
    one, two = UUID("abcdef00" + "1" * 24), UUID("abcdef00" + "2" * 24)
    add(database, row(run_id=one), row(run_id=one), row(run_id=two))
    assert_problem(
        api.get(f"{PATH}/abcdef/timeline"), 409, "several runs have the id prefix 'abcdef'"
    )
    assert_problem(
        api.get(PATH, params={"run": "abcdef"}), 409, "several runs have the id prefix 'abcdef'"
    )
    assert len(api.get(f"{PATH}/abcdef001/timeline").json()["rows"]) == 2


def test_removals_are_counted(api: TestClient, database: Database) -> None:
    now = datetime.now(UTC)
    yesterday = now - timedelta(days=1)
    add(
        database,
        row(now - timedelta(minutes=1), node="two"),
        row(yesterday, node="two", network="mail"),
        row(yesterday),
        row(yesterday, network=None, node="two"),
        row(yesterday, stage=Stage.VERIFIED),
        row(now - timedelta(days=31), node="one"),
    )
    told = api.get(f"{PATH}/stats").json()
    assert (told["removals"], told["whole"]) == (4, True)
    assert told["nodes"] == [
        {"id": swarm_id("two"), "name": "two", "removals": 3},
        {"id": swarm_id("one"), "name": "one", "removals": 1},
    ]
    assert told["networks"] == [
        {"id": SHOP.id, "name": "shop", "removals": 2},
        {"id": None, "name": None, "removals": 1},
        {"id": MAIL.id, "name": "mail", "removals": 1},
    ]
    days: dict[str, int] = {}
    for moment, count in ((now - timedelta(minutes=1), 1), (yesterday, 3)):
        day = moment.date().isoformat()
        days[day] = days.get(day, 0) + count
    assert told["days"] == [{"day": day, "removals": count} for day, count in days.items()]
    assert api.get(f"{PATH}/stats?since=40d").json()["removals"] == 5
    assert api.get(f"{PATH}/stats?since=40d&until=30d").json()["removals"] == 1


def test_more_removals_than_can_be_counted_at_once(
    api: TestClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counts, "MAX_COUNTED", 3)
    now = datetime.now(UTC)
    add(database, *(row(now - timedelta(hours=number)) for number in range(1, 6)))
    told = api.get(f"{PATH}/stats").json()
    assert (told["removals"], told["whole"]) == (3, False)
    left = api.get(f"{PATH}/stats", params={"until": told["since"]}).json()
    assert (left["removals"], left["whole"]) == (2, True)


def test_nothing_was_removed(api: TestClient) -> None:
    told = api.get(f"{PATH}/stats").json()
    assert (told["removals"], told["nodes"], told["networks"], told["days"]) == (0, [], [], [])
