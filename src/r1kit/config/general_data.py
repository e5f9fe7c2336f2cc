"""General examples and preferences of the nano world, made instead of collected."""

from typing import Literal

from pydantic import Field

from r1kit.config.settings import Settings
from r1kit.config.tasks import GeneralTask


class GeneralRunSettings(Settings):
    """Resources: it needs none worth a setting but these."""

    num_threads: int = Field(default=0, ge=0)
    """Processor threads; 0: as many as there are cores."""


class GeneralDataRecipe(Settings):
    """What people wrote for the paper's third and fourth stage, of the generated general world: three files."""

    kind: Literal["general_data"]
    seed: int = 0
    task: GeneralTask = GeneralTask()
    """Which prompts the examples answer."""
    num_examples: int = Field(default=1000, ge=1)
    """Good answers, for fine-tuning: `examples.jsonl`. The paper: 200,000, a quarter of its data (V2 table 5)."""
    num_pairs: int = Field(default=2000, ge=8)
    """Preferences over answers to harmless prompts: `pairs.jsonl` (the paper: 66,000)."""
    num_safety: int = Field(default=1000, ge=8)
    """Answers marked as safe or not: `safety.jsonl` (the paper: 106,000)."""
    length_balanced: bool = False
    """Chosen replies are as long as rejected ones, on the whole, as in the paper. Otherwise people like long ones."""
    run: GeneralRunSettings = GeneralRunSettings()
