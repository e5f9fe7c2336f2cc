"""The recipes of single stages: what each `kind` of recipe file may say."""

from pathlib import Path
from typing import Literal

from pydantic import Field, model_validator

from r1kit.config.curriculum import CurriculumConfig, EvenCurriculum
from r1kit.config.model import ArchitectureSettings, ModelSettings
from r1kit.config.objective import (
    AdvantageConfig,
    CorrectionConfig,
    GroupNormAdvantage,
    GRPOObjective,
    NoCorrection,
    ObjectiveConfig,
    OptimizerSettings,
    SequenceMeanWeights,
    TokenWeightsConfig,
)
from r1kit.config.peft import PeftSettings
from r1kit.config.preference import PreferenceSettings
from r1kit.config.rollouts import RewardSettings, RolloutSettings, StagedSamplingSettings, TemplateSettings
from r1kit.config.run import EvaluationSettings, RunSettings
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig


class ZeroRecipe(Settings):
    """R1-Zero: reinforcement learning on a base model, rewarded by rules alone (arXiv:2501.12948, section 2.2)."""

    kind: Literal["zero"]
    seed: int = 0
    """Everything random is derived from it."""
    model: ModelSettings = ModelSettings()
    template: TemplateSettings = TemplateSettings()
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    curriculum: CurriculumConfig = EvenCurriculum()
    sampling: StagedSamplingSettings = StagedSamplingSettings()
    rewards: RewardSettings = RewardSettings()
    rollouts: RolloutSettings = RolloutSettings()
    advantage: AdvantageConfig = GroupNormAdvantage()
    objective: ObjectiveConfig = GRPOObjective()
    correction: CorrectionConfig = NoCorrection()
    token_weights: TokenWeightsConfig = SequenceMeanWeights()
    optimizer: OptimizerSettings = OptimizerSettings()
    peft: PeftSettings | None = None
    """Adapters that train in place of the network's weights; unset: everything trains."""
    evaluation: EvaluationSettings = EvaluationSettings()
    preference: PreferenceSettings | None = None
    """General prompts and reward models, for RL in all scenarios; unset: rules alone."""
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "ZeroRecipe":
        rollouts = self.rollouts
        total = rollouts.problems_per_iteration * rollouts.group_size
        if rollouts.steps_per_iteration > total:
            raise ValueError(
                f"rollouts.steps_per_iteration is {rollouts.steps_per_iteration}, but an iteration has only {total} "
                "completions to split; lower it or raise problems_per_iteration"
            )
        if self.sampling.temperature == 0:
            raise ValueError(
                "sampling.temperature is 0: all completions of a group would be the same; training needs about 1"
            )
        return self

    @model_validator(mode="after")
    def _no_setting_is_idle(self) -> "ZeroRecipe":
        rollouts = self.rollouts
        refuse_muon_with_adapters(self.peft, self.optimizer)
        if self.objective.kind == "reinforce" and rollouts.steps_per_iteration > 1:
            raise ValueError(
                f"objective.kind is 'reinforce', which has no ratio, but rollouts.steps_per_iteration is "
                f"{rollouts.steps_per_iteration}: every step after the first would be off-policy; use 'cispo' or 'grpo'"
            )
        if rollouts.variance_of == "verdict" and not rollouts.is_dynamic:
            raise ValueError(
                "rollouts.variance_of is 'verdict', but nothing is dropped: dynamic sampling is off; "
                "set rollouts.max_rounds above 1"
            )
        if rollouts.variance_of == "verdict" and self.preference is not None:
            raise ValueError(
                "rollouts.variance_of is 'verdict', by which every group of general prompts would be dropped: reward "
                "models give no verdicts; set variance_of = 'reward'"
            )
        is_ppo = isinstance(self.objective, GRPOObjective) and self.objective.ratio == "token"
        if self.advantage.kind == "gae" and not (is_ppo and self.objective.off_policy_delta is None):
            raise ValueError(
                "advantage.kind is 'gae', which gives every token its own advantage: it goes with objective.kind = "
                "'grpo', ratio = 'token' and no off_policy_delta, which together are PPO's clipped surrogate"
            )
        shortest = min([self.sampling.max_new_tokens, *(stage.max_new_tokens for stage in self.sampling.stages)])
        if self.rewards.overlong_cache_tokens >= shortest:
            raise ValueError(
                f"rewards.overlong_cache_tokens is {self.rewards.overlong_cache_tokens}, but completions have at most "
                f"{shortest} tokens; it must be less"
            )
        return self

    @property
    def training_tasks(self) -> tuple[TaskConfig, ...]:
        """All tasks that problems are drawn from, general ones last."""
        return (*self.tasks, *(self.preference.tasks if self.preference else ()))

    def num_open_tasks(self, steps_done: int) -> int:
        """How many of them problems are drawn from after so many optimizer steps."""
        is_open = self.preference is not None and steps_done >= self.preference.from_step
        return len(self.training_tasks if is_open else self.tasks)


def refuse_muon_with_adapters(peft: PeftSettings | None, optimizer: OptimizerSettings) -> None:
    """Raise ValueError: Muon makes the update of a whole matrix orthogonal, not that of its factors."""
    if peft is not None and optimizer.kind == "muon":
        raise ValueError(
            "optimizer.kind is 'muon', which is for whole matrices, not for adapters; use 'adamw' with [peft]"
        )


class PretrainSettings(Settings):
    """How much a new base model reads."""

    num_steps: int = Field(default=1500, ge=1)
    rows_per_step: int = Field(default=64, ge=1)
    row_tokens: int = Field(default=128, ge=16)
    """Documents are laid end to end in rows of so many tokens; each row starts with a new one."""
    tokenizer_documents: int = Field(default=20000, ge=100)
    """Documents that the tokenizer is made from."""
    checkpoint_interval_steps: int = Field(default=250, ge=1)
    compute_dtype: Literal["float32", "bfloat16"] = "bfloat16"
    """Precision of the matrix products; the weights are kept in float32."""


class PretrainRecipe(Settings):
    """A new base model of the nano world, tokenizer included, from a generated corpus."""

    kind: Literal["pretrain"]
    seed: int = 0
    architecture: ArchitectureSettings = ArchitectureSettings()
    pretrain: PretrainSettings = PretrainSettings()
    optimizer: OptimizerSettings = OptimizerSettings()
    run: RunSettings = RunSettings()


class SFTSettings(Settings):
    """Supervised fine-tuning on (prompt, completion) examples."""

    num_epochs: int = Field(default=2, ge=1)
    """R1's SFT takes 2 (supplement B.4.2)."""
    examples_per_step: int = Field(default=64, ge=1)
    """R1: 64."""
    limit: int = Field(default=0, ge=0)
    """The first so many rows of the data; 0: all."""
    max_tokens: int = Field(default=0, ge=0)
    """Examples with more tokens, prompt included, are bad rows; 0: as many as the model has positions (R1: 32,768)."""
    bad_rows: Literal["refuse", "skip"] = "refuse"
    """What to do about rows that can't be trained on: stop at the first, or pass over them and say so."""
    validation_share: float = Field(default=0.0, ge=0, le=0.5)
    """Of the data's prompts, so many are not trained on but validated on."""
    validation_interval_steps: int = Field(default=0, ge=0)
    """The validation loss is taken every so many steps; 0: after each epoch."""
    patience: int = Field(default=0, ge=0)
    """After so many validations in a row without a new best, training stops, and ends with the best weights; 0: it
    goes on."""


class SFTRecipe(Settings):
    """Supervised fine-tuning of a model on a JSON Lines file of examples."""

    kind: Literal["sft"]
    seed: int = 0
    model: ModelSettings = ModelSettings()
    template: TemplateSettings = TemplateSettings()
    data: Path
    """The examples: one JSON object a line, with `prompt` and `completion`, `messages`, or `question`, `reasoning` and
    `response`."""
    validation_data: Path | None = None
    """Examples to validate on, in a file of their own."""
    sft: SFTSettings = SFTSettings()
    optimizer: OptimizerSettings = OptimizerSettings(schedule="cosine")
    peft: PeftSettings | None = None
    """Adapters that train in place of the network's weights; unset: everything trains."""
    run: RunSettings = RunSettings()

    @model_validator(mode="after")
    def _no_setting_is_idle(self) -> "SFTRecipe":
        refuse_muon_with_adapters(self.peft, self.optimizer)
        sft = self.sft
        validates = self.validation_data is not None or sft.validation_share > 0
        if self.validation_data is not None and sft.validation_share > 0:
            raise ValueError("validation_data and sft.validation_share both say what to validate on; unset one")
        if not validates and (sft.patience or sft.validation_interval_steps):
            idle = "patience" if sft.patience else "validation_interval_steps"
            raise ValueError(
                f"sft.{idle} is set, but there is nothing to validate on: set sft.validation_share or validation_data"
            )
        return self
