"""What all answers have in common."""

from typing import Any

from pydantic import BaseModel, ConfigDict

from controller.db.models import Network, Node


class Answer(BaseModel):
    """From anything that has the fields as attributes."""

    model_config = ConfigDict(from_attributes=True)


def columns(answer: type[Answer], row: Node | Network) -> dict[str, Any]:
    """What an answer has from the row itself."""
    return {
        name: getattr(row, name) for name in answer.model_fields if name in row.__table__.columns
    }
