"""Distillation: the traces of one model teach others, by fine-tuning alone (arXiv:2501.12948v2, section 4 and F.1)."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from pydantic import Field, model_validator

from r1kit.config.checkpoints import CheckpointEvaluation
from r1kit.config.model import ModelSettings
from r1kit.config.recipes import SFTRecipe, ZeroRecipe
from r1kit.config.rejection import RejectionRecipe
from r1kit.config.rollouts import TemplateSettings
from r1kit.config.run import RunSettings
from r1kit.config.sections import composed, overlaid
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig

MADE_BEFORE = "(made by an earlier stage)"
"""Stands in a resolved recipe where the pipeline puts the path of what an earlier stage has made."""
SHARED = ("seed", "model", "template", "tasks", "run")
SHARED_BY_STUDENTS = ("seed", "template", "tasks", "run")


class Student(Settings):
    """A model that is taught, and what it is compared with."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    """Its folders are `distill-NAME`, `rl-NAME` and `distill-NAME-then-rl`."""
    model: ModelSettings
    """Any base."""
    lr: float | None = Field(default=None, gt=0)
    """The peak learning rate of its fine-tuning; the paper has one for each size (table 6)."""
    sft: SFTRecipe
    """Its fine-tuning, whole."""
    rl: ZeroRecipe | None = None
    """Reinforcement learning on the same student instead, at equal compute: it ends with the iteration in which the
    student has generated and trained as many tokens as its fine-tuning trained."""
    then_rl: ZeroRecipe | None = None
    """Reinforcement learning on the distilled student."""


class DistillRecipe(Settings):
    """Traces, students, and what the students are compared with."""

    kind: Literal["distill"]
    seed: int = 0
    template: TemplateSettings = TemplateSettings()
    tasks: tuple[TaskConfig, ...] = ()
    """Shared by what samples: the teacher, and the reinforcement learning of students."""
    run: RunSettings = RunSettings()
    data: Path | None = None
    """Traces to learn from: JSON Lines. Unset: `traces` says how they are drawn from a teacher."""
    traces: RejectionRecipe | None = None
    """How traces are drawn from `traces.model`, the teacher."""
    sft: Mapping[str, Any] = Field(default_factory=dict)
    """What the fine-tuning of all students has in common, as a recipe of kind `sft`."""
    rl: Mapping[str, Any] | None = None
    """What the reinforcement learning of the students has in common, as a recipe of kind `zero`; unset: there is none.
    """
    then_rl: Mapping[str, Any] | None = None
    """What the reinforcement learning of distilled students has in common; unset: there is none."""
    students: tuple[Student, ...] = Field(min_length=1)
    evaluation: CheckpointEvaluation = CheckpointEvaluation()

    @model_validator(mode="before")
    @classmethod
    def _sections_become_recipes(cls, table: Any) -> Any:
        if not isinstance(table, dict):
            return table
        shared = {key: table[key] for key in SHARED_BY_STUDENTS if key in table}
        table = dict(table)
        if "traces" in table and table["traces"] is not None:
            table["traces"] = composed(table["traces"], kind=RejectionRecipe, shared=[shared], given={})
        students = table.get("students")
        if isinstance(students, list | tuple):
            table["students"] = [_whole_student(student, table, shared) for student in students]
        return table

    @model_validator(mode="after")
    def _has_one_source_of_traces(self) -> "DistillRecipe":
        if (self.data is None) == (self.traces is None):
            both = "both are set" if self.data is not None else "neither is set"
            raise ValueError(f"traces come from a file, `data`, or from a teacher, `traces`: {both}")
        names = [student.name for student in self.students]
        if doubled := next((name for name in names if names.count(name) > 1), None):
            raise ValueError(f"two students are named {doubled!r}")
        return self


def _whole_student(student: object, table: Mapping[str, Any], shared: Mapping[str, Any]) -> object:
    """A student's table with its recipes filled in from what all students share."""
    if not isinstance(student, Mapping):
        return student
    given: dict[str, Any] = {"model": student.get("model", {})}
    whole = dict(student)
    rate = {"optimizer": {"lr": student["lr"]}} if student.get("lr") is not None else {}
    below = {"optimizer": {"schedule": "cosine", "min_lr_ratio": 0.1}, "data": MADE_BEFORE} | given
    sft = overlaid(_table(table.get("sft")), overlaid(rate, _table(student.get("sft"))))
    whole["sft"] = composed(sft, kind=SFTRecipe, shared=[shared], given=below)
    compared = {"rollouts": {"equal_compute_to": MADE_BEFORE}}
    for name, settings in (("rl", compared), ("then_rl", {"model": {"path": MADE_BEFORE}})):
        if student.get(name) is not None or table.get(name) is not None:
            own = overlaid(_table(table.get(name)), _table(student.get(name)))
            whole[name] = composed(own, kind=ZeroRecipe, shared=[shared], given=given | settings)
    return whole


def _table(section: Any) -> Mapping[str, Any]:
    return section if isinstance(section, Mapping) else {}
