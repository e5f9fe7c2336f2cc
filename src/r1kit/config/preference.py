"""General prompts in reinforcement learning: which reward models grade them, what that is worth, and from when on."""

from pydantic import Field, model_validator

from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig


class PreferenceSettings(Settings):
    """RL for all scenarios (arXiv:2501.12948v2, section 3.2.2): reward models grade what no rule can.

    A general problem (`verifier = "general"`) earns the part `helpfulness` or `safety`, as its `reward_model` says,
    beside form and language; accuracy is measured on it where a rule knows the truth, and never paid.
    """

    helpfulness: str | None = None
    """The folder, or the run, of the reward model that grades helpfulness."""
    safety: str | None = None
    """The same for safety."""
    weight: float = Field(default=1.0, gt=0)
    """What a part is worth beside the rules; a part is sigmoid(score - the model's mean), between 0 and 1. How the
    paper scales its scores is not published."""
    from_step: int = Field(default=0, ge=0)
    """General prompts are drawn from the iteration on that begins after so many optimizer steps. The paper: in the last
    400 of 1,700, since more of it was reward hacking."""
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    """Where general prompts come from; each weighs beside all other tasks of the recipe."""
    num_test_problems: int = Field(default=64, ge=1)
    """Held-out general prompts of each test, the same at each: they show whether a rising score means anything."""

    @model_validator(mode="after")
    def _has_a_model(self) -> "PreferenceSettings":
        if self.helpfulness is None and self.safety is None:
            raise ValueError("neither helpfulness nor safety names a reward model; name at least one")
        return self

    @property
    def models(self) -> dict[str, str]:
        """The folder of each reward model, by what it grades."""
        named = {"helpfulness": self.helpfulness, "safety": self.safety}
        return {name: path for name, path in named.items() if path is not None}
