"""`fields=` of a request: which fields of an answer, or of a list's items, the client wants."""

from collections.abc import Callable
from typing import Any, Final, NamedTuple, get_args
from weakref import WeakKeyDictionary

from fastapi import Request
from fastapi.dependencies.utils import get_flat_params
from fastapi.params import ParamTypes
from fastapi.routing import APIRoute
from pydantic import BaseModel

from controller.api.parameters import REPEATABLE, TRUE, ContradictionError, ParameterError

FIELDS: Final = "fields"
SCOPE_KEY: Final = "vxlan_operator.fields"
"""Under this key of the ASGI scope stand the wanted fields, once they are known to be valid."""


class Queryable(NamedTuple):
    """What the query of a route may have."""

    parameters: frozenset[str]
    """Without `fields`."""
    fields: frozenset[str]
    """Of its answer, or of its items; none: `fields` is no parameter of it."""


_KNOWN: Final[WeakKeyDictionary[Callable[..., Any], Queryable]] = WeakKeyDictionary()
"""By the functions of routes."""


def check_query(request: Request) -> None:
    """Refuse parameters that the route does not have, and those given twice; note the wanted fields.

    Raises:
        ParameterError: there is such a parameter, or `fields` names one that the answer does not have.
        ContradictionError: `fields` is given for a list that is followed.
    """
    parameters, fields = queryable(request.scope["route"])
    is_followed = "watch" in parameters and request.query_params.get("watch", "").lower() in TRUE
    if is_followed and FIELDS in request.query_params:
        raise ContradictionError(FIELDS, "cannot be combined with watch", "leave one of them out")
    names = parameters | {FIELDS} if fields else parameters
    given = [name for name, _ in request.query_params.multi_items()]
    for name in given:
        if name not in names:
            known = ", ".join(sorted(names)) or "none"
            raise ParameterError(
                name, "is not a parameter of this path", f"the parameters are {known}"
            )
        if given.count(name) > 1 and name not in REPEATABLE:
            raise ParameterError(name, "is given more than once", "give it once")
    if FIELDS in request.query_params:
        wanted = frozenset(request.query_params[FIELDS].split(","))
        if unknown := sorted(wanted - fields):
            raise ParameterError(
                FIELDS,
                f"{', '.join(map(repr, unknown))} is not in this answer",
                f"it has {', '.join(sorted(fields))}",
            )
        request.scope[SCOPE_KEY] = wanted


def queryable(route: APIRoute) -> Queryable:
    """Return what the query of a route may have."""
    found = _KNOWN.get(route.endpoint)
    if found is None:
        # The fields of a model of parameters do not say where they are; all such models are of the query.
        parameters = (
            field.alias
            for field in get_flat_params(route.dependant)
            if getattr(field.field_info, "in_", ParamTypes.query) == ParamTypes.query
        )
        found = _KNOWN[route.endpoint] = Queryable(frozenset(parameters), _fields(route))
    return found


def _fields(route: APIRoute) -> frozenset[str]:
    model: Any = route.response_model
    if (
        "GET" not in (route.methods or ())
        or not isinstance(model, type)
        or not issubclass(model, BaseModel)
    ):
        return frozenset()
    if is_list(model):
        (model,) = get_args(model.model_fields["items"].annotation)
    return frozenset(model.model_fields)


def is_list(model: type[BaseModel]) -> bool:
    """Whether an answer is a page of a list."""
    return {"items", "next"} <= model.model_fields.keys()


def select(answer: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return an answer with the wanted fields alone, in its order; of a list's page: of its items."""
    if {"items", "next"} <= answer.keys():
        return answer | {"items": [select_fields(item, wanted) for item in answer["items"]]}
    return select_fields(answer, wanted)


def select_fields(item: dict[str, Any], wanted: frozenset[str]) -> dict[str, Any]:
    """Return an item with the wanted fields alone, in its order."""
    return {name: value for name, value in item.items() if name in wanted}
