"""What one update optimises: the advantage, the surrogate, the KL term, corrections and each token's share.

A choice is a class, named in the recipe by its `kind`. docs/objectives.md says which of them make up DAPO, Dr. GRPO, ….
"""

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ConfigDict, Field, model_validator

from r1kit.config.settings import Settings


class GroupNormAdvantage(Settings):
    """(r - mean) / std over the group (arXiv:2402.03300, section 4.1.2)."""

    kind: Literal["group_norm"] = "group_norm"


class GroupMeanAdvantage(Settings):
    """r - mean over the group, not divided by its std: Dr. GRPO (arXiv:2503.20783)."""

    kind: Literal["group_mean"] = "group_mean"


class RLOOAdvantage(Settings):
    """r - mean of the other rewards of the group: RLOO (arXiv:2402.14740)."""

    kind: Literal["rloo"] = "rloo"


class ReinforcePlusPlusAdvantage(Settings):
    """(r - mean) / std over the whole iteration: REINFORCE++ (arXiv:2501.03262)."""

    kind: Literal["reinforce_plus_plus"] = "reinforce_plus_plus"


class ReinforcePlusPlusBaselineAdvantage(Settings):
    """(r - mean over the group) / std over the whole iteration: REINFORCE++-baseline (arXiv:2501.03262)."""

    kind: Literal["reinforce_plus_plus_baseline"] = "reinforce_plus_plus_baseline"


class ValueSettings(Settings):
    """The value model of PPO. Its optimizer is that of the policy, but for the learning rate."""

    path: str | None = None
    """What it is made of, with a new head; its tokenizer must be the policy's. Unset: what the policy is made of."""
    lr: float = Field(default=1e-5, gt=0)
    """Its learning rate; public runs take 5 to 10 times the policy's."""
    clip: float | None = Field(default=0.2, gt=0)
    """How far a value may move from what it was when the completions were drawn before its gradient is cut. None: as
    far as it will."""
    num_epochs: int = Field(default=1, ge=1)
    """How often it reads the completions of an iteration; the policy reads them once."""
    warmup_steps: int = Field(default=0, ge=0)
    """Its steps before the policy takes the first one: until then its values say little."""


class GAEAdvantage(Settings):
    """Generalised advantage estimation from a value model (arXiv:1506.02438): PPO, where the objective is `grpo`."""

    model_config = ConfigDict(validate_by_name=True, validate_by_alias=True, serialize_by_alias=True)

    kind: Literal["gae"] = "gae"
    lam: float = Field(default=1.0, ge=0, le=1, alias="lambda")
    """λ, written `lambda`. 1: an advantage is the reward less the value. The paper's ablation has 0.95, the usual one,
    far behind GRPO, and 1 near it."""
    gamma: float = Field(default=1.0, gt=0, le=1)
    """The discount of each token; 1, as in all public runs on reasoning."""
    whiten: bool = True
    """Advantages less their mean, divided by their std, over all tokens of the iteration."""
    value: ValueSettings = ValueSettings()


class SequenceMeanWeights(Settings):
    """Every completion counts the same (arXiv:2402.03300, equation 3)."""

    kind: Literal["sequence_mean"] = "sequence_mean"


class TokenMeanWeights(Settings):
    """Every token counts the same: DAPO (arXiv:2503.14476)."""

    kind: Literal["token_mean"] = "token_mean"


class ConstantLengthWeights(Settings):
    """Every token counts 1 / (completions x max_new_tokens): Dr. GRPO (arXiv:2503.20783).

    The length is the limit in force when the completions were sampled, if `sampling.stages` changes it.
    """

    kind: Literal["constant_length"] = "constant_length"


class PolicyObjective(Settings):
    """What every objective has beside its surrogate."""

    kl_coef: float = Field(default=0.0, ge=0)
    """β of the KL term; 0: no reference is held. R1-Zero uses 0.001."""
    kl_estimator: Literal["k1", "k2", "k3", "k3_corrected", "k3_straight"] = "k3"
    """`k3`: the paper's. Of these, k2, k3_corrected and k3_straight have the gradient of the KL when on-policy, and
    k3_corrected when off-policy too; k1 has none in the loss, on average, and belongs into the reward."""
    kl_place: Literal["loss", "reward"] = "loss"
    """`reward`: β times the sum of k1 over a completion is taken off its reward, as in RLOO and REINFORCE++."""
    reference_refresh_steps: int = Field(default=400, ge=0)
    """The reference becomes the latest policy every so many optimizer steps (R1-Zero: 400); 0: never."""
    entropy_coef: float = Field(default=0.0, ge=0)
    """Weight of an entropy bonus, in nats a token; the paper describes none."""
    off_policy_delta: float | None = Field(default=None, gt=0)
    """Completions of negative advantage are left out where log (sampler / policy) exceeds this in the mean over their
    tokens: DeepSeek-V3.2's off-policy sequence mask. Unset: none are."""

    @model_validator(mode="after")
    def _only_k1_is_a_reward(self) -> "PolicyObjective":
        if self.kl_place == "reward" and self.kl_estimator != "k1":
            raise ValueError(
                f"kl_place is 'reward' and kl_estimator is {self.kl_estimator!r}, but in the reward only k1 has the "
                "gradient of the KL; set kl_estimator = 'k1'"
            )
        return self


class ClippedObjective(PolicyObjective):
    """What objectives with a clip around 1 have beside it."""

    clip_eps: float = Field(default=0.2, gt=0)
    """ε: how far the ratio may fall below 1. R1's first RL stage uses 10; R1-Zero's value is not published."""
    clip_eps_high: float | None = Field(default=None, gt=0)
    """How far the ratio may rise above 1; unset: the same as `clip_eps`. DAPO uses 0.28."""
    dual_clip: float | None = Field(default=None, gt=1)
    """Where the advantage is negative, the loss of a token is at most this times it (verl: 3). Unset: no bound."""

    @property
    def clip_high(self) -> float:
        """The upper clip, symmetric unless set apart."""
        return self.clip_eps if self.clip_eps_high is None else self.clip_eps_high


class GRPOObjective(ClippedObjective):
    """The clipped surrogate, with the KL term inside the loss (arXiv:2402.03300, equation 3)."""

    kind: Literal["grpo"] = "grpo"
    ratio: Literal["token", "sequence"] = "token"
    """`token`: of each token, as in DeepSeekMath and all public code. `sequence`: of the whole completion, the product
    over its tokens, as R1 prints it (arXiv:2501.12948, equation 1)."""


class GSPOObjective(ClippedObjective):
    """The clipped surrogate on the geometric mean of a completion's token ratios: GSPO (arXiv:2507.18071)."""

    kind: Literal["gspo"] = "gspo"
    clip_eps: float = Field(default=3e-4, gt=0)
    """How far that mean may fall below 1; small, since means stay near 1."""
    clip_eps_high: float | None = Field(default=4e-4, gt=0)
    """How far it may rise above 1."""


class CISPOObjective(PolicyObjective):
    """The capped ratio, without gradient, times the logprob: every token keeps its gradient (arXiv:2506.13585)."""

    kind: Literal["cispo"] = "cispo"
    cap: float = Field(default=5.0, ge=1)
    """The largest ratio that counts: the cap itself (TRL's `epsilon_high`), not the cap - 1 (verl, slime).
    ScaleRL uses 5."""
    floor: float = Field(default=0.0, ge=0, le=1)
    """The smallest one; 0: ratios are not clipped from below."""


class ReinforceObjective(PolicyObjective):
    """advantage x logprob, without ratio or clip; right only on-policy, with one step an iteration."""

    kind: Literal["reinforce"] = "reinforce"


class GMPOObjective(PolicyObjective):
    """The geometric mean of token ratios that are clipped one by one before: GMPO (arXiv:2507.20673)."""

    kind: Literal["gmpo"] = "gmpo"
    log_clip_low: float = Field(default=0.4, gt=0)
    """How far a token's log-ratio may fall below 0, where the advantage is negative."""
    log_clip_high: float = Field(default=0.4, gt=0)
    """How far it may rise above 0, where the advantage is positive."""


class SAPOObjective(PolicyObjective):
    """A soft gate instead of a clip: SAPO (arXiv:2511.20347)."""

    kind: Literal["sapo"] = "sapo"
    temperature_positive: float = Field(default=1.0, gt=0)
    """How fast the gradient fades as the ratio leaves 1, where the advantage is positive."""
    temperature_negative: float = Field(default=1.05, gt=0)
    """The same where it is negative."""


RatioLevel = Literal["token", "sequence", "sequence_mean"]


class NoCorrection(Settings):
    """The sampler's distribution is taken to be the trainer's, as it is for the embedded engine."""

    kind: Literal["none"] = "none"


class TruncatedCorrection(Settings):
    """Truncated importance sampling: each token's surrogate times min(old policy / sampler, cap)."""

    kind: Literal["truncated"] = "truncated"
    level: RatioLevel = "token"
    """The ratio of the token, of the whole completion, or the geometric mean over it."""
    cap: float = Field(default=2.0, ge=1)
    """The largest weight (usual: 2; 1.5 to 5 for tokens, 2 to 10 for sequences)."""


class MaskedCorrection(Settings):
    """Masked importance sampling: the weight is old policy / sampler, and 0 where that is outside [low, high]."""

    kind: Literal["masked"] = "masked"
    level: RatioLevel = "token"
    """The ratio of the token (IcePop), of the whole completion, or the geometric mean over it."""
    low: float = Field(default=0.5, ge=0, le=1)
    """The smallest ratio that trains; 0: no bound from below (TRL)."""
    high: float = Field(default=2.0, ge=1)
    """The largest."""


def _with_kind(section: Any) -> Any:
    """A section without `kind` is the paper's."""
    return {"kind": "grpo"} | section if isinstance(section, dict) else section


AdvantageConfig = Annotated[
    GroupNormAdvantage
    | GroupMeanAdvantage
    | RLOOAdvantage
    | ReinforcePlusPlusAdvantage
    | ReinforcePlusPlusBaselineAdvantage
    | GAEAdvantage,
    Field(discriminator="kind"),
]
TokenWeightsConfig = Annotated[
    SequenceMeanWeights | TokenMeanWeights | ConstantLengthWeights, Field(discriminator="kind")
]
CorrectionConfig = Annotated[NoCorrection | TruncatedCorrection | MaskedCorrection, Field(discriminator="kind")]
# The next objective is a class here and an entry in SURROGATES of stages/objective.py.
ObjectiveConfig = Annotated[
    GRPOObjective | GSPOObjective | CISPOObjective | ReinforceObjective | GMPOObjective | SAPOObjective,
    Field(discriminator="kind"),
    BeforeValidator(_with_kind),
]


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
