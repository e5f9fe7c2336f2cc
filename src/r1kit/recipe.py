"""One TOML file describes a run: read, checked, resolved, written beside the results.

recipe = load_recipe(Path("recipes/nano/zero.toml"), ["objective.kl_coef=0.001"])
"""

import difflib
import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field, TypeAdapter, ValidationError

from r1kit.config.claims import ClaimsRecipe
from r1kit.config.distill import DistillRecipe
from r1kit.config.general_data import GeneralDataRecipe
from r1kit.config.preferences import PreferencesRecipe
from r1kit.config.r1 import R1Recipe
from r1kit.config.recipes import PretrainRecipe, SFTRecipe, ZeroRecipe
from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.config.sections import overlaid
from r1kit.errors import RecipeError

StageRecipe = ZeroRecipe | SFTRecipe | RejectionRecipe | RewardModelRecipe | GeneralDataRecipe
"""What a stage of a pipeline is."""
Recipe = StageRecipe | PretrainRecipe | PreferencesRecipe | R1Recipe | DistillRecipe | ClaimsRecipe
_ADAPTER: TypeAdapter[Recipe] = TypeAdapter(Annotated[Recipe, Field(discriminator="kind")])


def load_recipe(path: Path, overrides: Sequence[str] = (), *, data: Path | None = None) -> Recipe:
    """The recipe in a TOML file, with `section.key=value` overrides applied, checked.

    `data` takes the place of the one JSON Lines file that the recipe trains on. Raises RecipeError with one line that
    names the file, the key, what was expected and the nearest known key.
    """
    table = _read(path)
    if table.get("kind") == "claims":
        _inherit_pipeline(table, path)
    for override in overrides:
        _apply(table, override)
    if data is not None:
        _set_data(table, str(data), source=str(path))
    return parse_recipe(table, source=str(path))


def _read(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise RecipeError(f"{path}: no such recipe") from None
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: cannot be read: {error}") from None
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{path}: not valid TOML: {error}") from None


def _inherit_pipeline(table: dict[str, object], path: Path) -> None:
    """Lay the recipe that `pipeline.recipe` names under the section `pipeline`."""
    section = table.get("pipeline")
    if not isinstance(section, dict) or "recipe" not in section:
        return
    name = section["recipe"]
    if not isinstance(name, str):
        raise RecipeError(f"{path}: pipeline.recipe: the path of a recipe of kind 'r1' is expected (it is {name!r})")
    inherited = _read(path.parent / name)
    if inherited.get("kind") != "r1":
        raise RecipeError(f"{path}: pipeline.recipe: {name} is of kind {inherited.get('kind')!r}; expected 'r1'")
    own = {key: value for key, value in section.items() if key != "recipe"}
    table["pipeline"] = overlaid(inherited, own)


def parse_recipe(table: dict[str, object], *, source: str) -> Recipe:
    """The recipe that a table of plain values describes; `source` names it in errors."""
    try:
        return _ADAPTER.validate_python(table)
    except ValidationError as error:
        raise RecipeError(f"{source}: {_first_problem(error)}") from None


def dump_recipe(recipe: Recipe) -> dict[str, object]:
    """The resolved recipe as plain values, every default filled in."""
    return json.loads(recipe.model_dump_json())


def _apply(table: dict[str, object], override: str) -> None:
    """Write one `section.key=value` into the table; the value is read as TOML, or as a string if it is none."""
    path, separator, text = override.partition("=")
    if not separator or not path.strip():
        raise RecipeError(f"override {override!r} is not of the form section.key=value")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text
    *sections, key = path.strip().split(".")
    place: object = table
    for section in sections:
        if isinstance(place, list):
            place = _element(place, section, override)
        elif isinstance(place, dict):
            place = place.setdefault(section, {})
    if isinstance(place, list):
        raise RecipeError(
            f"override {override!r}: {'.'.join(sections)} is a list; name an element by its number, and a key of it"
        )
    if not isinstance(place, dict):
        raise RecipeError(f"override {override!r}: {'.'.join(sections)} is not a section")
    place[key] = value


def _set_data(table: dict[str, object], data: str, *, source: str) -> None:
    """Write the path of the data into the one place of the recipe that has one."""
    if table.get("kind") in ("sft", "reward_model"):
        table["data"] = data
        return
    tasks = table.get("tasks")
    listed = tasks if isinstance(tasks, list) else []
    files = [task for task in listed if isinstance(task, dict) and task.get("kind") == "jsonl"]
    if len(files) != 1:
        raise RecipeError(
            f"{source}: --data is for a recipe with one task of kind 'jsonl', and this one has {len(files)}; "
            "name it by its number, tasks.0.path=FILE"
        )
    files[0]["path"] = data


def _element(place: list[object], section: str, override: str) -> object:
    if not section.isdigit() or int(section) >= len(place):
        raise RecipeError(f"override {override!r}: {section!r} is no element of a list of {len(place)}")
    return place[int(section)]


def _first_problem(error: ValidationError) -> str:
    """One line on the first thing that is wrong."""
    details = error.errors()[0]
    names, known = _place(tuple(str(part) for part in details["loc"]))
    path = ".".join(names)
    if details["type"] == "extra_forbidden":
        return f"unknown key {path!r}{_nearest(names[-1], known)}"
    if details["type"] == "union_tag_invalid":
        tag, expected = details["ctx"]["tag"], details["ctx"]["expected_tags"].replace("'", "").split(", ")
        return f"{path + '.' if path else ''}kind is {tag!r}; known: {', '.join(expected)}{_close(tag, expected)}"
    if details["type"] == "union_tag_not_found":
        return f"{path + ': ' if path else ''}`kind` is missing"
    message = details["msg"].removeprefix("Value error, ")
    value = details.get("input")
    shown = f" (it is {value!r})" if isinstance(value, str | int | float | bool) else ""
    return f"{path + ': ' if path else ''}{message[0].lower() + message[1:]}{shown}"


def _place(location: tuple[str, ...]) -> tuple[list[str], list[str]]:
    """A location without the `kind`s that pydantic puts into it, and the keys that are known beside its last part."""
    schema = _ADAPTER.json_schema()
    definitions: dict = schema["$defs"]
    here: dict = schema
    names, known = [], []
    for part in location:
        is_choice = "discriminator" in here
        if not is_choice:
            names.append(part)
            known = list(here.get("properties", {}))
        here = _descend(here, part, definitions)
    return names, known


def _nearest(word: str, known: Sequence[str]) -> str:
    return _close(word, known) or (f"; known: {', '.join(sorted(known))}" if known else "")


def _close(word: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else ""


def _descend(here: dict, part: str, definitions: dict) -> dict:
    """The schema one step down: an item of a list, the member of a union named by its kind, or a property."""
    if part.isdigit():
        inner = here.get("items", {})
    elif "discriminator" in here:
        inner = {"$ref": here["discriminator"]["mapping"].get(part, "")}
    else:
        inner = here.get("properties", {}).get(part, {})
    if "anyOf" in inner:  # a section that may be left out
        inner = next((choice for choice in inner["anyOf"] if choice.get("type") != "null"), {})
    if "allOf" in inner:
        inner = inner["allOf"][0]
    return definitions.get(inner["$ref"].rsplit("/", 1)[-1], {}) if "$ref" in inner else inner
