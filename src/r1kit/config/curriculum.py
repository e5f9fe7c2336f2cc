"""Which problems are drawn more often than others."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from r1kit.config.settings import Settings


class EvenCurriculum(Settings):
    """All alike: each problem of a file is visited about as often as any other, each family by its weight."""

    kind: Literal["even"] = "even"


class SolveRateCurriculum(Settings):
    """Prefer what is solved sometimes: a group whose completions are all right, or all wrong, teaches nothing.

    The solve rate is kept for each problem of a file, and for each generated task as a whole. What lies outside the
    band is drawn `exploration` times as often as what lies inside; what was never tried counts as inside.
    """

    kind: Literal["solve_rate"] = "solve_rate"
    lowest: float = Field(default=0.1, ge=0, le=1)
    """The band's lower end, itself inside."""
    highest: float = Field(default=0.9, ge=0, le=1)
    """The band's upper end, itself inside."""
    exploration: float = Field(default=0.1, gt=0, le=1)
    """How often what lies outside is drawn nevertheless: the policy changes, and what was too hard may not be now."""
    memory: float = Field(default=0.5, ge=0, lt=1)
    """The weight of what was known before, beside the latest group's share of right completions."""

    @model_validator(mode="after")
    def _is_a_band(self) -> "SolveRateCurriculum":
        if self.lowest > self.highest:
            raise ValueError(f"lowest is {self.lowest}, above highest, which is {self.highest}")
        return self


CurriculumConfig = Annotated[EvenCurriculum | SolveRateCurriculum, Field(discriminator="kind")]
