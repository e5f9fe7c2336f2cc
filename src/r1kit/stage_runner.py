"""Runs a plan in a folder: finished stages are not repeated, what is out of date is named, and a killed run goes on.

pipeline.json    the resolved recipe, with versions and machine; the folder; the seconds of each stage
1-cold-start/…   a folder a stage, as its recipe alone would make it
evaluation/      see evaluation.checkpoints
replaced/N/      what `--from` has put aside: nothing is deleted
"""

import gc
import json
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console

from r1kit.errors import Interrupted, RecipeError, RunError
from r1kit.insight.overview import duration
from r1kit.recipe import Recipe
from r1kit.run import described, disk_errors, take_lock, write_whole
from r1kit.stage_plan import Plan, PlannedStage, State, refuse_missing, refuse_stale, stale_stages
from r1kit.training.memory import return_free_memory

Train = Callable[[Recipe, Path, bool], None]
"""Runs a recipe in a folder; the last argument says whether it goes on from a checkpoint."""
EVALUATION = "evaluation"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cut:
    """Which part of a pipeline is run."""

    from_: str | None = None
    """The stage to begin with, anew; what stands before it is used as it is."""
    until: str | None = None
    """The last stage that is run."""

    def refuse_for(self, recipe: Recipe) -> None:
        """Raise RecipeError where a recipe that has no stages is to be cut."""
        if self.from_ is not None or self.until is not None:
            if recipe.kind == "claims":
                raise RecipeError("--from and --until cut a single pipeline; of claims, choose with only and seeds")
            raise RecipeError(f"--from and --until name stages, and a recipe of kind {recipe.kind!r} is a single one")

    def places(self, plan: Plan) -> range:
        """The places of its stages in a plan; raise RecipeError for a name that is none of them."""
        first, end = 0, len(plan.stages)
        if self.from_ is not None:
            first = end if self.from_ == EVALUATION else plan.place_of(self.from_, "--from").start
        if self.ends_early:
            end = plan.place_of(str(self.until), "--until").stop
        return range(first, end)

    @property
    def ends_early(self) -> bool:
        """True where the evaluation isn't part of it."""
        return self.until not in (None, EVALUATION)


WHOLE = Cut()


class PipelineRun:
    """One execution of a pipeline, in a folder that nobody else writes to meanwhile."""

    def __init__(
        self, plan: Plan, recipe: Recipe, *, cut: Cut, resume: bool, replaces_stale: Console | None = None
    ) -> None:
        """Make the folder or take it up again, and refuse what can't be gone on with, before anything is changed.

        Raises RunError for a folder that holds a pipeline where neither `resume` nor `cut.from_` is given, that holds
        none where one is, for stages that another recipe made, and for stages before `cut.from_` that aren't finished.
        With `replaces_stale`, stages that another recipe made are put aside instead, and the console is told.
        """
        folder = plan.folder
        self.folder, self._plan, self._path = folder, plan, folder / "pipeline.json"
        known = self._path.is_file() or any(stage.state is not State.MISSING for stage in plan.stages)
        if known and not (resume or cut.from_):
            raise RunError(f"{folder} already holds a run; go on with --resume, make it again from a stage with --from")
        if resume and not known:
            raise RunError(f"{folder} holds no run to resume")
        before = self._read()
        self.seconds: dict[str, float] = dict(before.get("seconds", {}))
        places = cut.places(plan)
        self.first, self.stop, self.is_cut = places.start, places.stop, cut.ends_early
        moved_from = before.get("folders", [])
        stale = stale_stages(plan, moved_from=moved_from) if replaces_stale else {}
        if not replaces_stale:
            refuse_stale(plan, before=self.first if cut.from_ else len(plan.stages), moved_from=moved_from)
        if cut.from_:
            refuse_missing(plan, before=self.first)
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = take_lock(folder)
            if cut.from_:
                self._put_aside([*(stage.name for stage in plan.stages[self.first :]), EVALUATION])
            if replaces_stale:
                self._replace(stale, replaces_stale)
        self._content = described(recipe) | {"folders": list(dict.fromkeys([*moved_from, str(folder)]))}
        self._write()

    def __enter__(self) -> "PipelineRun":
        """The folder is held from the beginning."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give the folder back."""
        self._lock.close()

    def run_stages(self, train: Train, console: Console, names: Collection[str] | None = None) -> None:
        """Run every stage of the plan that is not finished, up to where it is cut; with `names`, of these alone."""
        total = len(self._plan.stages)
        for number, stage in enumerate(self._plan.stages[: self.stop], 1):
            if names is not None and (stage.name not in names or stage.state is State.DONE):
                continue
            if stage.state is State.DONE:
                console.print(f"stage {number} of {total}: {stage.name} is done already", highlight=False)
                continue
            console.rule(f"stage {number} of {total}: {stage.name}, {stage.makes}")
            self.timed(stage.name, lambda stage=stage: train(stage.recipe, stage.folder, _has_begun(stage)))  # type: ignore[misc]
            spent = f"{duration(self.seconds[stage.name])}, {duration(sum(self.seconds.values()))} in all"
            console.print(f"stage {number} of {total}: {stage.name} took {spent}", highlight=False)
            # What a stage held (weights, optimizer, caches) must not stand beside what the next one needs.
            gc.collect()
            return_free_memory()

    def timed(self, name: str, work: Callable[[], None]) -> None:
        """Do some work, and add its seconds to those of the name, even where it is interrupted."""
        started = time.perf_counter()
        try:
            work()
        except Interrupted as error:
            raise Interrupted(
                f"interrupted in {name}; everything is saved, go on with --run {self.folder} --resume"
            ) from error
        finally:
            self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started
            self._write()

    def _replace(self, stale: Mapping[str, str], console: Console) -> None:
        """Put aside what is out of date, and say why."""
        for name, reason in stale.items():
            console.print(
                f"{self.folder / name} is out of date ({reason}): put aside, to be made again", highlight=False
            )
        # The last first: killed in between, nothing is left that would seem to be made from what lies there.
        self._put_aside(list(stale)[::-1])

    def _put_aside(self, names: Sequence[str]) -> None:
        """Move these folders, where they are there, out of the way."""
        names = [name for name in names if (self.folder / name).exists()]
        place = next(path for n in range(1, 10_000) if not (path := self.folder / "replaced" / str(n)).exists())
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).rename(place / name)
            self.seconds.pop(name, None)

    def _read(self) -> Mapping[str, Any]:
        if not self._path.is_file():
            return {}
        try:
            found = json.loads(self._path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise RunError(f"{self._path} is damaged: {error}; remove it: the stages themselves are whole") from error
        return found if isinstance(found, dict) else {}

    def _write(self) -> None:
        with disk_errors(self._path):
            content = self._content | {"seconds": self.seconds}
            write_whole(self._path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def _has_begun(stage: PlannedStage) -> bool:
    return stage.recorded() is not None
