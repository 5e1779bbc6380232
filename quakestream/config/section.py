"""What the sections of a run file have in common."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section: frozen, strict, and without keys that nobody knows."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        strict=True,
        # The run file may hold a secret, which no error may show.
        hide_input_in_errors=True,
    )
