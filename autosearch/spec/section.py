"""What all sections of a spec have in common."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

PathText = Annotated[str, Field(min_length=1, pattern=r"^[^\x00]+$")]
"""As it was written; `autosearch.files.user_path` makes a path of it."""


class Section(BaseModel):
    """One mapping of a spec: every key is known, and nothing changes after validation.

    Text is no number and true is not 1, as in YAML.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
