"""The recipe of a reward model: what it is trained on, what it sees of a completion, and how it is measured."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from r1kit.config.model import ModelSettings
from r1kit.config.objective import OptimizerSettings
from r1kit.config.rollouts import TemplateSettings
from r1kit.config.run import RunSettings
from r1kit.config.settings import Settings


class RewardModelSettings(Settings):
    """How a reward model is trained. The paper's: batches of 256, one epoch, at most 8,192 tokens."""

    num_epochs: int = Field(default=1, ge=1)
    examples_per_step: int = Field(default=256, ge=1)
    """Pairs, or single completions where the loss is point-wise."""
    max_tokens: int = Field(default=8192, ge=16)
    """Longer examples are left out, and counted. When the model scores, only its positions limit it."""
    held_out: float = Field(default=0.1, gt=0, lt=1)
    """The share of prompts that is held out, by a digest of the prompt: what belongs to one prompt stays together."""
    test_interval_steps: int = Field(default=20, ge=0)
    """Every so many steps it is tested on held-out examples, besides before the first and after the last; 0: only
    those two."""
    balance_lengths: bool | None = None
    """Leave pairs out until the longer reply is the chosen one as often as not, among pairs of like difference in
    length: R1's chosen and rejected replies are of comparable length. Unset: yes for pairs."""


class RewardModelRecipe(Settings):
    """A network with one score for its head, trained on preferences (arXiv:2501.12948v2, section 3.1)."""

    kind: Literal["reward_model"]
    seed: int = 0
    model: ModelSettings = ModelSettings()
    """A language model; its head is replaced by one that scores, of zeros."""
    template: TemplateSettings = TemplateSettings()
    """How the reward model reads a prompt: it keeps this, and reads prompts of every policy by it."""
    data: Path
    """JSON Lines: `prompt`, `chosen`, `rejected` for pairs; `prompt`, `completion`, `safe` (true or false) else."""
    loss: Literal["pairwise", "pointwise"] = "pairwise"
    """`pairwise`: Bradley-Terry, the paper's helpfulness model; `pointwise`: safe or not, its safety model."""
    sees: Literal["summary", "all"] = "summary"
    """`summary`: what follows the thinking, as the paper's helpfulness model; `all`: the thinking too, as its safety
    model."""
    reward_model: RewardModelSettings = RewardModelSettings()
    optimizer: OptimizerSettings = OptimizerSettings(lr=6e-6)
    """The paper's learning rate is 6e-6."""
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _no_setting_is_idle(self) -> "RewardModelRecipe":
        if self.loss == "pointwise" and self.reward_model.balance_lengths:
            raise ValueError("reward_model.balance_lengths is for pairs, but loss is 'pointwise'; unset it")
        return self

    @property
    def balances_lengths(self) -> bool:
        """True where pairs are left out until length says nothing."""
        return self.loss == "pairwise" and self.reward_model.balance_lengths is not False
