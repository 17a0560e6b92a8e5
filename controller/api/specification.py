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
from controller.api.selection import FIELDS

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
    "keys": "Whose messages are believed: keys of controllers and nodes, and join tokens.",
    "notifications": "Who is told of problems and removals, and by which way.",
    "problems": "The pages of problem types.",
}
"""Tags and their descriptions, in the order in which they are shown."""

_DESCRIPTION: Final = """\
The API of a vxlan-operator controller. Lists are pages: `{items, next}`, where `next` is the `cursor` of the
next page. Every error is a problem (RFC 9457). docs/api.md says what is promised.
"""
JSON: Final = "application/json"
_SCHEMAS: Final = "#/components/schemas/"
_RETRY_AFTER: Final = {
    "description": "Seconds to wait before the next attempt.",
    "required": True,
    "schema": {"type": "string", "pattern": "^[0-9]+$"},
}
_OF_NODE: Final = {"node": "$response.body#/items/0/id"}
_OF_NETWORK: Final = {"network": "$response.body#/items/0/id"}
_NEXT: Final = {"cursor": "$response.body#/next"}
LINKS: Final[Mapping[str, Mapping[str, Mapping[str, str]]]] = {
    "list_nodes": {
        "list_nodes": _NEXT,
        **dict.fromkeys(
            ("get_node", "get_plan", "requeue_node", "pause_node", "resume_node", "set_node_mode"),
            _OF_NODE,
        ),
    },
    "list_networks": {
        "list_networks": _NEXT,
        **dict.fromkeys(
            ("get_network", "pause_network", "resume_network", "set_network_mode"), _OF_NETWORK
        ),
    },
    "list_devices": {
        "list_devices": _NEXT,
        "get_node": {"node": "$response.body#/items/0/node_id"},
    },
    "list_runs": {"list_runs": _NEXT, "get_timeline": {"id": "$response.body#/items/0/id"}},
    "list_audit": {
        "list_audit": _NEXT,
        "get_audit_row": {"id": "$response.body#/items/0/id"},
        "get_timeline": {"id": "$response.body#/items/0/run_id"},
    },
    "list_events": {"list_events": _NEXT},
    "requeue_node": {
        "get_requeue": {"token": "$response.body#/token"},
        "get_node": {"node": "$response.body#/node_id"},
    },
    "get_requeue": {"get_timeline": {"id": "$response.body#/run/id"}},
    "verify_audit": {"verify_audit": {"after": "$response.body#/reached"}},
}
"""By operation: the operations that its answer leads to, and where their parameters stand in it."""
_METHODS: Final = ("get", "put", "post", "delete", "patch")
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
                _complete(path, method, operations[method], found["components"])
    for name, parts in found["components"].items():
        found["components"][name] = dict(sorted(parts.items()))
    return found


def _complete(
    path: str, method: str, operation: dict[str, Any], components: dict[str, Any]
) -> None:
    """Add to an operation what FastAPI does not know."""
    schemas = components["schemas"]
    description = operation.get("description", "")
    operation["summary"] = description.partition("\n")[0].rstrip(".")
    answers = operation["responses"]
    answers.pop("422", None)
    kinds = {BY_NAME[name] for answer in answers.values() for name in answer.pop(EXTENSION, ())}
    kinds.update(_implied(path, method, operation))
    for status in {kind.status for kind in kinds}:
        possible = [kind for kind in types.TYPES if kind in kinds and kind.status == status]
        name = "-or-".join(kind.name for kind in possible)
        components.setdefault("responses", {})[name] = _answer(possible)
        answers[str(status)] = {"$ref": f"#/components/responses/{name}"}
    (success,) = (answers[status] for status in answers if status.startswith("2"))
    _describe_success(operation, success, schemas)
    if method == "get" and JSON in success.get("content", {}):
        _add_fields(operation, success["content"][JSON], schemas)
        _add_etag(operation, success)
    if links := LINKS.get(operation["operationId"]):
        success["links"] = {
            name: {"operationId": name, "parameters": dict(parameters)}
            for name, parameters in links.items()
        }
    operation["responses"] = dict(sorted(answers.items()))


def _describe_success(
    operation: Mapping[str, Any], success: dict[str, Any], schemas: Mapping[str, Any]
) -> None:
    """Describe the answer in the words of its schema, or else of the operation."""
    schema = success.get("content", {}).get(JSON, {}).get("schema", {})
    described = schemas.get(_name(schema), {}).get("description") or operation["summary"]
    success["description"] = described


def _add_fields(
    operation: dict[str, Any], content: dict[str, Any], schemas: dict[str, Any]
) -> None:
    """Add the parameter `fields`, and that an answer may then have some of its fields alone."""
    name = _name(content["schema"])
    if name not in schemas:
        return
    page = schemas[name]
    is_list = {"items", "next"} <= page["properties"].keys()
    item = _name(page["properties"]["items"]["items"]) if is_list else name
    fields = list(schemas[item]["properties"])
    operation.setdefault("parameters", []).append(
        {
            "name": FIELDS,
            "in": "query",
            "required": False,
            "style": "form",
            "explode": False,
            "description": f"only these fields of {'the items' if is_list else 'the answer'}, "
            "separated by commas; all without it",
            "schema": {"type": "array", "minItems": 1, "items": {"enum": fields}},
            "example": fields[:2],
        }
    )
    chosen = f"{item}Fields"
    schemas[chosen] = {
        "type": "object",
        "title": chosen,
        "description": f"Some fields of {item}, as `fields` names them.",
        "properties": schemas[item]["properties"],
        "additionalProperties": False,
        "minProperties": 1,
    }
    if is_list:
        items = {"items": {"type": "array", "items": {"$ref": f"{_SCHEMAS}{chosen}"}}}
        schemas[f"{name}Fields"] = page | {
            "title": f"{name}Fields",
            "properties": page["properties"] | items,
        }
        chosen = f"{name}Fields"
    content["schema"] = {"anyOf": [content["schema"], {"$ref": f"{_SCHEMAS}{chosen}"}]}


def _add_etag(operation: dict[str, Any], success: dict[str, Any]) -> None:
    """Add that the answer has an ETag, and that a client which has it already is told so."""
    etag = {
        "ETag": {"description": "Of these bytes.", "required": True, "schema": {"type": "string"}}
    }
    success.setdefault("headers", {}).update(etag)
    operation["responses"]["304"] = {
        "description": "The client has this answer already.",
        "headers": etag,
    }
    operation.setdefault("parameters", []).append(
        {
            "name": "If-None-Match",
            "in": "header",
            "required": False,
            "description": "ETags of answers that the client has: answers 304 to one of them",
            "schema": {"type": "string"},
        }
    )


def _name(schema: Mapping[str, Any]) -> str:
    """Return the name of the schema that a reference means; "": it is no reference."""
    reference: str = schema.get("$ref", "")
    return reference.removeprefix(_SCHEMAS)


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
    names = {parameter["name"] for parameter in operation.get("parameters", ())}
    if "cursor" in names:
        yield types.NO_PAGE
    if "watch" in names:
        yield types.CONTRADICTION
    yield types.INVALID  # Every route refuses parameters that it does not know.


def _answer(kinds: list[ProblemType]) -> dict[str, Any]:
    """Return the answer that stands for one of these problems, all of one status."""
    headers = {"headers": {"Retry-After": _RETRY_AFTER}} if types.BUSY in kinds else {}
    return headers | {
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
