"""DeepSeek-R1 from end to end, in one recipe: a base, what its stages share, and a section for each stage.

Each section holds only what differs; it becomes a whole recipe of its own kind, which could be run alone.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, Field, model_validator

from r1kit.config.checkpoints import CheckpointEvaluation
from r1kit.config.distill import MADE_BEFORE, SHARED, DistillRecipe
from r1kit.config.general_data import GeneralDataRecipe
from r1kit.config.model import ModelSettings
from r1kit.config.recipes import SFTRecipe, ZeroRecipe
from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.config.rollouts import TemplateSettings
from r1kit.config.run import RunSettings
from r1kit.config.sections import composed, overlaid
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig

FROM_BEFORE = {"model": {"path": MADE_BEFORE}}
TEACHER = {"temperature": 0.6, "top_p": 0.95}


class ZeroSection(ZeroRecipe):
    """R1-Zero: trained here, or given."""

    checkpoint: str | None = None
    """A model that takes its place: a folder, run or hub id, as `model.path`."""

    @property
    def recipe(self) -> ZeroRecipe:
        """Its training, as a recipe of kind `zero`."""
        return ZeroRecipe.model_validate(self.model_dump(exclude={"checkpoint"}))


class TracesAndTuning(Settings):
    """Traces of a model, and the base fine-tuned on them: the cold start, and the paper's third stage."""

    data: Path | None = None
    """Traces of your own, JSON Lines, in place of `traces`."""
    traces: RejectionRecipe | None = None
    """How traces are drawn: from R1-Zero, or from the reasoning model."""
    sft: SFTRecipe
    """The fine-tuning of the base."""

    @model_validator(mode="after")
    def _has_one_source_of_traces(self) -> "TracesAndTuning":
        if (self.data is None) == (self.traces is None):
            both = "both are set" if self.data is not None else "neither is set"
            raise ValueError(f"traces come from a file, `data`, or are drawn as `traces` says: {both}")
        return self


class AllScenarios(Settings):
    """Reward models for what no rule judges, and reinforcement learning on reasoning and general prompts together."""

    helpfulness: RewardModelRecipe
    """The pairwise model, which sees the summary alone."""
    safety: RewardModelRecipe
    """The point-wise model, which sees everything."""
    rl: ZeroRecipe
    """The stage itself; its `preference` says when general prompts come in."""


class R1Recipe(Settings):
    """The whole of DeepSeek-R1 (arXiv:2501.12948v2, section 3 and figure 2)."""

    kind: Literal["r1"]
    seed: int = 0
    """Everything random in all stages is derived from it."""
    model: ModelSettings = ModelSettings()
    """The base: R1-Zero starts from it, and both fine-tunings do."""
    template: TemplateSettings = TemplateSettings()
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    """Reasoning problems, shared by all stages that sample."""
    general_tasks: tuple[TaskConfig, ...] = ()
    """General and safety prompts, shared by the last stage and the evaluation."""
    run: RunSettings = RunSettings()
    """Shared by all stages."""
    rl: Mapping[str, Any] = Field(default_factory=dict)
    """What all reinforcement-learning stages share, students' included, as in a recipe of kind `zero`."""
    fine_tuning: Mapping[str, Any] = Field(default_factory=dict)
    """What all fine-tunings share, students' included, as in a recipe of kind `sft`."""
    zero: ZeroSection | None = None
    """R1-Zero, the source of the cold start; not needed where `cold_start.data` names traces."""
    cold_start: TracesAndTuning
    """Traces of R1-Zero in a readable form, and the base fine-tuned on them: Dev1."""
    reasoning_rl: ZeroRecipe
    """Reinforcement learning on Dev1: Dev2."""
    sft: TracesAndTuning | None = None
    """Traces of Dev2 with general examples, and the base fine-tuned on them: Dev3. Unset: the pipeline ends at Dev2."""
    general: GeneralDataRecipe | None = None
    """General examples and preferences of the nano world, made for the two stages below; unset: they name files."""
    all_scenarios_rl: AllScenarios | None = None
    """Reward models, and reinforcement learning with them on Dev3: R1. Unset: the pipeline ends before."""
    distill: DistillRecipe | None = None
    """Students of the last model that is made."""
    evaluation: CheckpointEvaluation = CheckpointEvaluation()

    @model_validator(mode="after")
    def _has_a_cold_start(self) -> "R1Recipe":
        if self.zero is None and self.cold_start.traces is not None:
            raise ValueError("the cold start is drawn from R1-Zero: add [zero], or name traces with cold_start.data")
        return self

    @model_validator(mode="before")
    @classmethod
    def _sections_become_recipes(cls, table: Any) -> Any:
        return _Composer(table).whole() if isinstance(table, dict) else table

    @property
    def zero_training(self) -> ZeroRecipe | None:
        """R1-Zero as a recipe of its own."""
        return self.zero.recipe if self.zero else None

    @property
    def zero_given(self) -> str | None:
        """The model that takes R1-Zero's place."""
        return self.zero.checkpoint if self.zero else None

    @property
    def base_template(self) -> TemplateSettings:
        """The template under which the base is measured: that of the first stage that trains it."""
        return self.zero.template if self.zero else self.cold_start.sft.template


class _Composer:
    """Fills each section of an R1 recipe's table with what the stages share."""

    def __init__(self, table: Mapping[str, Any]) -> None:
        self.table = dict(table)
        self.shared = {key: table[key] for key in SHARED if key in table}

    def whole(self) -> dict[str, Any]:
        """The table with every stage's recipe whole."""
        table = self.table
        if table.get("zero") is not None:
            table["zero"] = self._stage(table["zero"], ZeroRecipe, {})
        table["cold_start"] = self._traces_and_tuning(table.get("cold_start", {}), {})
        table["reasoning_rl"] = self._stage(table.get("reasoning_rl", {}), ZeroRecipe, FROM_BEFORE)
        if table.get("sft") is not None:
            mixed_with = self._made({"general": {"path": MADE_BEFORE}})
            table["sft"] = self._traces_and_tuning(table["sft"], mixed_with)
        if table.get("general") is not None:
            table["general"] = self._stage(table["general"], GeneralDataRecipe, {})
        if table.get("all_scenarios_rl") is not None:
            table["all_scenarios_rl"] = self._all_scenarios(table["all_scenarios_rl"])
        if "general_tasks" in table and isinstance(table.get("evaluation", {}), Mapping):
            table["evaluation"] = {"general": table["general_tasks"]} | table.get("evaluation", {})
        students = table.pop("students", None)
        if students is not None or table.get("distill") is not None:
            table["distill"] = self._distill(table.get("distill") or {}, students)
        return table

    def _traces_and_tuning(self, section: Any, mixed_with: dict[str, Any]) -> Any:
        if not isinstance(section, Mapping):
            return section
        whole = {**section, "sft": self._stage(section.get("sft", {}), SFTRecipe, {"data": MADE_BEFORE})}
        if section.get("data") is None or section.get("traces") is not None:
            whole["traces"] = self._stage(section.get("traces") or {}, RejectionRecipe, FROM_BEFORE | mixed_with)
        return whole

    def _all_scenarios(self, section: Any) -> Any:
        if not isinstance(section, Mapping):
            return section
        from_dev3 = FROM_BEFORE | self._made({"data": MADE_BEFORE})
        pairwise, pointwise = {"loss": "pairwise", "sees": "summary"}, {"loss": "pointwise", "sees": "all"}
        preference = {"helpfulness": MADE_BEFORE, "safety": MADE_BEFORE, "tasks": self.table.get("general_tasks", ())}
        given = FROM_BEFORE | {"preference": preference}
        return {
            **section,
            "helpfulness": self._stage(section.get("helpfulness", {}), RewardModelRecipe, from_dev3 | pairwise),
            "safety": self._stage(section.get("safety", {}), RewardModelRecipe, from_dev3 | pointwise),
            "rl": self._stage(section.get("rl", {}), ZeroRecipe, given),
        }

    def _made(self, places: dict[str, Any]) -> dict[str, Any]:
        """What the made general data fills; nothing where there is none, so that a recipe must name its own."""
        return places if self.table.get("general") is not None else {}

    def _distill(self, section: Any, students: Any) -> Any:
        if not isinstance(section, Mapping):
            return section
        below = {key: value for key, value in self.shared.items() if key != "model"}
        whole = {"kind": "distill"} | below | dict(section)
        whole |= {"students": students} if students is not None else {}
        whole["sft"] = self._under("fine_tuning", section.get("sft"))
        for name in ("rl", "then_rl"):
            if section.get(name) is not None:
                whole[name] = self._under("rl", section[name])
        if section.get("data") is None or section.get("traces") is not None:
            given = FROM_BEFORE | {"sampling": TEACHER}
            whole["traces"] = self._stage(section.get("traces") or {}, RejectionRecipe, given)
        whole.setdefault("evaluation", self.table.get("evaluation", {}))
        return whole

    def _under(self, name: str, section: Any) -> Any:
        shared = self.table.get(name, {})
        from_both = isinstance(shared, Mapping) and isinstance(section or {}, Mapping)
        return overlaid(shared, section or {}) if from_both else section

    def _stage(self, section: Any, kind: type[BaseModel], given: Mapping[str, Any]) -> Any:
        common = self.table.get({ZeroRecipe: "rl", SFTRecipe: "fine_tuning"}.get(kind, ""), {})
        below = overlaid(common, given) if isinstance(common, Mapping) else given
        return composed(section, kind=kind, shared=[self.shared], given=below)
