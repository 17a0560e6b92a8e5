"""Parameters that several routes take."""

from typing import Annotated

from fastapi import Path, Query

NodeName = Annotated[str, Path(max_length=255, description="id, unique id prefix or hostname")]
NodeFilter = Annotated[
    str | None, Query(max_length=255, description="id, unique id prefix or hostname")
]
Limit = Annotated[int, Query(ge=1, le=1000, description="how many rows at most")]
