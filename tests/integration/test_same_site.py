"""What a web page of somebody else's may have a browser ask: nothing but how things are."""

from collections.abc import Mapping

import pytest
from httpx import Response

from contract.verdicts import Mode
from controller.api.app import build
from controller.api.context import Context
from controller.api.same_site import Hosts
from controller.db.engine import Database
from tests.api_client import TestClient, assert_problem
from tests.stored import contents, put

CHANGES = [
    "/api/v1/cluster/pause",
    "/api/v1/cluster/resume",
    "/api/v1/breaker/reset",
    "/api/v1/nodes/one/pause",
    "/api/v1/nodes/one/requeue",
    "/api/v1/networks/shop/pause",
]
HOST = {"Host": "evil.example"}
ORIGIN = {"Origin": "https://evil.example"}
SITE = {"Sec-Fetch-Site": "cross-site"}
OURS = "127.0.0.1:8479"


@pytest.fixture
def client(sqlite: Database) -> TestClient:
    """A client of a controller that listens on loopback."""
    put(sqlite)
    return api(sqlite)


def api(database: Database, listen: str = OURS, allowed: str = "") -> TestClient:
    """A client of a controller with these settings."""
    hosts = Hosts.of(listen, allowed)
    return TestClient(
        build(Context(database, mode=Mode.ENFORCE, notify=lambda *_: None, hosts=hosts))
    )


def assert_refused(answer: Response, *words: str) -> None:
    """The answer says that the request is refused, why, and what to do."""
    assert_problem(answer, 403)
    body = answer.json()
    assert body["title"] == "Refused"
    for word in words:
        assert word in f"{body['detail']}\n{body['hint']}"


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers",
    [
        HOST,
        ORIGIN,
        SITE,
        HOST | ORIGIN,
        HOST | SITE,
        ORIGIN | SITE,
        HOST | ORIGIN | SITE,
        # After DNS rebinding the page is of the same site.
        HOST | {"Origin": "http://evil.example", "Sec-Fetch-Site": "same-origin"},
    ],
    ids=" ".join,
)
def test_a_page_of_another_site_can_change_nothing(
    client: TestClient, sqlite: Database, path: str, headers: Mapping[str, str]
) -> None:
    before = contents(sqlite)
    assert_refused(
        client.post(path, headers=headers), "evil.example" if headers != SITE else "site"
    )
    assert_refused(client.post(path, headers=headers, json={"actor": "alice"}))
    assert contents(sqlite) == before


@pytest.mark.parametrize(
    "origin",
    [
        pytest.param("null", id="a sandboxed frame"),
        pytest.param("http://127.0.0.1:3000", id="another program of this machine"),
        pytest.param("http://localhost:8479", id="the same under another name"),
        pytest.param("http://127.0.0.1", id="another port, unsaid"),
        pytest.param("https://127.0.0.1:8479.evil.example", id="a longer name"),
        pytest.param("http://127.0.0.1:8479@evil.example", id="a user"),
        pytest.param("file://", id="a file"),
        pytest.param("chrome-extension://abcdefghijklmnop", id="an extension"),
        pytest.param("", id="nothing"),
    ],
)
def test_an_origin_that_is_not_the_host_asked_is_foreign(client: TestClient, origin: str) -> None:
    assert_refused(client.post(CHANGES[0], headers={"Origin": origin}), "vxctl")


@pytest.mark.parametrize("site", ["cross-site", "same-site", "", "SAME-ORIGIN"])
def test_only_the_same_origin_is_the_same_site(client: TestClient, site: str) -> None:
    assert_refused(client.post(CHANGES[0], headers={"Sec-Fetch-Site": site}), "vxctl")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"User-Agent": "curl/8"},
        {"Origin": f"http://{OURS}"},
        {"Origin": f"http://{OURS}", "Sec-Fetch-Site": "same-origin"},
        {"Sec-Fetch-Site": "none"},
        {"Host": "localhost:9000", "Origin": "http://localhost:9000"},
        {"Host": "localhost", "Origin": "http://localhost:80"},
        {"Host": "localhost:443", "Origin": "https://localhost"},
        {"Host": "LOCALHOST", "Origin": "http://localhost"},
    ],
    ids=str,
)
def test_vxctl_curl_and_the_controllers_own_pages_can(
    client: TestClient, headers: Mapping[str, str]
) -> None:
    for path in CHANGES:
        answer = client.post(path, headers=headers)
        assert answer.is_success, answer.text
        client.post("/api/v1/cluster/resume")
        client.post("/api/v1/nodes/one/resume")


LOOPBACK = ["localhost", "LocalHost.", "127.0.0.1", "127.9.9.9:1", "[::1]", "[::1]:65535"]
NO_HOST = [
    "",
    "evil.example",
    "localhost.evil.example",
    "evil.localhost",
    "127.0.0.1.evil.example",
    "127.0.0.1@evil.example",
    "evil.example:8479",
    "::1",
    "[::1",
    "localhost:",
    "localhost:port",
    "localhost, evil.example",
    "127.0.0.1/evil",
    "x" * 5000,
]


@pytest.mark.parametrize(
    ("listen", "allowed", "accepted", "refused"),
    [
        pytest.param(OURS, "", LOOPBACK, ["192.0.2.1", "0.0.0.0", "ops.example"], id="loopback"),
        pytest.param("localhost:80", "", LOOPBACK, ["192.0.2.1"], id="loopback, by name"),
        pytest.param(
            "192.0.2.1:80", "", ["192.0.2.1", "192.0.2.1:81"], ["192.0.2.2"], id="an address"
        ),
        pytest.param(
            "[2001:db8::1]:80", "", ["[2001:DB8:0::1]:80"], ["[2001:db8::2]"], id="of IPv6"
        ),
        pytest.param("Manager1:80", "", ["manager1", "manager1.:9"], ["manager2"], id="a name"),
        pytest.param(
            "0.0.0.0:80", "", ["192.0.2.1", "[2001:db8::1]"], ["manager1"], id="all addresses"
        ),
        pytest.param("[::]:80", "", ["192.0.2.1", "[2001:db8::1]"], ["manager1"], id="of IPv6 too"),
        pytest.param(":80", "", ["192.0.2.1"], ["manager1"], id="all, unsaid"),
        pytest.param(
            OURS,
            "ops.example, Manager1,[2001:db8::1]",
            ["ops.example", "manager1:80", "[2001:db8::1]:80"],
            ["example", "x.ops.example", "ops.example.evil.example", "192.0.2.1"],
            id="allowed names",
        ),
    ],
)
def test_the_hosts_under_which_a_controller_is_known(
    sqlite: Database, listen: str, allowed: str, accepted: list[str], refused: list[str]
) -> None:
    client = api(sqlite, listen, allowed)
    for host in [*accepted, *LOOPBACK]:
        for path in ("/api/v1/status", "/openapi.json"):
            assert client.get(path, headers={"Host": host}).status_code == 200, host
    for host in [*refused, *NO_HOST]:
        for path in ("/api/v1/status", "/openapi.json", "/nosuch"):
            answer = client.get(path, headers={"Host": host})
            assert_refused(answer, "VXLAN_OPERATOR_ALLOWED_HOSTS", "localhost")
            assert len(answer.text) < 500


def test_two_hosts_are_none(client: TestClient) -> None:
    headers = [("Host", "localhost"), ("Host", "evil.example")]
    assert_refused(client.get("/api/v1/status", headers=headers))


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/metrics"])
def test_probes_may_come_under_any_name(client: TestClient, path: str) -> None:
    assert client.get(path, headers=HOST | ORIGIN | SITE).status_code == 200
    assert_refused(client.post(path, headers=HOST))


def test_a_link_from_another_site_may_be_followed(client: TestClient) -> None:
    assert client.get("/openapi.json", headers=SITE).status_code == 200
    link = SITE | {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
    assert client.get("/openapi.json", headers=link).status_code == 200


@pytest.mark.parametrize("mode", ["no-cors", "cors", "websocket", ""])
@pytest.mark.parametrize("path", ["/api/v1/status", "/api/v1/nodes?watch=true"])
def test_another_site_loads_nothing(client: TestClient, mode: str, path: str) -> None:
    """It could not read it; but with a proxy's login its images would cost, and its streams take places."""
    assert_refused(client.get(path, headers=SITE | {"Sec-Fetch-Mode": mode}), "cross-site")


def test_pages_of_the_controller_load(client: TestClient) -> None:
    for site in ("same-origin", "none"):
        headers = {"Sec-Fetch-Site": site, "Sec-Fetch-Mode": "cors"}
        assert client.get("/api/v1/status", headers=headers).status_code == 200
