"""The paper's claims, in miniature: the pipeline that they are about, and the few settings of each."""

from collections.abc import Mapping
from typing import Any, Literal, get_args

from pydantic import Field, field_validator

from r1kit.config.r1 import R1Recipe
from r1kit.config.run import RunSettings
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig

ClaimName = Literal["a", "b", "c", "d", "e", "f", "g", "h", "i"]
ALL_CLAIMS: tuple[ClaimName, ...] = get_args(ClaimName)
Changes = Mapping[str, Any]
"""What differs from a recipe of the pipeline, as in a recipe of its kind."""


class ClaimSizes(Settings):
    """How many held-out problems claims are measured on; all by the pipeline's `evaluation.sampling`."""

    num_problems: int = Field(default=1000, ge=2)
    """Reasoning problems at the trained difficulty, for each model."""
    samples_per_problem: int = Field(default=4, ge=1)
    num_general: int = Field(default=480, ge=2)
    """General prompts; the nano world holds out 498."""
    general_samples: int = Field(default=4, ge=1)
    num_harder: int = Field(default=256, ge=2)
    """Harder problems, of the pipeline's `evaluation.harder`, for the vote."""
    votes: int = Field(default=16, ge=2)
    """Samples of each that vote."""
    num_ladder: int = Field(default=1000, ge=2)
    """Problems of all rungs of the ladder of difficulties together."""
    ladder_samples: int = Field(default=2, ge=1)


class LanguageClaim(Settings):
    """Reasoning RL with and without the language reward, all else equal."""

    start: str = "Dev1"
    """The model that both begin with, by its name in the stage table: `base`, `Zero`, `Dev1`."""
    rl: Changes = Field(default_factory=dict)
    """Changes to the pipeline's `reasoning_rl` for both."""


class AblationClaim(Settings):
    """PPO beside GRPO, on the base, as R1-Zero was trained."""

    lambdas: tuple[float, ...] = Field(default=(0.95, 1.0), min_length=2, max_length=2)
    """The usual value of GAE's lambda, and the better one."""
    rl: Changes = Field(default_factory=dict)
    """Changes to the pipeline's `zero` for all three; without any, R1-Zero itself is the GRPO run."""
    gae: Changes = Field(default_factory=dict)
    """Settings of the advantage of PPO besides lambda, as in `[advantage]` with kind `gae`."""


class HackingClaim(Settings):
    """Preference rewards for too long."""

    start: str = "Dev3"
    """The model that it begins with, by its name in the stage table."""
    general: Changes = Field(default_factory=dict)
    """Changes to the pipeline's `general`: other preference data; it needs a reward model of its own then."""
    helpfulness: Changes = Field(default_factory=dict)
    """Changes to `all_scenarios_rl.helpfulness`: another reward model."""
    rl: Changes = Field(default_factory=dict)
    """Changes to `all_scenarios_rl.rl`: general prompts from the first step, more iterations."""


class ClaimsRecipe(Settings):
    """The paper's claims, one at a time, each for several seeds."""

    kind: Literal["claims"]
    pipeline: R1Recipe
    """The pipeline that the claims are about. In a file: `recipe = FILE`, from the recipe's own folder, and under it
    what differs from that file."""
    seeds: tuple[int, ...] = Field(default=(0, 1, 2), min_length=1)
    """The pipeline's seed, for each repetition."""
    only: tuple[ClaimName, ...] = Field(default=ALL_CLAIMS, min_length=1)
    """Which claims are run."""
    sizes: ClaimSizes = ClaimSizes()
    language: LanguageClaim = LanguageClaim()
    students: tuple[str, ...] = ()
    """Students that distillation is compared with RL on, by name; none: all that the pipeline has."""
    ablation: AblationClaim = AblationClaim()
    hacking: HackingClaim = HackingClaim()
    ladder: tuple[TaskConfig, ...] = ()
    """Problems of growing difficulty; none: the pipeline's tasks and harder ones together."""

    @field_validator("seeds", "only")
    @classmethod
    def _names_each_once(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        if len(set(values)) < len(values):
            raise ValueError(f"{next(value for value in values if values.count(value) > 1)!r} is named twice")
        return values

    @property
    def run(self) -> RunSettings:
        """The pipeline's."""
        return self.pipeline.run

    def at_seed(self, seed: int) -> R1Recipe:
        """The pipeline with another seed in all its stages; a stage with a seed of its own keeps it."""
        table = _reseeded(self.pipeline.model_dump(mode="json"), self.pipeline.seed, seed)
        return R1Recipe.model_validate(table)


def _reseeded(tree: Any, before: int, after: int) -> Any:
    if isinstance(tree, Mapping):
        return {
            key: after if key == "seed" and value == before else _reseeded(value, before, after)
            for key, value in tree.items()
        }
    return [_reseeded(value, before, after) for value in tree] if isinstance(tree, list) else tree
