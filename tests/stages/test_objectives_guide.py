"""docs/objectives.md: every block of settings in it is a recipe's, and every kind has its place there."""

import re
import tomllib
from pathlib import Path
from typing import get_args

import pytest

from r1kit.config.objective import AdvantageConfig, CorrectionConfig, ObjectiveConfig, TokenWeightsConfig
from r1kit.recipe import parse_recipe
from r1kit.stages.objective import ADVANTAGES, KL_ESTIMATORS, RATIOS, SURROGATES, WEIGHINGS

GUIDE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text("utf-8")
BLOCKS = re.findall(r"```toml\n(.*?)```", GUIDE, re.DOTALL)


def kinds_of(union):
    return {member.model_fields["kind"].default for member in get_args(get_args(union)[0])}


@pytest.mark.parametrize("block", BLOCKS, ids=range(len(BLOCKS)))
def test_every_block_of_the_guide_is_part_of_a_recipe(block):
    parse_recipe({"kind": "zero", "tasks": [{"kind": "countdown"}]} | tomllib.loads(block), source="guide")


def test_every_kind_of_a_recipe_has_a_function():
    assert kinds_of(ObjectiveConfig) == set(SURROGATES)
    assert kinds_of(AdvantageConfig) == {*ADVANTAGES, "gae"}  # which a value model makes: stages/ppo.py
    assert kinds_of(TokenWeightsConfig) == set(WEIGHINGS)


def test_the_guide_names_every_choice_and_every_method():
    named = set(re.findall(r"`(\w+)`", GUIDE)) | set(re.findall(r'"(\w+)"', GUIDE))
    choices = {*SURROGATES, *ADVANTAGES, "gae", *KL_ESTIMATORS, *RATIOS, *WEIGHINGS, *kinds_of(CorrectionConfig)}
    assert choices <= named
    assert len(BLOCKS) >= 15
