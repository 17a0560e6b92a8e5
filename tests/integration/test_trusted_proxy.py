"""Login by a trusted proxy's headers: who may name users, which roles they get, and what forgers get."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace

import httpx
import pytest
from fastapi import FastAPI
from httpx import Response
from structlog.testing import capture_logs

from contract.runtime.errors import UsageError
from contract.runtime.throttle import Throttle
from contract.verdicts import Mode
from controller.access.failed_logins import CAPACITY
from controller.access.trusted_proxy import LOG_SECONDS, TrustedProxy
from controller.api import access
from controller.api.app import build
from controller.api.context import Context
from controller.db.audit_models import AuditRow
from controller.db.engine import Database
from controller.db.states import Role
from tests.api_client import TestClient, assert_problem
from tests.controller_process import assert_clear_error, vxctl
from tests.follower import serving
from tests.stored import put
from tests.tokens import HEADERS

PROXY, OTHER = "192.0.2.7", "192.0.2.70"
GROUPS = {Role.READ: "staff", Role.OPERATE: "ops", Role.ADMIN: "Net Admins"}
ALICE = {"Remote-User": "alice", "Remote-Groups": "guests, ops ,staff"}
Ask = Callable[..., Response]


def trusted(
    addresses: str = f"{PROXY}, 2001:db8::/64",
    user: str = "Remote-User",
    groups_header: str = "Remote-Groups",
    groups: Mapping[Role, str] = GROUPS,
) -> TrustedProxy | None:
    return TrustedProxy.of(addresses, user, groups_header, groups)


def app_of(database: Database, proxy: TrustedProxy | None) -> FastAPI:
    return build(Context(database, mode=Mode.OBSERVE, notify=lambda *_: None, proxy=proxy))


@pytest.fixture
def ask(sqlite: Database) -> Ask:
    """Sends a request without a token, from the proxy unless told."""
    put(sqlite)
    app = app_of(sqlite, trusted())

    def send(method: str, path: str, headers: object, address: str = PROXY) -> Response:
        client = TestClient(app, client=(address, 4711), raise_server_exceptions=False)
        del client.headers["Authorization"]
        answer: Response = client.request(method, path, headers=headers)
        return answer

    return send


def whoami(ask: Ask, headers: object, address: str = PROXY) -> Response:
    return ask("GET", "/api/v1/whoami", headers, address)


@pytest.mark.parametrize("address", [PROXY, f"::ffff:{PROXY}", "2001:db8::1"])
def test_the_proxy_names_the_user(ask: Ask, address: str) -> None:
    assert whoami(ask, ALICE, address).json() == {
        "name": "alice (proxy)",
        "role": "operate",
        "expires_at": None,
        "authenticated_by": "proxy",
    }


@pytest.mark.parametrize(
    "address", [OTHER, "127.0.0.1", "2001:db8:0:1::1", "::1", "testclient", "", f"{PROXY} "]
)
@pytest.mark.parametrize("path", ["/api/v1/whoami", "/api/v1/tokens", "/metrics", "/nosuch"])
def test_headers_from_elsewhere_open_nothing(ask: Ask, address: str, path: str) -> None:
    forged = ALICE | {
        "Remote-Groups": "Net Admins",
        "X-Forwarded-For": PROXY,
        "X-Real-IP": PROXY,
        "Forwarded": f"for={PROXY}",
        "X-Client-IP": PROXY,
    }
    assert_problem(ask("GET", path, forged, address), 401, "the request has none")


def test_without_the_setting_no_header_counts(sqlite: Database) -> None:
    client = TestClient(app_of(sqlite, trusted("")), client=(PROXY, 1))
    del client.headers["Authorization"]
    assert_problem(client.get("/api/v1/whoami", headers=ALICE), 401, "the request has none")


@pytest.mark.parametrize("held", [Role.READ, Role.OPERATE, Role.ADMIN])
def test_every_route_answers_users_with_its_role(ask: Ask, sqlite: Database, held: Role) -> None:
    order = list(Role)
    headers = {"Remote-User": "bob", "Remote-Groups": GROUPS[held]}
    walked = 0
    for route in access.routes_of(app_of(sqlite, None).routes):
        needed = access.declared(route)
        if needed is None or route.path.endswith("/revoke"):
            continue
        path = route.path.replace("{", "").replace("}", "")
        for method in route.methods or ():
            walked += 1
            answer = ask(method, path, headers)
            if order.index(needed) <= order.index(held):
                assert answer.status_code not in (401, 403), (method, path, answer.text)
            else:
                group = f"VXLAN_OPERATOR_AUTH_PROXY_{needed.upper()}_GROUP"
                assert_problem(answer, 403, f"this needs the role {needed}", group)
    assert walked > 35


@pytest.mark.parametrize(
    ("groups", "role"),
    [
        ("staff", "read"),
        ("staff,ops", "operate"),
        ("Net Admins,staff", "admin"),
        (" ,,ops, ", "operate"),
    ],
)
def test_the_highest_role_of_the_groups_counts(ask: Ask, groups: str, role: str) -> None:
    answer = whoami(ask, {"Remote-User": "bob", "Remote-Groups": groups})
    assert answer.json()["role"] == role


@pytest.mark.parametrize(
    "groups", ["", "OPS", "op", "opsx", "staff;ops", "net admins", "\xe9", "a,b" * 500, "role=ops"]
)
def test_a_user_without_a_known_group_has_no_role(ask: Ask, groups: str) -> None:
    headers = {"Remote-User": "bob", "Remote-Groups": groups.encode("latin-1")}
    assert_problem(whoami(ask, headers), 403, "bob is in no group", "READ_GROUP")
    assert_problem(ask("GET", "/metrics", headers), 403, "bob is in no group")
    assert_problem(whoami(ask, {"Remote-User": "bob"}), 403, "sent 0 in Remote-Groups")


@pytest.mark.parametrize(
    "user",
    [
        "a b", "a\x1b[31m", "x" * 129, "\u202ex".encode(), "b\xfcb", "ali<b>ce", "bob (as root)", "-x", "a,b",
        "admin(proxy)", "\x7f", "\xa0", "../x",
    ],
)  # fmt: skip
def test_names_that_no_user_may_have(ask: Ask, user: str | bytes) -> None:
    given = user if isinstance(user, bytes) else user.encode("latin-1")
    answer = whoami(ask, ALICE | {"Remote-User": given})
    assert_problem(answer, 401, "Remote-User must be 1 to 128", "docs/security.md")
    assert answer.headers["www-authenticate"].startswith("Bearer")
    assert answer.text.isascii()
    assert "\x1b" not in answer.text


@pytest.mark.parametrize("user", ["b", "x" * 128, "a.b_c-d+e@ops.example", "controller"])
def test_names_that_a_user_may_have(ask: Ask, user: str) -> None:
    assert whoami(ask, ALICE | {"Remote-User": user}).json()["name"] == f"{user} (proxy)"


def test_the_proxy_must_name_a_user(ask: Ask) -> None:
    for headers in ({}, {"Remote-Groups": "ops"}, {"Remote-User": " ", "Remote-Groups": "ops"}):
        assert_problem(whoami(ask, headers), 401, "in the header Remote-User")


def test_a_header_beside_the_one_of_the_client_is_refused(ask: Ask) -> None:
    twice = [*ALICE.items(), ("remote-user", "root")]
    assert_problem(whoami(ask, twice), 401, "Remote-User 2 times")
    twice = [*ALICE.items(), ("Remote-Groups", "Net Admins")]
    assert_problem(whoami(ask, twice), 401, "Remote-Groups 2 times")
    # To a CGI program this would be the same header.
    assert whoami(ask, ALICE | {"Remote_Groups": "Net Admins"}).json()["role"] == "operate"


def test_a_token_wins_also_one_that_is_not_valid(ask: Ask) -> None:
    me = whoami(ask, ALICE | HEADERS).json()
    assert (me["name"], me["authenticated_by"]) == ("admin", "token")
    assert_problem(whoami(ask, ALICE | {"Authorization": "Bearer x"}), 401, "not valid")
    assert_problem(whoami(ask, ALICE | {"Authorization": "Basic YTpi"}), 401, "Bearer TOKEN")
    assert whoami(ask, HEADERS, OTHER).json()["name"] == "admin"


def test_the_audit_trail_tells_users_from_tokens(ask: Ask, sqlite: Database) -> None:
    answer = ask("POST", "/api/v1/nodes/one/pause", ALICE | {"Remote-User": "admin"})
    assert answer.status_code == 200, answer.text
    with sqlite.read() as session:
        assert [row.actor for row in session.query(AuditRow)] == ["admin (proxy)"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"Host": "evil.example"},
    ],
)
def test_other_sites_cannot_use_a_browser_that_is_logged_in(
    ask: Ask, sqlite: Database, headers: dict[str, str]
) -> None:
    assert_problem(ask("POST", "/api/v1/nodes/one/pause", ALICE | headers), 403)
    with sqlite.read() as session:
        assert session.query(AuditRow).count() == 0
    own = {"Origin": "http://127.0.0.1:8479", "Sec-Fetch-Site": "same-origin"}
    assert ask("POST", "/api/v1/nodes/one/pause", ALICE | own).status_code == 200


def test_what_arrived_is_logged_at_debug_and_not_each_time(sqlite: Database) -> None:
    clock = [0.0]
    found = trusted()
    assert found is not None
    proxy = replace(found, throttle=Throttle(LOG_SECONDS, lambda: clock[0]))

    def given(name: str) -> list[str]:
        return ["\x1b" * 1000] if name == "Remote-User" else ["ops"]

    with capture_logs() as logs:
        for number in range(1000):
            proxy.identify(f"198.51.100.{number % 250}", given)
        clock[0] = 10.0
        proxy.identify(OTHER, given)
        assert proxy.identify(PROXY, lambda name: [ALICE[name]]) is not None
    assert [(line["log_level"], line["address"]) for line in logs] == [
        ("debug", "198.51.100.0"),
        ("debug", OTHER),
        ("debug", PROXY),
    ]
    assert "ignored" in logs[0]["event"]
    assert len(str(logs[0])) < 1200
    assert "\x1b" not in logs[0]["user"]
    assert (logs[2]["user"], logs[2]["groups"]) == ("alice", "guests, ops ,staff")


@pytest.mark.parametrize(
    ("addresses", "wrong"),
    [
        ("proxy.example", "'proxy.example'"),
        ("192.0.2.1/24", "no bit set"),
        ("192.0.2.0/33", "'192.0.2.0/33'"),
        ("192.0.2.1,", "''"),
        ("192.0.2.1 192.0.2.2", "separated by commas"),
        ("0.0.0.0/0", "every address"),
        ("192.0.2.1,::/0", "every address"),
    ],
)
def test_wrong_addresses_end_the_start(addresses: str, wrong: str) -> None:
    with pytest.raises(UsageError) as caught:
        trusted(addresses)
    assert caught.value.problem.startswith("auth_proxy_from: ")
    assert wrong in caught.value.problem
    assert caught.value.hint == "set VXLAN_OPERATOR_AUTH_PROXY_FROM (or --auth-proxy-from)"


@pytest.mark.parametrize(
    "header", ["", "Remote User", "Remote_User", "Remote-User:", "-x", "Authorization", "host", "\xe9"]
)  # fmt: skip
def test_wrong_headers_end_the_start(header: str) -> None:
    with pytest.raises(UsageError, match=r"auth_proxy_user_header: .*header of its own"):
        trusted(user=header)
    with pytest.raises(UsageError, match=r"auth_proxy_groups_header: .*header of its own"):
        trusted(groups_header=header)
    with pytest.raises(UsageError, match="must not be the header of the user"):
        trusted(groups_header="remote-user")


def test_wrong_groups_end_the_start() -> None:
    with pytest.raises(UsageError, match="no group has a role"):
        trusted(groups={Role.READ: " ", Role.ADMIN: ""})
    for group in ("a,b", "\xe9", "a\tb"):
        with pytest.raises(UsageError, match="auth_proxy_operate_group: must be one group"):
            trusted(groups={Role.OPERATE: group})


def test_the_program_ends_with_a_wrong_setting() -> None:
    done = vxctl("controller", "--auth-proxy-from", "10.0.0.1/8", "--auth-proxy-read-group", "x")
    assert_clear_error(done, "auth_proxy_from: .*'10.0.0.1/8'", status=2)
    done = vxctl("controller", "--auth-proxy-from", "10.0.0.1")
    assert_clear_error(done, "nobody could log in by the proxy", status=2)


@pytest.fixture
def url(sqlite: Database) -> Iterator[str]:
    """An API behind a real socket, which trusts PROXY and not this machine."""
    with serving(app_of(sqlite, trusted())) as url:
        TestClient(app_of(sqlite, None))  # Stores the admin's token.
        yield url


def test_a_client_cannot_choose_its_address(url: str) -> None:
    """The server, uvicorn, would take it from the headers of a client on loopback."""
    with httpx.Client(base_url=f"{url}/api/v1/") as client:
        for header in ("X-Forwarded-For", "Forwarded", "X-Real-IP"):
            answer = client.get("whoami", headers=ALICE | {header: PROXY})
            assert_problem(answer, 401, "the request has none")
        answers = [
            client.get(
                "whoami",
                headers={"Authorization": "Bearer x", "X-Forwarded-For": f"198.51.100.{number}"},
            )
            for number in range(int(CAPACITY) + 2)
        ]
        assert answers[0].status_code == 401
        assert_problem(answers[-1], 429, "from 127.0.0.1")
        assert client.get("whoami", headers=HEADERS).status_code == 200


def test_a_proxy_over_a_real_socket(sqlite: Database) -> None:
    with serving(app_of(sqlite, trusted("127.0.0.0/8"))) as url:
        answer = httpx.get(f"{url}/api/v1/whoami", headers=ALICE | {"X-Forwarded-For": OTHER})
        assert answer.json()["name"] == "alice (proxy)"
