"""Training low-rank adapters instead of a network's own weights."""

from typing import Literal

from pydantic import Field, field_validator

from r1kit.config.settings import Settings


class PeftSettings(Settings):
    """LoRA (arXiv:2106.09685): a frozen W becomes W + s B A, s = alpha / rank; A and B alone train.

    There is no dropout: merged weights have no place for it, and in RL the policy that trains must be the one that
    sampled. The defaults are those that did as well as training everything, in RL at any rank, with ten times its
    learning rate (J. Schulman and Thinking Machines Lab, "LoRA Without Regret", 2025).
    """

    rank: int = Field(default=32, ge=1)
    """Columns of B and rows of A."""
    alpha: float = Field(default=32.0, gt=0)
    """The scale s times the rank."""
    target_modules: Literal["all-linear"] | tuple[str, ...] = "all-linear"
    """Names of linear layers, or ends of names (`q_proj`); `all-linear`: all but the head."""
    use_rslora: bool = False
    """s = alpha / sqrt(rank) instead (arXiv:2312.03732), for high ranks."""

    @field_validator("target_modules", mode="before")
    @classmethod
    def _names_are_a_list(cls, value: object) -> object:
        if isinstance(value, str) and value != "all-linear":
            raise ValueError("a list of layers' names is expected, or 'all-linear'")
        return value

    @property
    def scale(self) -> float:
        """s."""
        return self.alpha / (self.rank**0.5 if self.use_rslora else self.rank)
