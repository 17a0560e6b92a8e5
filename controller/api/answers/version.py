"""The answer about versions."""

from pydantic import Field

from controller.api.answers.base import Answer


class WorkersAnswer(Answer):
    """The number of nodes whose worker has a version."""

    version: str | None = Field(description="by its last report; null: it never reported")
    nodes: int


class VersionAnswer(Answer):
    """The versions of the controller, its database, and the workers."""

    version: str = Field(description="of the controller that answers")
    python: str
    database: str = Field(description="sqlite or postgresql")
    schema_current: str | None = Field(description="version of the database's schema")
    schema_newest: str = Field(description="the newest schema that this controller knows")
    workers: list[WorkersAnswer] = Field(description="by version; the most frequent first")
