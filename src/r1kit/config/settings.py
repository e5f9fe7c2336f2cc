"""The root of every settings class: frozen, keyword-only, and a key that it does not know is an error."""

from pydantic import BaseModel, ConfigDict


class Settings(BaseModel):
    """Frozen settings; the docstring under a field is its documentation."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)
