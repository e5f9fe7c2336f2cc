"""Recipes as tables: what was set, the default, and in what several differ."""

import json
from pathlib import Path

from r1kit.insight.settings_table import differences, flattened, settings_of, shown
from r1kit.recipe import dump_recipe, load_recipe, parse_recipe

RECIPES = Path(__file__).parents[2] / "recipes"


def by_path(recipe):
    return {setting.path: setting for setting in settings_of(recipe)}


def test_deviations_from_the_defaults_are_told_from_the_rest():
    table = {"kind": "zero", "tasks": [{"kind": "sums", "digits": 3}], "optimizer": {"lr": 1e-5}}
    settings = by_path(dump_recipe(parse_recipe(table, source="test")))
    assert {path for path, setting in settings.items() if setting.deviates} == {"tasks.0.digits", "optimizer.lr"}
    assert (settings["optimizer.lr"].value, settings["optimizer.lr"].default) == ("1e-05", "0.0003")
    assert settings["optimizer.lr"].meaning == "Peak learning rate."


def test_the_defaults_are_those_of_the_kind_of_recipe():
    sft = by_path(dump_recipe(parse_recipe({"kind": "sft", "data": "x.jsonl"}, source="test")))
    assert not sft["optimizer.schedule"].deviates and sft["optimizer.schedule"].default == "cosine"
    assert sft["data"].value == "x.jsonl" and sft["data"].default == ""


def test_every_setting_of_every_recipe_is_shown_once():
    for path in sorted(RECIPES.rglob("*.toml")):
        recipe = dump_recipe(load_recipe(path, ["data=x.jsonl"] if 'kind = "sft"' in path.read_text() else []))
        paths = [setting.path for setting in settings_of(recipe)]
        assert len(paths) == len(set(paths)), path
        assert set(flattened(recipe)) == set(paths), path


def test_a_recipe_of_another_version_is_shown_without_defaults():
    settings = by_path({"kind": "zero", "new_section": {"knob": 3}, "list": [1, 2]})
    assert (settings["new_section.knob"].value, settings["new_section.knob"].default) == ("3", "")
    assert settings["list"].value == "1, 2"


def test_only_what_differs_between_recipes_is_told():
    left = {"a": {"b": 1, "c": 2}, "tasks": [{"kind": "x"}]}
    right = {"a": {"b": 1, "c": 3}, "tasks": [{"kind": "x"}, {"kind": "y"}]}
    assert differences([left, right]) == [("a.c", ["2", "3"]), ("tasks.1.kind", ["—", "y"])]
    assert differences([left, json.loads(json.dumps(left))]) == []


def test_values_are_shown_as_a_recipe_says_them():
    assert [shown(value) for value in (True, None, 0.1, [], ["en", "zh"], Path("a/b"))] == [
        "true",
        "unset",
        "0.1",
        "none",
        "en, zh",
        "a/b",
    ]
