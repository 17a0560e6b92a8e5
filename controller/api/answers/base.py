"""The base of all answers, and the answer of every list."""

import ast
import inspect
import sys
from collections.abc import Mapping
from functools import cache
from itertools import pairwise
from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from controller.db.types import Base

Item = TypeVar("Item")


def _describe(schema: dict[str, Any], model: type[BaseModel]) -> None:
    """Add the docstrings of a model's fields to its schema.

    pydantic's `use_attribute_docstrings` does so when a model is defined, which took a seventh of a
    controller's start; few ask for the specification.
    """
    properties = schema.get("properties", {})
    for kind in model.__mro__:
        for name, text in _docstrings(kind.__module__).get(kind.__qualname__, {}).items():
            if name in properties:
                properties[name].setdefault("description", text)


@cache
def _docstrings(module: str) -> Mapping[str, Mapping[str, str]]:
    """Return the docstrings of attributes in a module, by class and attribute."""
    if not module.startswith(__package__):
        return {}
    try:
        tree = ast.parse(inspect.getsource(sys.modules[module]))
    except OSError:  # Installed without its source.
        return {}
    return {
        node.name: {
            field.target.id: inspect.cleandoc(text.value.value)
            for field, text in pairwise(node.body)
            if isinstance(field, ast.AnnAssign)
            and isinstance(field.target, ast.Name)
            and isinstance(text, ast.Expr)
            and isinstance(text.value, ast.Constant)
            and isinstance(text.value.value, str)
        }
        for node in tree.body
        if isinstance(node, ast.ClassDef)
    }


class Answer(BaseModel):
    """An answer, built from any object with the fields as attributes."""

    model_config = ConfigDict(from_attributes=True, json_schema_extra=_describe)

    @classmethod
    def from_row(cls, row: Base, **others: Any) -> Self:
        """Build an answer from a row's columns and from other fields."""
        columns = {
            name: getattr(row, name) for name in cls.model_fields if name in row.__table__.columns
        }
        return cls(**columns | others)


class ListAnswer(Answer, Generic[Item]):
    """A page of a list."""

    @classmethod
    def model_parametrized_name(cls, params: tuple[Any, ...]) -> str:
        """Return the name of a list's schema: `NodeAnswer` gives `NodeList`."""
        return f"{params[0].__name__.removesuffix('Answer')}List"

    items: list[Item]
    next: str | None
    """The `cursor` of the next page; None: this is the last one."""
