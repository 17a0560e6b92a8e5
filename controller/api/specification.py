"""The OpenAPI specification: what FastAPI derives from the routes, and what it does not know of them.

Every operation gets the problems that come with its kind (`_implied`), besides those that its route declares
with `may_answer`. docs/openapi.json is a copy, so that a change of the contract is seen as one.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute

from controller.api import problem_types as types
from controller.api.problem_types import BY_NAME, EXTENSION, ProblemType
from controller.api.problems import MEDIA_TYPE
from controller.api.same_site import UNGUARDED

TAGS: Final[Mapping[str, str]] = {
    "status": "Whether the controller and the cluster are well.",
    "nodes": "Nodes of the Swarm, their conditions and devices.",
    "networks": "Overlay networks of the Swarm.",
    "devices": "VXLAN devices that workers report.",
    "runs": "Runs, each one reconcile of a node, and requests for them.",
    "safety": "What holds the operator back: pause, mode, breaker.",
    "events": "What happened: findings, decisions, rejections, removals, lost runs.",
    "audit": "The audit trail, its verification and export.",
    "explain": "What an error line of Docker means.",
    "metrics": "Metrics for Prometheus.",
    "tokens": "Tokens of the API, and who the caller is.",
    "problems": "The pages of problem types.",
}
"""Tags and their descriptions, in the order in which they are shown."""

_DESCRIPTION: Final = """\
The API of a vxlan-operator controller. Lists are pages: `{items, next}`, where `next` is the `cursor` of the
next page. Every error is a problem (RFC 9457). docs/api.md says what is promised.
"""
_METHODS: Final = ("get", "put", "post", "delete", "patch")
_SUCCESS: Final = "2"
_GENERATED: Final = ("HTTPValidationError", "ValidationError")
"""FastAPI's schemas of its own 422 answer, which is a problem here."""

_PROBLEM: Final[Mapping[str, Any]] = {
    "title": "Problem",
    "description": "An error: what is wrong, and what to do (RFC 9457).",
    "type": "object",
    "required": ["type", "title", "status", "detail", "hint"],
    "properties": {
        "type": {
            "type": "string",
            "format": "uri-reference",
            "description": "The kind of problem; a page of the controller that explains it.",
        },
        "title": {"type": "string", "description": "The kind of problem in words."},
        "status": {"type": "integer", "description": "The HTTP status."},
        "detail": {"type": "string", "description": "What is wrong."},
        "hint": {"type": "string", "description": "What to do about it."},
        "error_id": {
            "type": "string",
            "description": "The id under which the controller's log has an internal error.",
        },
    },
}


def install(app: FastAPI) -> None:
    """Let the app serve this specification."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            app.openapi_schema = build(app)
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]


def operation_id(route: APIRoute) -> str:
    """Return the id of a route's operation: its function's name, as `list_nodes`."""
    return route.name


def build(app: FastAPI) -> dict[str, Any]:
    """Build the specification of an app."""
    found = get_openapi(
        title=app.title,
        version=app.version,
        description=_DESCRIPTION,
        routes=app.routes,
        tags=[{"name": name, "description": text} for name, text in TAGS.items()],
    )
    schemas = found.setdefault("components", {}).setdefault("schemas", {})
    for name in _GENERATED:
        schemas.pop(name, None)
    schemas["Problem"] = dict(_PROBLEM)
    for path, operations in found["paths"].items():
        for method in _METHODS:
            if method in operations:
                _complete(path, method, operations[method])
    return found


def _complete(path: str, method: str, operation: dict[str, Any]) -> None:
    """Add to an operation what FastAPI does not know."""
    description = operation.get("description", "")
    operation["summary"] = description.partition("\n")[0].rstrip(".")
    answers = operation["responses"]
    answers.pop("422", None)
    kinds = {BY_NAME[name] for answer in answers.values() for name in answer.pop(EXTENSION, ())}
    kinds.update(_implied(path, method, operation))
    for status in {str(kind.status) for kind in kinds}:
        answers[status] = _answer([kind for kind in types.TYPES if kind in kinds], status)
    operation["responses"] = dict(sorted(answers.items()))


def _implied(path: str, method: str, operation: Mapping[str, Any]) -> Iterator[ProblemType]:
    """Yield the problems that come with an operation's kind."""
    yield types.INTERNAL
    if operation.get("security"):
        yield types.UNAUTHENTICATED
        yield types.FAILED_LOGINS
        yield types.FORBIDDEN
    if path != "/healthz":
        yield types.DATABASE
    if method != "get" or path not in UNGUARDED:
        yield types.FOREIGN
    yield types.HEADERS
    yield types.LONG_URI
    if "requestBody" in operation:
        yield types.MALFORMED
        yield types.LATE
        yield types.TOO_LARGE
    yield types.INVALID  # Every route refuses parameters that it does not know.


def _answer(kinds: list[ProblemType], status: str) -> dict[str, Any]:
    """Return the answer of a status that stands for one of these problems."""
    kinds = [kind for kind in kinds if str(kind.status) == status]
    return {
        "description": "; or: ".join(kind.title for kind in kinds) + ".",
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Problem"},
                        {
                            "properties": {
                                "type": {"enum": [kind.uri for kind in kinds]},
                                "status": {"const": kinds[0].status},
                            }
                        },
                    ]
                },
                "examples": {
                    kind.name: {
                        "summary": kind.title,
                        "value": {
                            "type": kind.uri,
                            "title": kind.title,
                            "status": kind.status,
                            "detail": kind.meaning,
                            "hint": kind.hint,
                        },
                    }
                    for kind in kinds
                },
            }
        },
    }
