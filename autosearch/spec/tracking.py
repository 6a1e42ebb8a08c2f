"""The section of a spec that says where trials are shown elsewhere."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from autosearch.spec.section import PathText, Section


class TrackingSpec(Section):
    """Where trials are shown beside this program's own pages.

    ``mlflow`` is the address of a server or a database, ``wandb`` a project or
    ``entity/project``, ``tensorboard`` a folder. Passwords come from the trackers' own variables.
    """

    mlflow: Annotated[str, Field(pattern=r"^(\w[\w+.-]*://.+|databricks(:.*)?)$")] | None = None
    wandb: Annotated[str, Field(pattern=r"^[\w.-]+(/[\w.-]+)?$")] | None = None
    tensorboard: PathText | None = None

    @field_validator("mlflow")
    @classmethod
    def _no_password(cls, value: str | None) -> str | None:
        """Refuse what would stand in files for everybody to read."""
        if value is not None and re.search(r"//[^/@]*:[^@]*@|[?&]password=", value):
            raise PydanticCustomError(
                "password",
                "Input should be an address without password; "
                "MLFLOW_TRACKING_PASSWORD, or PGPASSWORD of a database, holds it",
            )
        return value
