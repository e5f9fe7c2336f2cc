"""Where a recipe departs from the paper: recipes/paper/r1_zero.toml, each setting with the source written behind it."""

import json
import re
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from importlib import resources

from rich.console import Console
from rich.table import Column, Table

from r1kit.errors import RecipeError
from r1kit.recipe import Recipe, ZeroRecipe, dump_recipe, parse_recipe

NOT_PUBLISHED = "not published"
_SECTION = re.compile(r"\[+(?P<name>[\w.]+)\]+")
_SETTING = re.compile(r"(?P<name>\w+) = .*?#\s*(?P<source>.+)")


@dataclass(frozen=True, slots=True)
class Deviation:
    """One setting in which a recipe is not the paper's."""

    setting: str
    here: object
    """Its value in the recipe; None where the recipe's kind of objective has no such setting."""
    paper: object
    source: str
    """Where the paper's value is published."""


def deviations(recipe: Recipe) -> list[Deviation]:
    """Every published setting of R1-Zero that the recipe sets otherwise, in the order of the paper's recipe.

    Raises RecipeError for a recipe that is no reinforcement learning.
    """
    if not isinstance(recipe, ZeroRecipe):
        raise RecipeError(f"--paper compares recipes of kind 'zero' with R1-Zero; this one is {recipe.kind!r}")
    table = tomllib.loads(paper_text())
    here, paper = dump_recipe(recipe), dump_recipe(parse_recipe(table, source="recipes/paper/r1_zero.toml"))
    compared = ((setting, value_at(here, setting), value_at(paper, setting), source) for setting, source in published())
    return [Deviation(*found) for found in compared if found[1] != found[2]]


def published() -> Iterator[tuple[str, str]]:
    """The settings of the paper's recipe whose value is published, each with its source."""
    return ((setting, source) for setting, source in sources().items() if not source.startswith(NOT_PUBLISHED))


def sources() -> dict[str, str]:
    """What stands behind each setting of the paper's recipe, by its dotted path."""
    found: dict[str, str] = {}
    section, seen = "", dict[str, int]()
    for line in paper_text().splitlines():
        if heading := _SECTION.fullmatch(line.strip()):
            name = heading["name"]
            seen[name] = seen.get(name, -1) + 1
            section = f"{name}.{seen[name]}." if line.startswith("[[") else f"{name}."
        elif setting := _SETTING.match(line):
            found[section + setting["name"]] = setting["source"].strip()
    return found


def show_deviations(recipe: Recipe, console: Console) -> None:
    """Print a table of setting, this run, the paper, source; and how many settings it agrees in."""
    found = deviations(recipe)
    num_published = len(list(published()))
    if found:
        setting = Column("setting", no_wrap=True)
        table = Table(
            setting, *(Column(name, overflow="fold") for name in ("this run", "the paper", "source")), box=None
        )
        for one in found:
            table.add_row(one.setting, _shown(one.here), _shown(one.paper), one.source)
        console.print(table)
    console.print(
        f"{len(found)} of {num_published} published settings of R1-Zero are set otherwise; "
        f"{len(sources()) - num_published} more are not published",
        highlight=False,
    )


def _shown(value: object) -> str:
    return "none" if value in (None, [], "") else value if isinstance(value, str) else json.dumps(value)


def paper_text() -> str:
    """The paper's recipe as it is written."""
    return (resources.files("r1kit") / "recipes" / "paper" / "r1_zero.toml").read_text("utf-8")


def value_at(tree: object, path: str) -> object:
    """What stands at a dotted path of plain values; None where there is no such place."""
    for part in path.split("."):
        if isinstance(tree, list) and part.isdigit() and int(part) < len(tree):
            tree = tree[int(part)]
        elif isinstance(tree, Mapping) and part in tree:
            tree = tree[part]
        else:
            return None
    return tree
