"""How completions are drawn, made of which prompts, and what they earn."""

from typing import Literal

from pydantic import Field

from r1kit.config.settings import Settings
from r1kit.types import SamplingSpec


class TemplateSettings(Settings):
    """How a question becomes a prompt."""

    kind: Literal["nano", "r1_zero", "chat"] = "nano"
    """`nano`: a short one; `r1_zero`: the paper's, word for word (table 1); `chat`: the tokenizer's own."""


class SamplingSettings(Settings):
    """How completions are drawn. A model's own generation_config is never merged in."""

    max_new_tokens: int = Field(default=128, ge=1)
    """A completion is cut after so many tokens (R1-Zero: 32,768, later 65,536)."""
    temperature: float = Field(default=1.0, ge=0)
    """0 is greedy. Training needs 1 or near it (R1-Zero: 1)."""
    top_p: float = Field(default=1.0, gt=0, le=1)
    """Draw from the smallest set of tokens with this much probability."""
    top_k: int = Field(default=0, ge=0)
    """Draw from the k likeliest tokens; 0: from all."""
    stop: tuple[str, ...] = ()
    """Strings that end a completion; they stay in it."""
    stop_token_ids: tuple[int, ...] = ()
    """Tokens that end a completion, besides the tokenizer's end-of-sequence token."""

    def spec(self) -> SamplingSpec:
        """The immutable spec that the sampler and the trainer share."""
        return SamplingSpec(
            max_new_tokens=self.max_new_tokens,
            temperature=self.temperature,
            top_p=self.top_p,
            top_k=self.top_k,
            stop=self.stop,
            stop_token_ids=self.stop_token_ids,
        )


class RewardSettings(Settings):
    """Weights of the reward parts. Weight 0: the part is measured and logged, and moves nothing."""

    accuracy: float = 1.0
    """1 where the answer is right (arXiv:2501.12948, section 2.2.2)."""
    format: float = 0.0
    """1 where the completion is `<think>…</think><answer>…</answer>` and the answer can be read.
    Without that gate a weak base learns the format through short direct guesses, and nothing else."""
    random: float = 0.0
    """A coin toss that ignores the completion: the control that must not learn."""


class RolloutSettings(Settings):
    """The size of one iteration, and how it is cut into optimizer steps."""

    num_iterations: int = Field(default=30, ge=1)
    problems_per_iteration: int = Field(default=16, ge=1)
    """P. R1-Zero: 512 a rollout phase, 32 a step."""
    group_size: int = Field(default=16, ge=2)
    """G: completions a problem; each is judged against its siblings, so one alone would teach nothing (R1-Zero: 16)."""
    steps_per_iteration: int = Field(default=1, ge=1)
    """Optimizer steps that one iteration's rollouts are split over (R1-Zero: 16)."""
    old_logprobs: Literal["policy", "sampler"] = "policy"
    """With several steps an iteration: computed once by the policy, or the sampler's own taken."""
