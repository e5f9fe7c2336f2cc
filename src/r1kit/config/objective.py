"""What one update optimises: the advantage, the surrogate, the KL term and each token's share."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1kit.config.settings import Settings


class GroupNormAdvantage(Settings):
    """(r - mean) / std over the group (arXiv:2402.03300, section 4.1.2)."""

    kind: Literal["group_norm"] = "group_norm"


class GroupMeanAdvantage(Settings):
    """r - mean over the group, not divided by its std: Dr. GRPO (arXiv:2503.20783)."""

    kind: Literal["group_mean"] = "group_mean"


class SequenceMeanWeights(Settings):
    """Every completion counts the same (arXiv:2402.03300, equation 3)."""

    kind: Literal["sequence_mean"] = "sequence_mean"


class TokenMeanWeights(Settings):
    """Every token counts the same: DAPO (arXiv:2503.14476)."""

    kind: Literal["token_mean"] = "token_mean"


class ConstantLengthWeights(Settings):
    """Every token counts 1 / (completions x max_new_tokens): Dr. GRPO (arXiv:2503.20783)."""

    kind: Literal["constant_length"] = "constant_length"


class GRPOObjective(Settings):
    """The clipped surrogate on the token ratio, with the k3 KL term inside the loss (arXiv:2402.03300, equation 3)."""

    kind: Literal["grpo"] = "grpo"
    clip_eps: float = Field(default=0.2, gt=0)
    """ε: how far the ratio may fall below 1. R1's first RL stage uses 10; R1-Zero's value is not published."""
    clip_eps_high: float | None = Field(default=None, gt=0)
    """How far the ratio may rise above 1; unset: the same as `clip_eps`. DAPO uses 0.28."""
    kl_coef: float = Field(default=0.0, ge=0)
    """β of the KL term; 0: no reference is held. R1-Zero uses 0.001."""
    reference_refresh_steps: int = Field(default=400, ge=0)
    """The reference becomes the latest policy every so many optimizer steps (R1-Zero: 400); 0: never."""

    @property
    def clip_high(self) -> float:
        """The upper clip, symmetric unless set apart."""
        return self.clip_eps if self.clip_eps_high is None else self.clip_eps_high


AdvantageConfig = Annotated[GroupNormAdvantage | GroupMeanAdvantage, Field(discriminator="kind")]
TokenWeightsConfig = Annotated[
    SequenceMeanWeights | TokenMeanWeights | ConstantLengthWeights, Field(discriminator="kind")
]
# A union of one: the next objective is a class beside GRPOObjective and an entry in OBJECTIVES of stages/grpo.py.
ObjectiveConfig = GRPOObjective


class OptimizerSettings(Settings):
    """AdamW, or Muon. The paper states the learning rate alone (3e-6 for the 671B model)."""

    kind: Literal["adamw", "muon"] = "adamw"
    """`muon`: Muon for the matrices inside the network, AdamW for embeddings and norms; for pretraining."""
    lr: float = Field(default=3e-4, gt=0)
    """Peak learning rate."""
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.95, ge=0, lt=1)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    max_grad_norm: float = Field(default=1.0, gt=0)
    """The gradient's global norm is clipped to this."""
    warmup_steps: int = Field(default=0, ge=0)
    """Steps over which the learning rate rises linearly from 0."""
    schedule: Literal["constant", "cosine"] = "constant"
    """After the warm-up: constant, or a cosine down to `min_lr_ratio`."""
    min_lr_ratio: float = Field(default=0.1, ge=0, le=1)
    """What is left of `lr` at the end of a cosine."""

    @model_validator(mode="after")
    def _betas_are_ordered(self) -> "OptimizerSettings":
        if self.beta1 > self.beta2:
            raise ValueError(f"beta1 {self.beta1} is above beta2 {self.beta2}; AdamW wants beta1 <= beta2")
        return self
