"""Who may use the API: every route without a token, with wrong ones, and with each role."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from fastapi import APIRouter, FastAPI
from fastapi.routing import APIRoute
from httpx import Response

from contract.verdicts import Mode, Stage
from controller.access import store
from controller.access.failed_logins import FailedLogins
from controller.access.tokens import Secret
from controller.access.usage import Usage
from controller.api import access
from controller.api.app import build
from controller.api.context import Context
from controller.db.access_models import ApiToken
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.states import Role
from tests.api_client import TestClient, assert_problem
from tests.stored import put
from tests.tokens import give_token

SECRETS = {role: Secret(f"0000000{n}", f"vxo_0000000{n}_{'r' * 43}") for n, role in enumerate(Role)}
ELSEWHERE = ["/", "/nosuch", "/docs", "/redoc", "/openapi.json", "/api/v1", "/api/v1/nodes/", "//healthz",
             "/healthz/", "/healthz/../api/v1/status", "/static/x", "/problems/nosuch"]  # fmt: skip
OPEN = {("GET", "/healthz"), ("GET", "/readyz")}


def nothing() -> None:
    """A route."""


def app_of(database: Database) -> FastAPI:
    return build(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None))


@pytest.fixture
def client(sqlite: Database) -> TestClient:
    """A client whose requests have no token."""
    put(sqlite)
    for role, secret in SECRETS.items():
        give_token(sqlite, secret, f"a {role}", role)
    client = TestClient(app_of(sqlite), follow_redirects=False, raise_server_exceptions=False)
    del client.headers["Authorization"]
    return client


def routes(database: Database) -> Iterator[tuple[str, str, Role | None]]:
    """Every route: method, path, and the role that it declares."""
    for route in access.routes_of(app_of(database).routes):
        for method in sorted(route.methods or ()):
            yield method, re.sub("{.*?}", "1", route.path), access.declared(route)


def bearer(secret: Secret) -> dict[str, str]:
    return {"Authorization": f"Bearer {secret.text}"}


def test_without_a_token_only_the_probes_answer(client: TestClient, sqlite: Database) -> None:
    walked = {(method, path) for method, path, _ in routes(sqlite)}
    assert len(walked) > 35
    assert {(method, path) for method, path, role in routes(sqlite) if role is None} == OPEN
    walked |= {("GET", path) for path in ELSEWHERE}
    for _, path in sorted(walked):
        for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "WHAT"):
            answer = client.request(method, path)
            if path in ("/healthz", "/readyz"):
                assert answer.status_code in (200, 405), (method, path)
                continue
            assert answer.status_code == 401, (method, path)
            assert answer.headers["www-authenticate"].startswith("Bearer"), (method, path)


@pytest.mark.parametrize("kind", ["wrong", "revoked", "expired", "unknown"])
def test_a_token_that_is_not_valid_opens_nothing(
    client: TestClient, sqlite: Database, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("controller.access.failed_logins.CAPACITY", 1e6)
    secret = SECRETS[Role.ADMIN]
    with sqlite.write() as session:
        row = session.get_one(ApiToken, secret.id)
        if kind == "revoked":
            row.revoked_at = datetime.now(UTC)
        elif kind == "expired":
            row.expires_at = datetime.now(UTC) - timedelta(seconds=1)
    text = {"wrong": secret.text[:-1] + "q", "unknown": f"vxo_ffffffff_{'r' * 43}"}.get(
        kind, secret.text
    )
    for method, path, role in routes(sqlite):
        if role is not None:
            answer = client.request(method, path, headers={"Authorization": f"Bearer {text}"})
            assert answer.status_code == 401, (method, path)
            assert "invalid_token" in answer.headers["www-authenticate"]
            assert secret.text not in answer.text
            if kind in ("wrong", "unknown"):
                assert answer.json()["detail"] == "the token is not valid", "tells no id"


@pytest.mark.parametrize("held", Role)
def test_every_route_answers_those_whose_role_it_declares(
    client: TestClient, sqlite: Database, held: Role
) -> None:
    allowed = {
        Role.METRICS: {Role.METRICS},
        Role.READ: {Role.METRICS, Role.READ},
        Role.OPERATE: {Role.METRICS, Role.READ, Role.OPERATE},
        Role.ADMIN: set(Role),
    }[held]
    for method, path, needed in routes(sqlite):
        if needed is None or path.endswith("/revoke"):
            continue
        answer = client.request(method, path, headers=bearer(SECRETS[held]))
        if needed in allowed:
            assert answer.status_code not in (401, 403), (method, path, answer.text)
        else:
            assert_problem(answer, 403, f"this needs the role {needed}", f"--role {needed}")


def test_a_route_without_a_role_does_not_build(
    sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forgotten(_context: Context) -> APIRouter:
        router = APIRouter()
        router.add_api_route("/api/v1/forgotten", nothing, methods=["GET"])
        return router

    monkeypatch.setattr("controller.api.routes.metrics.routes", forgotten)
    with pytest.raises(access.UndeclaredError, match="/api/v1/forgotten"):
        app_of(sqlite)


def test_what_changes_something_cannot_be_for_readers() -> None:
    route = APIRoute("/x", nothing, methods=["POST"], dependencies=[access.READ])
    with pytest.raises(access.UndeclaredError, match="OPERATE or ADMIN"):
        access.declared(route)
    with pytest.raises(access.UndeclaredError, match="/x"):
        access.declared(APIRoute("/x", nothing, dependencies=[access.READ, access.ADMIN]))
    app = FastAPI()
    app.mount("/files", FastAPI())
    with pytest.raises(access.UndeclaredError):
        access.check_declared(app)


@pytest.mark.parametrize(
    "header",
    [
        "", "Bearer", "Bearer ", "Basic YTpi", "bearer vxo_", f"Bearer vxo_{'0' * 8}_{'r' * 42}",
        f"Bearer vxo_{'0' * 8}_{'r' * 44}", "Bearer " + "x" * 1_000, "Bearer vxo_\xff", "\xe4" * 20,
        f"Bearer vxo_{'0' * 8}_{'r' * 42}\xb2", "Bearer \x00", f"Token {SECRETS[Role.ADMIN].text}",
    ],
)  # fmt: skip
def test_forged_headers(client: TestClient, header: str) -> None:
    answer = client.get("/api/v1/status", headers={"Authorization": header.encode("latin-1")})
    assert_problem(answer, 401)


def test_two_authorization_headers(client: TestClient) -> None:
    given = bearer(SECRETS[Role.ADMIN])["Authorization"]
    answer = client.get(
        "/api/v1/status", headers=[("Authorization", given), ("Authorization", given)]
    )
    assert_problem(answer, 401, "once")


def as_admin(client: TestClient, method: str, path: str, **body: object) -> Response:
    answer: Response = client.request(
        method, path, headers=bearer(SECRETS[Role.ADMIN]), json=body or None
    )
    return answer


def test_the_life_of_a_token(client: TestClient, sqlite: Database) -> None:
    made = as_admin(
        client, "POST", "/api/v1/tokens", name="ci", role="operate", seconds=3600, actor="ann"
    )
    assert made.status_code == 201, made.text
    secret = Secret.parse(made.json()["token"])
    assert secret is not None
    me = client.get("/api/v1/whoami", headers=bearer(secret)).json()
    assert (me["name"], me["role"], me["expires_at"]) == (
        "ci",
        "operate",
        made.json()["expires_at"],
    )
    assert_problem(as_admin(client, "POST", "/api/v1/tokens", name="ci", role="read"), 409, "ci")

    client.post("/api/v1/nodes/one/pause", headers=bearer(secret), json={"actor": "alice"})
    with sqlite.read() as session:
        rows = session.query(AuditRow).order_by(AuditRow.position).all()
        stored = session.get_one(ApiToken, secret.id)
    assert [(row.stage, row.actor, row.claimed_name) for row in rows] == [
        (Stage.TOKEN_CREATED, "a admin", "ann"),
        (Stage.PAUSED, "ci", "alice"),
    ]
    assert secret.text[13:] not in str([row.reason for row in rows])
    assert stored.digest == secret.digest

    listed = as_admin(client, "GET", "/api/v1/tokens").json()["items"]
    assert "ci" in [row["name"] for row in listed]
    assert secret.text[13:] not in str(listed)
    assert as_admin(client, "POST", "/api/v1/tokens/ci/revoke").status_code == 200
    assert_problem(client.get("/api/v1/whoami", headers=bearer(secret)), 401, "'ci' was revoked")
    assert_problem(as_admin(client, "POST", "/api/v1/tokens/ci/revoke"), 404, "ci")
    assert as_admin(client, "POST", "/api/v1/tokens", name="ci", role="read").status_code == 201


@pytest.mark.parametrize(
    "name",
    ["controller", "System", "worker", "Operator", "", "a b", "\u202ex", "x" * 65, "-x", "a/b"],
)
def test_names_that_no_token_may_have(client: TestClient, name: str) -> None:
    answer = as_admin(client, "POST", "/api/v1/tokens", name=name, role="read")
    assert_problem(answer, 422, "name")


@pytest.mark.parametrize("actor", ["controller", "system", "CONTROLLER", "worker", "OPERATOR"])
def test_nobody_claims_to_be_the_program(client: TestClient, actor: str) -> None:
    answer = as_admin(client, "POST", "/api/v1/nodes/one/pause", actor=actor)
    assert_problem(answer, 422, "actor")


def test_an_expired_name_is_free_again(sqlite: Database) -> None:
    by = store.By("a", None, datetime.now(UTC) - timedelta(hours=2))
    later = by._replace(at=datetime.now(UTC))
    for at in (by, later):
        with sqlite.write() as session:
            store.create(
                session, Secret.generate(), name="ci", role=Role.READ,
                expires_at=at.at + timedelta(hours=1), by=at,
            )  # fmt: skip
    with sqlite.read() as session:
        assert len(store.listed(session, revoked=True)) == 2
        assert len(store.listed(session, revoked=False)) == 1


def test_the_last_use_is_written_later(sqlite: Database) -> None:
    give_token(sqlite, SECRETS[Role.READ], "r", Role.READ)
    usage = Usage()
    context = Context(sqlite, mode=Mode.OBSERVE, notify=lambda *_: None, usage=usage)
    TestClient(build(context)).get("/api/v1/whoami", headers=bearer(SECRETS[Role.READ]))

    def last_used() -> datetime | None:
        with sqlite.read() as session:
            return session.get_one(ApiToken, SECRETS[Role.READ].id).last_used_at

    assert last_used() is None, "nobody waits for that"
    usage.write(sqlite)
    assert last_used() is not None


def test_failed_logins_are_slowed_down_and_lock_nobody_out(client: TestClient) -> None:
    def fail(n: int) -> Response:
        answer: Response = client.get("/api/v1/status", headers={"Authorization": f"Bearer {n}"})
        return answer

    answers = [fail(n) for n in range(30)]
    assert [answer.status_code for answer in answers[:10]] == [401] * 10
    assert_problem(answers[-1], 429, "too many failed logins")
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 6
    assert as_admin(client, "GET", "/api/v1/whoami").status_code == 200
    assert client.get("/api/v1/status").status_code == 401, "without a token nothing is guessed"


def test_the_memory_for_failed_logins_is_bounded() -> None:
    clock = [0.0]
    failed = FailedLogins(lambda: clock[0])
    for number in range(20_000):
        failed.wait(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}")
    assert len(failed._buckets) == 10_000
    assert [failed.wait("2001:db8::1") for _ in range(10)] == [0.0] * 10
    assert failed.wait("2001:db8::2") == 6.0, "one client has a whole /64"
    clock[0] = 6.0
    assert failed.wait("2001:db8::2") == 0.0


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("text/plain", b"{}", 415),
        ("application/x-www-form-urlencoded", b"", 415),
        ("multipart/form-data; boundary=x", b"{}", 415),
        (None, b"{}", 415),
        ("application/json; charset=utf-8", b"{}", 200),
        (None, b"", 200),
    ],
)
def test_bodies_are_json(client: TestClient, kind: str | None, body: bytes, status: int) -> None:
    headers = bearer(SECRETS[Role.ADMIN]) | ({} if kind is None else {"Content-Type": kind})
    answer = client.post("/api/v1/nodes/one/pause", content=body, headers=headers)
    assert answer.status_code == status, answer.text
