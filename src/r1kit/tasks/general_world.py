"""The words of the general world: what is asked in each language, what may be answered, and what is rude or unsafe.

They stand in `assets/general_world.json`, in the style of the general texts that the nano base has read.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import resources
from typing import Any

from r1kit.types import Problem

World = Mapping[str, Any]
"""The texts of one language, by the names of `general_world.json`."""


@lru_cache(maxsize=1)
def _worlds() -> Mapping[str, World]:
    return json.loads(resources.files("r1kit.assets").joinpath("general_world.json").read_text("utf-8"))


def world_of(language: str) -> World:
    """The texts of a language, `en` or `zh`."""
    return _worlds()["zh" if language == "zh" else "en"]


def joined(sentences: list[str], language: str) -> str:
    """Sentences as one text: Chinese has no spaces between them."""
    *before, last = sentences
    ended = [
        sentence if sentence[-1:] in ".!?。" else sentence + ("。" if language == "zh" else ".") for sentence in before
    ]
    return ("" if language == "zh" else " ").join([*ended, last])


def courtesies_for(problem: Problem) -> list[str]:
    """Polite sentences that may follow a good answer to this problem."""
    world, subject = world_of(problem.language), problem.meta["subject"]
    if subject == "harmful":
        return list(world["after_refusal"])
    asides = world["aside"].get(problem.meta.get("topic"), [])
    return [*asides, *world["greetings_after"]] if subject == "greeting" else list(world["courtesies"])
