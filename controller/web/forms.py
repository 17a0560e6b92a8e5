"""What a form of the dashboard sends: read without a library, checked by a pydantic model."""

from typing import Final, TypeVar
from urllib.parse import parse_qsl

from fastapi import HTTPException, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

_KIND: Final = "application/x-www-form-urlencoded"
_MAX_FIELDS: Final = 50

Model = TypeVar("Model", bound=BaseModel)


async def read_form(request: Request, model: type[Model]) -> Model:
    """Read a form into a model; a field that was left empty counts as not given.

    Raises:
        HTTPException: 415, the body is no form; 400, it cannot be read.
        RequestValidationError: a field is missing, unknown, given twice, or invalid.
    """
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind != _KIND:
        raise HTTPException(415, f"the body must be {_KIND}")
    try:
        body = (await request.body()).decode()
        pairs = parse_qsl(body, keep_blank_values=True, max_num_fields=_MAX_FIELDS, errors="strict")
    except ValueError as error:
        raise HTTPException(400, f"the form cannot be read: {error}") from error
    fields: dict[str, str] = {}
    for name, value in pairs:
        if name in fields:
            raise RequestValidationError([_twice(name)])
        fields[name] = value
    try:
        return model.model_validate({name: value for name, value in fields.items() if value})
    except ValidationError as error:
        # `loc` begins with the part of the request, as FastAPI's own errors do.
        found = [{**part, "loc": ("form", *part["loc"])} for part in error.errors()]
        raise RequestValidationError(found) from error


def _twice(name: str) -> dict[str, object]:
    return {"loc": ("form", name[:100]), "msg": "is given more than once", "type": "twice"}


def text_of(error: Exception) -> str:
    """Return what is wrong with a form, for the page that shows it again."""
    if not isinstance(error, ValidationError):
        return str(error)
    return "; ".join(
        f"{'.'.join(map(str, part['loc']))}: {_wrong(part)}" for part in error.errors()
    )


def _wrong(part: ErrorDetails) -> str:
    if part["type"] == "int_parsing":
        return f"{part['input']!r} is not a whole number"
    return part["msg"].removeprefix("Value error, ")
