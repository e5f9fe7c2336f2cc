"""How completions are drawn, made of which prompts, and what they earn."""

import math
from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from r1kit.config.settings import Settings
from r1kit.types import SamplingSpec


class TemplateSettings(Settings):
    """How a question becomes a prompt."""

    kind: Literal["nano", "r1_zero", "chat"] = "nano"
    """`nano`: a short one; `r1_zero`: the paper's, word for word (table 1); `chat`: the tokenizer's own."""
    system: str | None = None
    """What a system message says, where the conversation brings none; `chat` only. Unset: none is given, and the
    template may write its own."""
    instruction: str = ""
    """Stands on a line of its own after each question, such as "Please reason step by step, and put your final answer
    within \\boxed{}."."""
    prefill: str = ""
    """The first words of every answer, such as `<think>`: they stand in the prompt and do not train."""
    bos: bool | None = None
    """Whether prompts begin with the BOS token, once. Unset: as the chat template, or for plain text the tokenizer, has
    it; where the two disagree a run is refused."""
    options: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """What the tokenizer's chat template can be told besides, such as `enable_thinking`; `chat` only."""

    @model_validator(mode="after")
    def _no_setting_is_idle(self) -> "TemplateSettings":
        if self.kind != "chat" and (self.system is not None or self.options):
            idle = "options" if self.options else "system"
            raise ValueError(f"template.{idle} is set, but template.kind is {self.kind!r}; only 'chat' has it")
        return self


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

    @property
    def longest_completion(self) -> int:
        """The largest `max_new_tokens` that a run will ever ask for."""
        return self.max_new_tokens

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


class LengthStage(Settings):
    """A new limit from some step on."""

    from_step: int = Field(ge=1)
    """It holds from the iteration that begins after so many optimizer steps."""
    max_new_tokens: int = Field(ge=1)


class StagedSamplingSettings(SamplingSettings):
    """How training draws completions: the limit on their length may change on the way."""

    stages: tuple[LengthStage, ...] = ()
    """Later limits, in the order of their steps (R1-Zero: 65,536 from step 8,200 on)."""

    @model_validator(mode="after")
    def _stages_are_ordered(self) -> "StagedSamplingSettings":
        steps = [stage.from_step for stage in self.stages]
        if steps != sorted(set(steps)):
            raise ValueError(f"stages begin at steps {steps}; each must begin after the one before")
        return self

    @property
    def longest_completion(self) -> int:
        """The largest limit of all stages."""
        return max(self.max_new_tokens, *(stage.max_new_tokens for stage in self.stages), 1)

    def max_new_tokens_at(self, step: int) -> int:
        """The limit in force after so many optimizer steps."""
        begun = [stage.max_new_tokens for stage in self.stages if stage.from_step <= step]
        return begun[-1] if begun else self.max_new_tokens


class CosineLengthSettings(Settings):
    """What short and long completions earn, right and wrong ones. The values of arXiv:2502.03373."""

    right_short: float = 2.0
    """A right answer of length 0."""
    right_long: float = 1.0
    """A right answer as long as the limit."""
    wrong_short: float = -10.0
    """A wrong answer of length 0: the shorter, the surer it should have been."""
    wrong_long: float = 0.0
    """A wrong answer as long as the limit."""
    cut: float = -10.0
    """A completion that was cut at the limit, whatever it holds."""


class RewardSettings(Settings):
    """Weights of the reward parts. Weight 0: the part is measured and logged, and moves nothing.

    Those without a weight are not even measured, since they take time.
    """

    accuracy: float = 1.0
    """1 where the answer is right (arXiv:2501.12948, section 2.2.2)."""
    format: float = 0.0
    """1 where the completion is `<think>…</think><answer>…</answer>` and the answer can be read.
    Without that gate a weak base learns the format through short direct guesses, and nothing else."""
    think_format: float | None = None
    """1 where the completion is `<think>…</think>` and an answer that can be read, with or without answer tags: the
    form of R1's chat models. Where the prompt ends with `<think>`, the tag counts as written. The block may be empty
    where the verifier is `general`: a greeting needs no thought."""
    random: float = 0.0
    """A coin toss that ignores the completion: the control that must not learn."""
    overlong: float = Field(default=0.0, ge=0)
    """DAPO's soft overlong punishment (arXiv:2503.14476, section 3.4): 0, falling to -1 at `sampling.max_new_tokens`.
    DAPO's 1 stands beside an accuracy of 1 and -1, which is `accuracy = 2` here, up to a constant."""
    overlong_cache_tokens: int = Field(default=0, ge=0)
    """Tokens before the limit at which it starts to fall; 0: a fifth of the limit, as DAPO's 4,096 of 20,480."""
    language: float | None = None
    """The share of the words of the thinking that are of the question's language (arXiv:2501.12948v2, equation 7; R1
    pays it with weight 1). 1 for thinking without words, such as formulas alone; 0 for none at all."""
    language_of: Literal["thinking", "all"] = "thinking"
    """Whose words count: those of the thinking, as in the paper, or also those of the answer: a policy that is paid for
    its thinking alone may come to answer in the other language."""
    language_by: Literal["auto", "script", "identifier"] = "auto"
    """By script, English and French are one language. `identifier` tells them apart, with the extra `[language]`;
    `auto` does so where the extra is installed."""
    target_language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")
    """The ISO 639-1 code of the language to think in. Unset: the question's."""
    repetition: float | None = Field(default=None, ge=0)
    """Takes off the share of tokens in runs that stood before (arXiv:2502.03373, section 4.5)."""
    repetition_ngram: int = Field(default=40, ge=2)
    """Tokens of such a run."""
    cosine_length: float | None = Field(default=None, ge=0)
    """A value that depends on length and on being right (arXiv:2502.03373, section 4.2). It pays for being right
    itself: accuracy = 0 beside it is the paper's."""
    cosine: CosineLengthSettings = CosineLengthSettings()
    """The four values that it goes between, and that of being cut."""
    zero_truncated: bool = False
    """A completion that was cut at the limit earns 0 in total, whatever it holds (Dr. GRPO)."""

    @model_validator(mode="after")
    def _one_price_for_length(self) -> "RewardSettings":
        if self.zero_truncated and self.overlong:
            raise ValueError(
                "zero_truncated pays 0 where overlong takes off up to "
                f"{self.overlong}: being cut would earn more than being nearly cut; choose one"
            )
        return self


class RolloutSettings(Settings):
    """The size of one iteration, and how it is cut into optimizer steps."""

    num_iterations: int = Field(default=30, ge=1)
    equal_compute_to: Path | None = None
    """The folder of a fine-tuning: training ends with the iteration in which the policy has generated and trained on as
    many tokens as that trained on, or after `num_iterations`."""
    problems_per_iteration: int = Field(default=16, ge=1)
    """P. R1-Zero: 512 a rollout phase, 32 a step."""
    group_size: int = Field(default=16, ge=2)
    """G: completions a problem; each is judged against its siblings, so one alone would teach nothing (R1-Zero: 16)."""
    steps_per_iteration: int = Field(default=1, ge=1)
    """Optimizer steps that one iteration's rollouts are split over (R1-Zero: 16)."""
    old_logprobs: Literal["policy", "sampler"] = "policy"
    """With several steps an iteration: computed once by the policy, or the sampler's own taken."""
    max_rounds: int = Field(default=1, ge=1)
    """Dynamic sampling (DAPO, arXiv:2503.14476, section 3.2): more problems are drawn, up to so many times, until
    problems_per_iteration groups have variance; the others are dropped. 1, with oversampling 1: off, every group
    drawn counts, and those without variance lower the step."""
    oversampling: float = Field(default=1.0, ge=1)
    """Problems drawn in the first round over problems_per_iteration (verl's DAPO: 3)."""
    variance_of: Literal["reward", "verdict"] = "reward"
    """What has to differ inside a group for dynamic sampling to keep it; DAPO: the verdict."""
    mask_truncated: bool = False
    """Overlong filtering (DAPO): completions that were cut do not train, and leave every denominator; their rewards
    still count in the mean of their group."""

    @property
    def is_dynamic(self) -> bool:
        """True where groups without variance are dropped and replaced."""
        return self.max_rounds > 1 or self.oversampling > 1

    @property
    def problems_per_round(self) -> int:
        """Problems of the first round, and the most of any."""
        return math.ceil(self.problems_per_iteration * self.oversampling)
