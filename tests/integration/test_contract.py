"""The API's contract: specification, problem types and their pages, ETags, `fields=`, HEAD, hostile input."""

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import pytest
from sqlalchemy import delete

from contract.verdicts import Mode
from controller.api.access import ADMIN
from controller.api.problem_types import BY_NAME, TYPES
from controller.api.specification import LINKS, TAGS
from controller.db.engine import Database
from controller.db.models import Run
from controller.db.states import RunState
from tests import api_docs
from tests.api_client import TestClient, assert_problem, shared_app
from tests.fake_clock import START
from tests.fake_swarm import network, node, snapshot
from tests.integration.test_api import fill
from tests.stored import put

SINGLE: Final = ["/api/v1/nodes/one", "/api/v1/networks/shop", "/api/v1/status", "/api/v1/breaker"]
LISTS: Final = ["nodes", "networks", "devices", "runs", "audit", "events", "diff", "suppressed"]


@pytest.fixture
def client(database: Database) -> Iterator[TestClient]:
    """The API over a database with three nodes, of which one has been looked at."""
    with TestClient(shared_app(database, Mode.OBSERVE)) as client:
        fill(database)
        yield client


@pytest.fixture(scope="module")
def specification(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """The specification, as it is built."""
    return api_docs.openapi(tmp_path_factory.mktemp("openapi"))


def operations(specification: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """All operations with their paths and methods."""
    for path, methods in specification["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_the_specification_in_docs_is_current(specification: dict[str, Any]) -> None:
    """A change of the contract is seen in the difference; see docs/api.md before you make one."""
    kept = (api_docs.DOCS / "openapi.json").read_text()
    assert kept == api_docs.as_text(specification), "run `make api-docs`"


def test_the_page_of_problems_in_docs_is_current() -> None:
    assert (api_docs.DOCS / "problems.md").read_text() == api_docs.problems(), "run `make api-docs`"


def test_the_roles_of_routes_in_docs_are_current(tmp_path: Path) -> None:
    page = (api_docs.DOCS / "security.md").read_text()
    assert page == api_docs.security(tmp_path, page), "run `make api-docs`"
    api = api_docs.app(tmp_path)
    api.add_api_route("/api/v1/more", lambda: None, dependencies=[ADMIN], methods=["DELETE"])
    assert set(api_docs.routes(api).splitlines()) - set(page.splitlines()) == {
        "| `DELETE /api/v1/more` | admin |"
    }


def test_every_operation_is_described(specification: dict[str, Any]) -> None:
    assert specification["openapi"] == "3.1.0"
    ids = []
    for path, method, operation in operations(specification):
        ids.append(operation["operationId"])
        assert operation["summary"], path
        assert operation["description"], path
        assert set(operation["tags"]) <= TAGS.keys(), path
        assert operation["tags"], path
        for parameter in operation.get("parameters", ()):
            assert parameter.get("description"), (path, parameter["name"])
        for status, answer in operation["responses"].items():
            if int(status) < 400:
                assert answer["description"] not in ("", "Successful Response"), (path, status)
                continue
            name = answer["$ref"].removeprefix("#/components/responses/")
            problem = specification["components"]["responses"][name]
            assert list(problem["content"]) == ["application/problem+json"], (path, status)
        assert {"422", "500"} <= operation["responses"].keys(), (path, method)
    assert len(set(ids)) == len(ids)
    assert {target for links in LINKS.values() for target in links} | LINKS.keys() <= set(ids)
    used = {tag for *_, operation in operations(specification) for tag in operation["tags"]}
    assert [tag["name"] for tag in specification["tags"] if tag["name"] not in used] == []


def test_patterns_are_of_a_syntax_that_all_readers_share(specification: dict[str, Any]) -> None:
    patterns = re.findall(r'"pattern": "((?:[^"\\]|\\.)*)"', json.dumps(specification))
    assert len(patterns) > 5
    for pattern in patterns:
        assert r"\\p{" not in pattern
        re.compile(json.loads(f'"{pattern}"'))


def test_every_problem_type_leads_to_its_page(client: TestClient) -> None:
    assert len(BY_NAME) == len(TYPES)
    for kind in TYPES:
        page = client.get(kind.uri)
        assert page.status_code == 200
        assert page.headers["content-type"] == "text/html; charset=utf-8"
        assert f"<h1>{kind.title}</h1>" in page.text
    answer = client.get("/api/v1/nodes/nosuch")
    assert_problem(answer, 404, "nosuch")
    assert client.get(answer.json()["type"]).status_code == 200
    assert_problem(client.get("/problems/<b>"), 404, "'<b>'")


@pytest.mark.parametrize("path", [*SINGLE, *(f"/api/v1/{name}" for name in LISTS)])
def test_an_answer_that_the_client_has_is_not_sent_again(client: TestClient, path: str) -> None:
    first = client.get(path)
    assert first.status_code == 200, first.text
    etag = first.headers["etag"]
    assert re.fullmatch(r'"[0-9a-f]{24}"', etag)
    for known in (etag, f"W/{etag}", f'"x", {etag}', "*"):
        again = client.get(path, headers={"If-None-Match": known})
        assert (again.status_code, again.content) == (304, b""), known
        assert again.headers["etag"] == etag
    for other in ('"x"', "", etag.strip('"')):
        assert client.get(path, headers={"If-None-Match": other}).content == first.content


def test_another_answer_has_another_etag(client: TestClient) -> None:
    path = "/api/v1/nodes/one"
    before = client.get(path).headers["etag"]
    client.post(f"{path}/pause", json={"reason": "disk swapped"})
    after = client.get(path, headers={"If-None-Match": before})
    assert after.status_code == 200
    assert after.json()["paused_reason"] == "disk swapped"
    assert client.get(path, params={"fields": "id"}).headers["etag"] != after.headers["etag"]


@pytest.mark.parametrize("name", LISTS)
def test_fields_of_a_list(client: TestClient, name: str, specification: dict[str, Any]) -> None:
    path = f"/api/v1/{name}"
    (parameter,) = [
        parameter
        for parameter in specification["paths"][path]["get"]["parameters"]
        if parameter["name"] == "fields"
    ]
    fields = parameter["schema"]["items"]["enum"]
    whole = client.get(path).json()
    chosen = client.get(path, params={"fields": f"{fields[1]},{fields[0]}"}).json()
    assert chosen == whole | {
        "items": [{field: item[field] for field in fields[:2]} for item in whole["items"]]
    }
    for item in whole["items"]:
        assert list(item) == fields
    for wrong in ("nosuch", f"{fields[0]},", "", "*", f"{fields[0]} "):
        assert_problem(client.get(path, params={"fields": wrong}), 422, "fields", fields[0])
    assert_problem(client.get(f"{path}?fields={fields[0]}&fields={fields[1]}"), 422, "once")


def test_fields_of_tokens_beside_another_parameter(client: TestClient) -> None:
    answer = client.get("/api/v1/tokens", params={"revoked": "true", "fields": "role,name"})
    assert answer.json() == {"items": [{"name": "admin", "role": "admin"}], "next": None}


@pytest.mark.parametrize("path", SINGLE)
def test_fields_of_a_single_answer(client: TestClient, path: str) -> None:
    whole = client.get(path).json()
    field = list(whole)[-1]
    assert client.get(path, params={"fields": field}).json() == {field: whole[field]}
    assert_problem(client.get(path, params={"fields": "a,b"}), 422, "'a', 'b'")


@pytest.mark.parametrize("path", ["/healthz", *SINGLE, "/api/v1/audit/export", "/metrics"])
def test_head_is_get_without_a_body(client: TestClient, path: str) -> None:
    answer, head = client.get(path), client.head(path)
    assert (head.status_code, head.content) == (200, b"")
    for name in ("content-type", "etag"):
        assert head.headers.get(name) == answer.headers.get(name)


TIED: Final = ("5c", "0a", "f1", "3b", "9d")
"""How the ids of rows begin that are equal in all else, in the order in which they are stored."""


@pytest.mark.parametrize("name", ["nodes", "networks", "runs"])
def test_rows_that_are_equal_are_in_the_order_of_their_ids(
    client: TestClient, database: Database, name: str
) -> None:
    with database.write() as session:
        session.execute(delete(Run))
    nodes = [replace(node(each), hostname="same") for each in TIED]
    networks = [replace(network(each, 4100 + i), name="same") for i, each in enumerate(TIED)]
    put(database, snapshot(*nodes, networks=networks))
    with database.write() as session:
        for each in TIED:
            session.add(
                Run(
                    id=UUID(each.ljust(32, "0")),
                    node_id=nodes[0].id,
                    state=RunState.LOST,
                    priority=0,
                    reasons=[],
                    generation=1,
                    requested_at=START,
                    deadline=START,
                )
            )
            session.flush()
    found: list[str] = []
    parameters: dict[str, str | int] = {"limit": 1}
    for _ in TIED:
        page = client.get(f"/api/v1/{name}", params=parameters).json()
        found += [item["id"][:2] for item in page["items"]]
        parameters["cursor"] = page["next"]
    assert page["next"] is None
    # Of runs, the newest is the first one.
    assert found == sorted(TIED, reverse=name == "runs")


def test_every_path_refuses_what_it_does_not_have(
    client: TestClient, specification: dict[str, Any]
) -> None:
    for path, methods in specification["paths"].items():
        filled = re.sub("{.*?}", "1", path)
        for method in {"get", "post", "put", "delete", "patch", "options"} - methods.keys():
            answer = client.request(method, filled)
            assert_problem(answer, 405, filled)
            allowed = {each.strip() for each in answer.headers["allow"].split(",")}
            assert allowed - {"HEAD"} == {each.upper() for each in methods}
        for method in methods:
            answer = client.request(method, filled, params={"nosuch": "x"})
            assert_problem(answer, 422, "nosuch: is not a parameter")


HOSTILE: Final = (
    "", "\0", "\x1b[2J", "\u202e", "%", "%00", "'; DROP TABLE nodes; --", "../..", "*", "x" * 4097,
    "9" * 5000, "-1", "1e400", "NaN", "null", "9999-12-31T23:59:59-14:00", "0001-01-01T00:00:00+14:00",
    "2016-12-31T23:59:60Z", "999999999w", "WzEsWyJhIiwiYiJdLCJ4Il0", "a,b", "<script>", "{node}", "\ud800",
)  # fmt: skip


def test_no_parameter_makes_an_error_of_the_controller(
    client: TestClient, specification: dict[str, Any]
) -> None:
    """Every parameter of every route in turn, also twice."""
    tried = 0
    for path, method, operation in operations(specification):
        for parameter in operation.get("parameters", ()):
            name = parameter["name"]
            for text in HOSTILE:
                raw = text.encode(errors="surrogatepass")
                quoted = "".join(f"%{byte:02X}" for byte in raw)
                target = re.sub("{.*?}", quoted if parameter["in"] == "path" else "1", path)
                once = f"?{name}={quoted}"
                # What stands there twice is refused whatever it is.
                twice = [f"{once}&{name}={quoted}"] if text in HOSTILE[:2] else []
                for query in [once, *twice] if parameter["in"] == "query" else [""]:
                    answer = client.request(method, f"{target}{query}")
                    assert answer.status_code < 500 or path == "/readyz", (method, target, query)
                    tried += 1
    assert tried > 1000


@pytest.mark.parametrize(
    "body",
    [
        b"", b"{", b"null", b"[]", b"1e400", b"\xff", b'{"actor": "\\ud800"}', b'{"reason": "a\\u0000b"}',
        b'{"actor": 1e400}', b'{"seconds": 1e400}', b'{"seconds": 1' + b"0" * 400 + b"}", b"[" * 60_000,
        b'{"until": "0001-01-01T00:00:00+14:00"}', b'{"mode": null}', b'{"actor": "a", "actor": "b"}',
        b'{"token": ' + b"9" * 5_000 + b"}",
    ],
)  # fmt: skip
def test_no_body_makes_an_error_of_the_controller(
    client: TestClient, specification: dict[str, Any], body: bytes
) -> None:
    for path, method, operation in operations(specification):
        if "requestBody" in operation:
            target = re.sub("{.*?}", "one", path)
            answer = client.request(
                method, target, content=body, headers={"Content-Type": "application/json"}
            )
            assert answer.status_code < 500, (method, target)
