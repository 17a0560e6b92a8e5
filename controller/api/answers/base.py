"""The base of all answers, and the answer of every list."""

from typing import Any, Generic, Self, TypeVar

from pydantic import BaseModel, ConfigDict

from controller.db.types import Base

Item = TypeVar("Item")


class Answer(BaseModel):
    """An answer, built from any object with the fields as attributes."""

    model_config = ConfigDict(from_attributes=True, use_attribute_docstrings=True)

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
