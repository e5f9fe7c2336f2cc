"""The recipes in docs/data_making.md are recipes."""

import re
import tomllib
from pathlib import Path

import pytest

from r1kit.recipe import parse_recipe

GUIDE = (Path(__file__).parents[2] / "docs" / "data_making.md").read_text("utf-8")
BLOCKS = [tomllib.loads(block) for block in re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)]
WHOLE = [block for block in BLOCKS if "kind" in block]
PARTS = [block for block in BLOCKS if "kind" not in block]


@pytest.mark.parametrize("table", WHOLE, ids=[table["kind"] for table in WHOLE])
def test_a_whole_recipe_of_the_guide_is_one(table):
    assert parse_recipe(table, source="guide").kind == table["kind"]


@pytest.mark.parametrize("part", PARTS)
def test_a_part_fits_into_the_recipe_before_it(part):
    recipe = parse_recipe(WHOLE[0] | part, source="guide")
    assert recipe.rewriting.kind == recipe.judge.kind == "endpoint"


def test_the_guide_names_every_filter():
    from r1kit.config.rejection import FilterSettings
    from r1kit.stages.filters import filters_of

    table = GUIDE.partition("| filter | drops |")[2]
    assert [f.name for f in filters_of(FilterSettings()) if f"| {f.name} |" not in table] == []
