"""The dashboard without a browser: logins, roles, headers, and what it says when something is wrong."""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import ip_network
from typing import Any, Final

import pytest
from fastapi import APIRouter, testclient
from fastapi.routing import APIRoute
from httpx import Response
from sqlalchemy import delete, select, update
from sqlalchemy.exc import OperationalError

from contract.verdicts import Mode
from controller.access import sessions, store
from controller.access.tokens import Secret
from controller.access.trusted_proxy import TrustedProxy
from controller.access.usage import Usage
from controller.api.access import UndeclaredError, declared, routes_of
from controller.api.context import Context
from controller.api.same_site import Hosts
from controller.api.turns import Turn
from controller.db.access_models import ApiToken, WebSession
from controller.db.engine import Database
from controller.db.states import Role
from controller.notifications.send import Outgoing
from controller.runs import counters
from controller.web.app import Served
from controller.web.headers import HEADERS, POLICY
from controller.web.problems import MAX_NEXT, safe_next
from tests.fake_swarm import swarm_id
from tests.stored import claim, put
from tests.tokens import ADMIN, give_token

READER: Final = Secret("4ead0000", f"vxo_4ead0000_{'R' * 43}")
SCRAPER: Final = Secret("5c4a0000", f"vxo_5c4a0000_{'M' * 43}")
BROWSER: Final = {"Accept": "text/html,application/xhtml+xml", "User-Agent": "Firefox <b>"}
LOOPBACK: Final = "http://127.0.0.1:8479"


def context(database: Database, **more: Any) -> Context:
    return Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, **more)


@pytest.fixture(scope="module")
def usage() -> Usage:
    return Usage()


@pytest.fixture(scope="module")
def shared(shared_sqlite: Database, usage: Usage) -> Served:
    """One for all tests that change nothing about it: building one takes a third of a second."""
    return Served(context(shared_sqlite, usage=usage))


@pytest.fixture
def served(shared: Served, sqlite: Database) -> Served:
    """The same, with the tokens of three roles."""
    give_token(sqlite)
    give_token(sqlite, READER, "rita", Role.READ)
    give_token(sqlite, SCRAPER, "prometheus", Role.METRICS)
    return shared


class Browser(testclient.TestClient):
    """A client that behaves as a browser does, and follows no redirect."""

    def __init__(self, app: Served, base_url: str = LOOPBACK) -> None:
        super().__init__(app, base_url=base_url, headers=BROWSER, follow_redirects=False)

    def log_in(self, secret: Secret = ADMIN, headers: dict[str, str] | None = None) -> Response:
        answer: Response = self.post("/login", data={"token": secret.text}, headers=headers)
        return answer


@pytest.fixture
def browser(served: Served) -> Iterator[Browser]:
    with Browser(served) as client:
        yield client


def set_cookie(answer: Response) -> str:
    assert answer.status_code == 303, answer.text
    return answer.headers["set-cookie"]


def test_problems_link_to_the_copy_of_the_documents_that_the_settings_name(
    served: Served, sqlite: Database
) -> None:
    del served  # It gave the tokens.
    outgoing = Outgoing(docs_url="https://docs.example/vx")
    with Browser(Served(context(sqlite, outgoing=outgoing))) as client:
        client.log_in()
        page = client.get("/").text
    assert 'href="https://docs.example/vx/runbook.html#' in page
    assert "readthedocs" not in page


# Login


def test_on_loopback_the_cookie_is_for_this_port_and_no_script(browser: Browser) -> None:
    cookie = set_cookie(browser.log_in())
    assert cookie.startswith("vxlan-operator-8479=")
    for part in ("HttpOnly", "SameSite=strict", "Path=/"):
        assert part in cookie
    assert "Secure" not in cookie
    assert browser.get("/").status_code == 200


@pytest.mark.parametrize(
    ("base", "origin"),
    [("https://127.0.0.1:8479", {}), (LOOPBACK, {"Origin": "https://127.0.0.1:8479"})],
)
def test_with_tls_the_cookie_is_the_hosts_alone(
    served: Served, base: str, origin: dict[str, str]
) -> None:
    with Browser(served, base) as client:
        cookie = set_cookie(client.log_in(headers=origin))
    assert cookie.startswith("__Host-vxlan-operator=")
    assert "Secure" in cookie
    assert "Domain" not in cookie


def test_no_session_goes_over_a_network_in_the_clear(sqlite: Database, served: Served) -> None:
    anywhere = Served(context(sqlite, hosts=Hosts.of("0.0.0.0:8479")))
    with Browser(anywhere, "http://10.0.0.1:8479") as client:
        answer = client.log_in()
        assert answer.status_code == 403
        assert "ssh -L" in answer.text
        assert "set-cookie" not in answer.headers
    with Browser(served, "http://10.0.0.1:8479") as client:
        assert "not known as" in client.log_in().text
    with sqlite.read() as session:
        assert session.scalars(select(WebSession)).all() == []


@pytest.mark.parametrize(
    ("base", "headers", "asked"),
    [
        ("http://10.0.0.1:8479", {}, False),
        ("http://10.0.0.1:8479", {"Sec-Fetch-Site": "none"}, True),  # Behind a proxy with TLS.
        ("https://10.0.0.1:8479", {}, True),
        ("http://127.0.0.9:8479", {}, True),
    ],
)
@pytest.mark.usefixtures("served")
def test_no_token_is_asked_for_in_the_clear(
    sqlite: Database, base: str, headers: dict[str, str], asked: bool
) -> None:
    anywhere = Served(context(sqlite, hosts=Hosts.of("0.0.0.0:8479")))
    with Browser(anywhere, base) as client:
        text = client.get("/login", headers=headers).text
    assert ('name="token"' in text, "ssh -L" in text) == (asked, not asked)


def test_an_address_of_loopback_for_one_tunnel_works(served: Served) -> None:
    with Browser(served, "http://127.0.0.9:8479") as client:
        assert set_cookie(client.log_in()).startswith("vxlan-operator-8479=")
        assert client.get("/").status_code == 200


def test_a_wrong_token_is_not_shown_again(browser: Browser) -> None:
    wrong = f"vxo_ad1170b0_{'Z' * 43}"
    answer = browser.post("/login", data={"token": wrong, "next": "/matrix"})
    assert answer.status_code == 401
    assert "Z" * 43 not in answer.text
    assert 'value="/matrix"' in answer.text
    assert "the token is not valid" in answer.text


def test_wrong_tokens_are_slowed_down(sqlite: Database, served: Served) -> None:
    with Browser(Served(context(sqlite))) as client:
        invalid = counters.TOKENS_REFUSED.labels(counters.INVALID_TOKEN)
        before = invalid._value.get()
        codes = [client.post("/login", data={"token": "x"}).status_code for _ in range(12)]
        assert invalid._value.get() == before + 12
        assert codes[0] == 401
        assert codes[-1] == 429
        # Nobody is locked out: a valid token is taken all the same.
        assert client.log_in().status_code == 303


def test_the_token_of_a_scraper_opens_no_page(browser: Browser) -> None:
    answer = browser.log_in(SCRAPER)
    assert answer.status_code == 403
    assert "prometheus has the role metrics" in answer.text


@pytest.mark.parametrize(
    ("given", "used"),
    [
        ("/matrix?node=a&page=2", "/matrix?node=a&page=2"),
        (None, "/"),
        ("", "/"),
        ("https://evil.example/", "/"),
        ("//evil.example", "/"),
        ("/\\evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("matrix", "/"),
        ("/a\r\nSet-Cookie: a=b", "/"),
        ("/ä", "/"),
        ("/" + "a" * MAX_NEXT, "/"),
    ],
)
def test_after_the_login_one_stays_here(given: str | None, used: str) -> None:
    assert safe_next(given) == used


def test_who_is_not_logged_in_comes_back_to_the_page(browser: Browser) -> None:
    answer = browser.get("/matrix?node=one")
    assert answer.status_code == 303
    assert answer.headers["location"] == "/login?next=%2Fmatrix%3Fnode%3Done"
    form = browser.get(answer.headers["location"])
    assert 'value="/matrix?node=one"' in form.text


def test_a_link_of_another_site_is_followed_with_the_cookie(browser: Browser) -> None:
    # SameSite=Strict keeps the cookie from the first request; the page asks again by itself.
    answer = browser.get("/matrix?node=one", headers={"Sec-Fetch-Site": "cross-site"})
    assert answer.status_code == 200
    assert 'content="0; url=/matrix?node=one"' in answer.text


@pytest.mark.parametrize("site", ["cross-site", "same-origin"])
@pytest.mark.parametrize("path", ["//evil.example/login", "///evil.example", "//"])
def test_no_path_leads_to_another_server(browser: Browser, site: str, path: str) -> None:
    answer = browser.get(f"{LOOPBACK}{path}", headers={"Sec-Fetch-Site": site})
    assert answer.status_code == 404
    assert answer.headers["content-security-policy"] == POLICY
    assert "refresh" not in answer.text
    assert "location" not in answer.headers


def test_the_page_that_asks_again_stays_here(served: Served) -> None:
    with testclient.TestClient(served.pages, base_url=LOOPBACK, headers=BROWSER) as client:
        cross = {"Sec-Fetch-Site": "cross-site"}
        answer = client.get(f"{LOOPBACK}//evil.example/login", headers=cross)
    assert 'content="0; url=/"' in answer.text
    assert "evil" not in answer.text


def test_nobody_waits_for_writers_without_a_valid_token(
    browser: Browser, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(Database, "write")
    wrong = Secret(READER.id, f"vxo_{READER.id}_{'Z' * 43}")
    assert browser.log_in(wrong).status_code == 401
    assert browser.log_in(SCRAPER).status_code == 403


# Sessions


def test_the_database_has_no_secret(browser: Browser, sqlite: Database) -> None:
    secret = set_cookie(browser.log_in()).partition("=")[2].partition(";")[0]
    with sqlite.read() as session:
        (row,) = session.scalars(select(WebSession)).all()
    assert secret.encode() not in row.digest
    assert (len(row.digest), row.token_id, row.browser) == (32, ADMIN.id, "Firefox <b>")


@pytest.mark.parametrize(
    "change",
    [
        {"revoked_at": datetime.now(UTC)},
        {"expires_at": datetime.now(UTC) - timedelta(seconds=1)},
    ],
)
def test_a_session_ends_with_its_token(
    browser: Browser, sqlite: Database, change: dict[str, Any]
) -> None:
    browser.log_in(READER)
    assert browser.get("/").status_code == 200
    with sqlite.write() as session:
        session.execute(update(ApiToken).where(ApiToken.id == READER.id).values(change))
    assert browser.get("/").status_code == 303


@pytest.mark.parametrize(("column", "age"), [("seen_at", sessions.IDLE), ("ends_at", timedelta())])
def test_a_session_ends_by_its_bounds(
    browser: Browser, sqlite: Database, column: str, age: timedelta
) -> None:
    browser.log_in()
    for left, code in ((timedelta(minutes=1), 200), (-timedelta(minutes=1), 303)):
        at = datetime.now(UTC) - age + left
        with sqlite.write() as session:
            session.execute(update(WebSession).values({column: at}))
        assert browser.get("/").status_code == code
    answer = browser.get("/")
    assert answer.headers["location"] == "/login?why=ended"
    assert "Your session has ended" in browser.get(answer.headers["location"]).text


def test_a_session_in_the_clear_is_short(browser: Browser, sqlite: Database) -> None:
    """A browser sends its cookie to every port of the host: to servers of others, too."""
    browser.log_in()
    with sqlite.read() as session:
        (row,) = session.scalars(select(WebSession))
        assert row.ends_at - row.created_at == sessions.LONGEST_PLAIN
    with sqlite.write() as session:
        session.execute(delete(WebSession))
    answer = browser.log_in(headers={"Origin": "https://127.0.0.1:8479"})
    assert f"Max-Age={int(sessions.LONGEST.total_seconds())}" in set_cookie(answer)


def test_use_keeps_a_session(browser: Browser, sqlite: Database, usage: Usage) -> None:
    browser.log_in()
    old = datetime.now(UTC) - timedelta(hours=1)
    with sqlite.write() as session:
        session.execute(update(WebSession).values(seen_at=old))
    browser.get("/")
    usage.write(sqlite)
    with sqlite.read() as session:
        assert session.scalars(select(WebSession.seen_at)).one() > old


def test_logging_out_ends_the_session_and_not_the_token(served: Served) -> None:
    with Browser(served) as client, Browser(served) as other:
        client.log_in()
        other.log_in()
        kept = dict(client.cookies)
        assert client.post("/logout").headers["location"] == "/login?why=out"
        assert client.get("/").status_code == 303
        client.cookies.update(kept)
        assert client.get("/").status_code == 303
        assert other.get("/").status_code == 200


def test_one_sees_and_ends_ones_own_sessions(served: Served) -> None:
    with Browser(served) as rita, Browser(served) as again, Browser(served) as admin:
        rita.log_in(READER)
        again.log_in(READER)
        admin.log_in()
        listed = rita.get("/sessions").text
        ids = re.findall(r"/sessions/([0-9a-f]{8})/end", listed)
        assert len(ids) == 2
        assert "Firefox &lt;b&gt;" in listed
        of_admin = set(re.findall(r"/sessions/([0-9a-f]{8})/end", admin.get("/sessions").text))
        assert of_admin > set(ids)
        (foreign,) = of_admin - set(ids)
        assert rita.post(f"/sessions/{foreign}/end").status_code == 404
        assert admin.get("/").status_code == 200
        for id_ in ids:
            assert admin.post(f"/sessions/{id_}/end").status_code == 303
        assert rita.get("/").status_code == again.get("/").status_code == 303


def test_a_token_has_a_bounded_number_of_sessions(sqlite: Database, served: Served) -> None:
    now = datetime.now(UTC)
    made = []
    for number in range(sessions.MAX_OF_TOKEN + 3):
        with sqlite.write() as session:
            at = now + timedelta(seconds=number)
            made.append(sessions.start(session, ADMIN.text, at, address="", browser="").secret)
    with sqlite.read() as session:
        assert len(session.scalars(select(WebSession)).all()) == sessions.MAX_OF_TOKEN
        sessions.identify(session, made[-1], now)
        with pytest.raises(store.UnauthenticatedError):
            sessions.identify(session, made[0], now)


@pytest.mark.parametrize(
    "secret", ["", "x", "00000000." + "A" * 43, "\ud800", "a" * 100_000, "00000000.\x00" + "A" * 42]
)
def test_what_is_no_session_is_refused(served: Served, sqlite: Database, secret: str) -> None:
    with sqlite.read() as session, pytest.raises(store.UnauthenticatedError):
        sessions.identify(session, secret, datetime.now(UTC))


# Who may do what


def page_routes(served: Served) -> list[APIRoute]:
    return list(routes_of(served.pages.routes))


def test_every_page_declares_a_role(served: Served) -> None:
    roles = {
        f"{min(route.methods or ())} {route.path}": declared(route) for route in page_routes(served)
    }
    is_open = {name for name, role in roles.items() if role is None}
    assert is_open == {"GET /static/{name}", "GET /login", "POST /login"}
    assert roles["GET /"] == roles["GET /matrix"] == roles["GET /ui/stream"] == Role.READ


def test_pages_wait_their_turn_for_the_database(served: Served) -> None:
    without = {
        f"{method} {route.path}"
        for route in page_routes(served)
        if not any(isinstance(each.dependency, Turn) for each in route.dependencies)
        for method in route.methods or ()
    }
    # No database; or a row of a valid token's own; or, of a stream, its beginning alone.
    assert without == {
        "GET /static/{name}", "GET /login", "GET /explain", "POST /login", "POST /logout", "GET /ui/stream",
    }  # fmt: skip


def test_a_page_without_a_role_is_a_mistake(sqlite: Database) -> None:
    forgetful = APIRouter()
    forgetful.get("/forgotten")(lambda: None)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("controller.web.routes.static.routes", lambda _: forgetful)
        with pytest.raises(UndeclaredError):
            Served(context(sqlite))


def test_no_page_is_shown_and_nothing_done_without_a_login(served: Served) -> None:
    with Browser(served) as client:
        for route in page_routes(served):
            if declared(route) is None:
                continue
            path = re.sub(r"{\w+}", "x", route.path)
            for method in route.methods or ():
                answer = client.request(method, path)
                assert answer.status_code == (303 if method == "GET" else 401), path
                assert answer.headers.get("location", "/login").startswith("/login")


def test_what_a_role_may_not_do_is_refused_where_it_is_tried(served: Served) -> None:
    tried = 0
    with Browser(served) as client:
        client.log_in(READER)
        for route in page_routes(served):
            if declared(route) not in (Role.OPERATE, Role.ADMIN):
                continue
            path = re.sub(r"{\w+}", "requeue", route.path)
            for method in route.methods or ():
                tried += 1
                answer = client.request(method, path)
                assert answer.status_code == 403, path
                assert "rita has the role read" in answer.text
    assert tried >= 3


def test_the_cookie_is_for_pages_and_the_token_for_the_api(browser: Browser) -> None:
    browser.log_in()
    answer = browser.get("/api/v1/nodes")
    assert answer.status_code == 401
    assert answer.headers["content-type"] == "application/problem+json"
    browser.cookies.clear()
    token = {"Authorization": f"Bearer {ADMIN.text}"}
    assert browser.get("/api/v1/nodes", headers=token).status_code == 200
    assert browser.get("/", headers=token).status_code == 303


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "https://127.0.0.1:1"])
def test_a_form_of_another_site_does_nothing(browser: Browser, origin: str) -> None:
    browser.log_in()
    answer = browser.post("/logout", headers={"Origin": origin})
    assert answer.status_code == 403
    assert browser.get("/").status_code == 200


@pytest.mark.usefixtures("served")
def test_the_trusted_proxy_names_the_user(sqlite: Database) -> None:
    proxy = TrustedProxy(
        (ip_network("127.0.0.1/32"),), "Remote-User", "Remote-Groups", {"ops": Role.OPERATE}
    )
    client = testclient.TestClient(
        Served(context(sqlite, proxy=proxy)),
        base_url=LOOPBACK,
        headers=BROWSER,
        client=("127.0.0.1", 5),
        follow_redirects=False,
    )
    user = {"Remote-User": "otto", "Remote-Groups": "ops"}
    page = client.get("/", headers=user)
    assert page.status_code == 200
    assert "otto (proxy)" in page.text
    assert "Log out" not in page.text
    assert "needs no session" in client.get("/sessions", headers=user).text
    assert client.get("/", headers=user | {"Remote-Groups": "none"}).status_code == 403
    assert client.get("/").status_code == 303


# Headers and files


def test_every_answer_forbids_what_is_not_ours(browser: Browser) -> None:
    browser.log_in()
    for path in (
        "/",
        "/login",
        "/nope",
        "/static/nope.js",
        "/sessions",
        "/ui/history.json",
        "/audit?x=1",
    ):
        answer = browser.get(path)
        assert {name: answer.headers[name] for name in HEADERS} == HEADERS, path
    assert "unsafe" not in POLICY
    assert POLICY.startswith("default-src 'none'")


def test_no_page_has_a_script_or_style_of_its_own(browser: Browser) -> None:
    browser.log_in()
    for path in ("/", "/matrix", "/audit", "/explain", "/safety", "/sessions", "/nope"):
        text = browser.get(path).text
        assert re.findall(r"<script(?![^>]*src=)|<style|\sstyle=|\son\w+=|javascript:", text) == []
        for address in re.findall(r'(?: src|rel="stylesheet" href)="([^"]*)"', text):
            assert address.startswith("/static/")


def test_a_file_is_kept_for_ever(browser: Browser) -> None:
    page = browser.get("/login").text
    (path,) = re.findall(r"/static/dashboard\.\w+\.css", page)
    answer = browser.get(path)
    assert "immutable" in answer.headers["cache-control"]
    assert answer.headers["content-encoding"] == "gzip"
    plain = browser.get(path, headers={"Accept-Encoding": "identity"})
    assert plain.text == answer.text
    assert browser.head(path).status_code == 200
    assert browser.get("/static/../app.py").status_code in (303, 404)
    assert browser.get("/static/dashboard.css").status_code == 404


# What is wrong


def test_a_browser_is_told_on_a_page_and_a_program_as_a_problem(browser: Browser) -> None:
    browser.log_in()
    for path, code, words in (
        ("/nope", 404, "Not found"),
        ("/nodes/nobody", 404, "no node has the id"),
        ("/matrix?nodes=x", 422, "is not a parameter"),
        ("/matrix/cell?node=x", 422, "give a network or a vni"),
        ("/?period=1y", 422, "period"),
    ):
        answer = browser.get(path)
        assert answer.status_code == code
        assert answer.headers["content-type"].startswith("text/html")
        assert words in answer.text
        assert 'role="alert"' in answer.text
        problem = browser.get(path, headers={"Accept": "application/json"})
        assert problem.status_code == code
        assert problem.json()["hint"]


def test_without_a_database_a_page_says_so(
    browser: Browser, sqlite: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    browser.log_in()

    def away() -> None:
        raise OperationalError(
            "SELECT", {}, Exception("disk I/O error"), connection_invalidated=True
        )

    monkeypatch.setattr(Database, "read", lambda _self: away())
    answer = browser.get("/")
    assert answer.status_code == 503
    assert "database" in answer.text
    assert "Database unavailable" in answer.text


def test_a_session_that_ended_in_the_middle_of_an_act_leads_back(browser: Browser) -> None:
    answer = browser.post("/do/requeue?node=x", data={"reason": "y"})
    assert answer.status_code == 401
    assert "/login?next=%2Fdo%2Frequeue" in answer.text


@pytest.mark.parametrize(
    ("body", "kind", "code"),
    [
        ("token=a&token=b", "application/x-www-form-urlencoded", 422),
        ("tokens=a", "application/x-www-form-urlencoded", 422),
        ("{}", "application/json", 415),
        ("token=%ff", "application/x-www-form-urlencoded", 400),
        (
            "&".join(f"a{number}=b" for number in range(100)),
            "application/x-www-form-urlencoded",
            400,
        ),
        ("token=" + "a" * 100_000, "application/x-www-form-urlencoded", 413),
    ],
)
def test_a_form_that_is_none_is_refused(browser: Browser, body: str, kind: str, code: int) -> None:
    answer = browser.post("/login", content=body, headers={"Content-Type": kind})
    assert answer.status_code == code


# Links


def test_the_page_of_a_run_links_to_its_trace(served: Served, sqlite: Database) -> None:
    pattern = "https://jaeger.example/trace/{trace_id}?a=1&b=2"
    put(sqlite)
    run = claim(sqlite)[swarm_id("one")].run_id
    with Browser(Served(context(sqlite, trace_url=pattern))) as client:
        client.log_in()
        page = client.get(f"/runs/{run}").text
    assert f'<a href="https://jaeger.example/trace/{run.hex}?a=1&amp;b=2" rel="noreferrer">' in page
    with Browser(Served(context(sqlite))) as client:
        client.log_in()
        assert "noreferrer" not in client.get(f"/runs/{run}").text
