"""Settings of a verifier with what a problem changes in them."""

from typing import TypeVar

from pydantic import ValidationError

from r1kit.config.settings import Settings
from r1kit.errors import VerifierError
from r1kit.types import Problem

SettingsT = TypeVar("SettingsT", bound=Settings)


def options_for(problem: Problem, settings: SettingsT) -> SettingsT:
    """The settings with `problem.meta["verifier_options"]` in place; raises VerifierError for what they don't know."""
    changed = problem.meta.get("verifier_options")
    if not changed:
        return settings
    try:
        return type(settings).model_validate({**settings.model_dump(), **changed})
    except (ValidationError, TypeError) as error:
        first = error.errors()[0] if isinstance(error, ValidationError) else {"loc": ("",), "msg": str(error)}
        place = ".".join(map(str, first["loc"]))
        raise VerifierError(f"{problem.id}: verifier_options {place}: {first['msg']}") from None
