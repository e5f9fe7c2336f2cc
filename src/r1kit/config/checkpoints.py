"""On what, and how, the checkpoints of a pipeline are measured: the same problems and settings for all."""

from pydantic import Field

from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import SamplingSettings, TemplateSettings
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig


class DecodingSettings(SamplingSettings):
    """How completions are drawn to be measured: temperature 0.6 and top-p 0.95, as in the paper (V2 D.1)."""

    temperature: float = Field(default=0.6, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Draw from the smallest set of tokens with this much probability."""


class CheckpointEvaluation(Settings):
    """The stage table: every checkpoint on the same held-out problems."""

    tasks: tuple[TaskConfig, ...] = ()
    """Reasoning problems; unset: those that the recipe trains on, of their held-out split."""
    harder: tuple[TaskConfig, ...] = ()
    """Reasoning problems of a difficulty that is not trained."""
    general: tuple[TaskConfig, ...] = ()
    """General and safety prompts: judged by rule where the task brings a rule."""
    num_problems: int = Field(default=256, ge=1)
    """Reasoning problems of each set."""
    num_general: int = Field(default=128, ge=1)
    """General prompts."""
    samples_per_problem: int = Field(default=4, ge=1)
    """k: completions a problem; pass@1 is their mean (the paper: 4 to 64)."""
    sampling: DecodingSettings = DecodingSettings()
    max_sequences: int = Field(default=256, ge=1)
    """Completions that the embedded engine decodes at once."""


class Checkpoint(Settings):
    """A model that the stage table compares with others."""

    name: str
    model: ModelSettings
    template: TemplateSettings
    """The one that it was trained with."""
