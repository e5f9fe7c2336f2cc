"""The guide to data: each of its examples is a recipe that can be read, and what it says of defaults is so."""

import json
import re
import tomllib
from pathlib import Path

import pytest

from r1kit.config.tasks import FieldNames, HubTask, JsonlTask
from r1kit.recipe import parse_recipe
from r1kit.tasks.rows import USUAL_NAMES

GUIDE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
TOML = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


@pytest.mark.parametrize("block", TOML)
def test_every_example_is_a_recipe(block):
    table = {"kind": "zero", "tasks": [{"kind": "chains"}]} | tomllib.loads(block)
    assert parse_recipe(table, source="guide")


def test_the_example_of_a_row_is_json():
    (row,) = re.findall(r"```json\n(.*?)\n```", GUIDE)
    assert set(json.loads(row)) >= {"id", "question", "answer"}


def test_every_setting_and_usual_name_is_in_the_guide():
    names = {name for part, usual in USUAL_NAMES.items() if part != "content" for name in usual}
    settings = (
        JsonlTask.model_fields.keys() | HubTask.model_fields.keys() | (FieldNames.model_fields.keys() & {"content"})
    )
    assert {
        name for name in names | settings - {"kind"} if not re.search(rf"`[^`]*\b{name}\b|^{name} =", GUIDE, re.M)
    } == (set())
    assert f"held_out = {JsonlTask.model_fields['held_out'].default}" in GUIDE
