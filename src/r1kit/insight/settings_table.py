"""A recipe as a table: what was set, what the default is, what it means; and in what several recipes differ."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from r1kit.config.settings import Settings
from r1kit.errors import RecipeError
from r1kit.recipe import parse_recipe

ABSENT = "—"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One value of a recipe."""

    path: str
    value: str
    default: str
    """Empty where there is none: it must be given, or the recipe is of another version."""
    meaning: str

    @property
    def deviates(self) -> bool:
        """True where it is not the default."""
        return self.value != self.default


def settings_of(recipe: Mapping[str, Any]) -> list[Setting]:
    """Every setting of a resolved recipe; without defaults where this version cannot read it."""
    try:
        parsed = parse_recipe(dict(recipe), source="recipe.json")
    except RecipeError:
        flat = flattened(recipe)
        return [Setting(path=path, value=value, default="", meaning="") for path, value in flat.items()]
    return list(_walk(parsed, None, ""))


def _walk(settings: BaseModel, defaults: BaseModel | None, path: str) -> Iterator[Setting]:
    """The settings below one section; `defaults` is the section as it stands in the recipe's class."""
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        default = field.get_default(call_default_factory=True) if defaults is None else getattr(defaults, name, None)
        here = f"{path}.{field.serialization_alias or name}".strip(".")
        if isinstance(value, Settings):
            yield from _walk(value, default if type(default) is type(value) else None, here)
        elif isinstance(value, tuple) and any(isinstance(inner, Settings) for inner in value):
            for number, inner in enumerate(value):
                yield from _walk(inner, None, f"{here}.{number}")
        elif isinstance(value, Mapping) and value:
            usual = flattened(default, here) if isinstance(default, Mapping) else {}
            for inner, text in flattened(value, here).items():
                yield Setting(path=inner, value=text, default=usual.get(inner, ABSENT), meaning=_meaning(field))
        else:
            known = default is not PydanticUndefined
            default = value if name == "kind" and not known else default
            yield Setting(
                path=here,
                value=shown(value),
                default=shown(default) if known or name == "kind" else "",
                meaning=_meaning(field),
            )


def _meaning(field: FieldInfo) -> str:
    return " ".join((field.description or "").split())


def flattened(tree: object, path: str = "") -> dict[str, str]:
    """Dotted paths to the leaves of plain values, each as text."""
    if isinstance(tree, Mapping) and tree:
        parts = [flattened(value, f"{path}.{key}".strip(".")) for key, value in tree.items()]
    elif isinstance(tree, list) and any(isinstance(value, Mapping) for value in tree):
        parts = [flattened(value, f"{path}.{number}") for number, value in enumerate(tree)]
    else:
        return {path: shown(tree)}
    return {key: value for part in parts for key, value in part.items()}


def differences(recipes: Sequence[Mapping[str, Any]]) -> list[tuple[str, list[str]]]:
    """(path, value in each recipe) wherever they differ, in the order in which the paths first appear."""
    flat = [flattened(recipe) for recipe in recipes]
    paths = dict.fromkeys(path for values in flat for path in values)
    rows = [(path, [values.get(path, ABSENT) for values in flat]) for path in paths]
    return [(path, values) for path, values in rows if len(set(values)) > 1]


def shown(value: object) -> str:
    """A value as a recipe would say it."""
    if value is None:
        return "unset"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(shown, value)) or "none"
    if isinstance(value, str | Path):
        return str(value)
    return json.dumps(value, default=str, ensure_ascii=False)
