"""Preference pairs: two completions of one prompt, and which of them a judge likes better."""

from typing import Literal

from pydantic import Field

from r1kit.config.endpoint import EndpointSettings
from r1kit.config.model import ModelSettings
from r1kit.config.rejection import DrawRunSettings, PlainRoute, RejectionRecipe
from r1kit.config.rollouts import SamplingSettings, TemplateSettings
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig


class PreferencesRecipe(Settings):
    """Pairs for a helpfulness model, judged by a model behind an address (arXiv:2501.12948v2, 3.1 and B.2)."""

    kind: Literal["preferences"]
    seed: int = 0
    """Everything random is derived from it."""
    num_problems: int = Field(default=1024, ge=1)
    """Prompts that are drawn from the tasks, each once (the paper: 66,000 pairs)."""
    model: ModelSettings = ModelSettings()
    """What both completions of a pair are drawn from."""
    template: TemplateSettings = TemplateSettings()
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    sampling: SamplingSettings = SamplingSettings()
    pairs_per_problem: int = Field(default=1, ge=1)
    judge: EndpointSettings
    calls: int = Field(default=4, ge=2, multiple_of=2)
    """Questions to the judge a pair, half of them in each order; the paper: 4."""
    min_delta: float = Field(default=1.0, ge=0, lt=2)
    """Pairs whose mean verdict is no further from 0 than this are dropped; the paper keeps those above 1."""
    length_balance: bool = True
    """Whether as many of the chosen are longer as are shorter than what they are chosen over."""
    run: DrawRunSettings = DrawRunSettings()

    def drawing(self) -> RejectionRecipe:
        """The same as a recipe that draws the completions."""
        named = {"seed", "num_problems", "model", "template", "tasks", "sampling", "run"}
        route = PlainRoute(samples=2 * self.pairs_per_problem)
        return RejectionRecipe(kind="rejection", routes=(route,), **{name: getattr(self, name) for name in named})
