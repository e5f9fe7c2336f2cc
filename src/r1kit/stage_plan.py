"""What a pipeline will do, in order: each stage with its whole recipe, its folder, and what it is made from.

A plan is made before anything runs, so that it can be shown, cut, and compared with what lies in the folder.
"""

import json
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from r1kit.config.checkpoints import Checkpoint
from r1kit.config.distill import MADE_BEFORE
from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import TemplateSettings
from r1kit.errors import RecipeError, RunError
from r1kit.recipe import SFTRecipe, StageRecipe, ZeroRecipe, dump_recipe, parse_recipe
from r1kit.run import differences
from r1kit.stages.rejection import AFTERWARDS

PRODUCTS = {"rejection": "traces.jsonl", "general_data": "."}
"""What a stage of this kind makes for others; all other kinds make a model."""
FINISHED = {"rejection": "done.json", "general_data": "done.json"}
"""What marks such a stage as finished; all others by their `final/`."""


class State(StrEnum):
    """How far a stage is."""

    DONE = "done"
    STARTED = "started"
    MISSING = "to do"


@dataclass(frozen=True, slots=True)
class Product:
    """A model or a file that stages are made from."""

    path: str
    """As a recipe names it."""
    stage: str = ""
    """The stage that makes it; empty where it was given."""

    def file(self, name: str) -> "Product":
        """A file in the folder that it is."""
        return Product(str(Path(self.path) / name), self.stage)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedStage:
    """One stage: a recipe that could be run alone, in a folder of its own."""

    name: str
    """Its folder inside the pipeline's: `2-reasoning-rl`, `1-cold-start/sft`."""
    recipe: StageRecipe
    folder: Path
    needs: tuple[str, ...]
    """The stages whose products it reads."""
    makes: str
    """What comes of it, in a few words: of a model, its name in the stage table."""

    @property
    def product(self) -> str:
        """The path of what it makes."""
        return str(self.folder / PRODUCTS.get(self.recipe.kind, "final"))

    @property
    def state(self) -> State:
        """How far it is, by what lies in its folder."""
        if (self.folder / FINISHED.get(self.recipe.kind, "final")).exists():
            return State.DONE
        return State.STARTED if self.recorded() is not None else State.MISSING

    def recorded(self) -> Mapping[str, Any] | None:
        """The recipe that its folder was made by, None where it was never begun; raise RunError where it is damaged."""
        path = self.folder / "recipe.json"
        if not path.is_file():
            return None
        try:
            found = json.loads(path.read_text("utf-8"))["recipe"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{path} is damaged: {error}; make the stage again with --from {self.name}") from error
        return found if isinstance(found, dict) else {}

    def changes(self, moved_from: Collection[str] = ()) -> list[str]:
        """The settings in which its recipe is no longer the one that its folder was made by, resources apart.

        `moved_from` are the folders that the pipeline has lain in: paths into them are the same paths.
        """
        before = self.recorded()
        if before is None:
            return []
        here = str(self.folder)[: -len(self.name) - 1]
        then = _with_paths(before, moved_from, here)
        free = ("run.", *(AFTERWARDS if self.recipe.kind == "rejection" and self.state is State.STARTED else ()))
        return [path for path in differences(then, dump_recipe(self.recipe)) if not f"{path}.".startswith(free)]


@dataclass(slots=True)
class Plan:
    """The stages of a pipeline, in the order in which they run."""

    folder: Path
    stages: list[PlannedStage] = field(default_factory=list)
    checkpoints: list[Checkpoint] = field(default_factory=list)
    """The models that the stage table compares, in order."""

    def add(
        self,
        name: str,
        recipe: StageRecipe | None,
        makes: str,
        *,
        given: object = None,
        **places: Product,
    ) -> Product:
        """Plan a stage that reads these products, and return what it makes.

        Products are written into its recipe where that says `MADE_BEFORE`, each at the place that it is named by:
        `model` for `model.path`, else a dotted path with `__` for the dot. Where a recipe names something of its own
        there, it stays. Where the product is `given`, or there is no recipe, nothing is planned.
        """
        if given is not None or recipe is None:
            product = Product(str(given or ""))
            if given is not None and isinstance(recipe, ZeroRecipe | SFTRecipe):
                self.compare(makes, product, recipe.model, recipe.template)
            return product
        table: Any = dump_recipe(recipe)
        read = [product.stage for place, product in places.items() if _put(table, place, product)]
        whole = parse_recipe(table, source=name)
        assert isinstance(whole, StageRecipe)
        stage = PlannedStage(
            name=name,
            recipe=whole,
            folder=self.folder / name,
            needs=tuple(dict.fromkeys(stage for stage in read if stage)),
            makes=makes,
        )
        self.stages.append(stage)
        made = Product(stage.product, name)
        if isinstance(stage.recipe, ZeroRecipe | SFTRecipe):  # what it makes stands in the stage table
            self.compare(makes, made, stage.recipe.model, stage.recipe.template)
        return made

    def compare(self, name: str, product: Product, model: ModelSettings, template: TemplateSettings) -> None:
        """Put a model into the stage table, under the template that it was trained with."""
        made = model.model_copy(update={"path": product.path} | ({"revision": None} if product.stage else {}))
        self.checkpoints.append(Checkpoint(name=name, model=made, template=template))

    def place_of(self, name: str, option: str) -> range:
        """The places of the stages in a folder of the plan: `1-cold-start` names both `traces` and `sft` inside it.

        Raises RecipeError, with what is known, for a folder that the plan does not have.
        """
        name = name.strip("/")
        found = [n for n, stage in enumerate(self.stages) if stage.name == name or stage.name.startswith(f"{name}/")]
        if not found:
            known = dict.fromkeys(stage.name.partition("/")[0] for stage in self.stages)
            raise RecipeError(f"{option} {name}: no such stage; this recipe has {', '.join(known)}")
        return range(found[0], found[-1] + 1)

    def invalidated_by(self, names: Iterable[str]) -> list[str]:
        """The stages that are made, however indirectly, from these, and have begun."""
        touched = set(names)
        for stage in self.stages:
            if touched & set(stage.needs):
                touched.add(stage.name)
        return [s.name for s in self.stages if s.name in touched - set(names) and s.state is not State.MISSING]


def stale_stages(plan: Plan, *, moved_from: Collection[str] = ()) -> dict[str, str]:
    """The stages that lie there and are out of date, in the plan's order, each with the reason.

    They were made by another recipe, from what is itself out of date, or from what is gone.
    """
    found: dict[str, str] = {}
    for stage in plan.stages:
        if stage.state is State.MISSING:
            continue
        lost = [need for need in stage.needs if need in found or _state_of(plan, need) is State.MISSING]
        if changed := stage.changes(moved_from):
            found[stage.name] = _told(stage, changed[0])
        elif lost:
            found[stage.name] = f"it was made from {lost[0]}"
    return found


def refuse_stale(plan: Plan, *, before: int, moved_from: Collection[str] = ()) -> None:
    """Raise RunError where a stage at a place below `before` was made by another recipe, or from what is gone.

    The message names the first setting that changed and all later stages that were made from the stage.
    """
    for place, stage in enumerate(plan.stages[:before]):
        if changed := stage.changes(moved_from):
            later = plan.invalidated_by([stage.name])
            also = f", and with it {', '.join(later)}" if later else ""
            raise RunError(
                f"{stage.name} was made by another recipe ({_told(stage, changed[0])}), so it is out of date{also}; "
                f"make them again with --from {stage.name}, or take the old setting back"
            )
        lost = [need for need in stage.needs if _state_of(plan, need) is State.MISSING]
        if lost and stage.state is not State.MISSING:
            raise RunError(
                f"{stage.name} is there, but {lost[0]}, which it was made from, is not; make both again with "
                f"--from {plan.stages[min(place, _place(plan, lost[0]))].name}"
            )


def refuse_missing(plan: Plan, *, before: int) -> None:
    """Raise RunError where a stage at a place below `before` is not finished: `--from` relies on it."""
    for stage in plan.stages[:before]:
        if stage.state is not State.DONE:
            raise RunError(
                f"--from {plan.stages[before].name}: {stage.name} comes before it and is "
                f"{'not finished' if stage.state is State.STARTED else 'not there'}; begin with --from {stage.name}"
            )


def _put(table: Any, place: str, product: Product) -> bool:
    """Write a product's path at a place of a recipe that waits for it; False where the recipe has something there."""
    *sections, key = ("model", "path") if place == "model" else place.split("__")
    for section in sections:
        table = table[section]
        if table is None:
            return False
    if table[key] != MADE_BEFORE:
        return False
    table[key] = product.path
    return True


def _told(stage: PlannedStage, path: str) -> str:
    """A setting, what it was, and what it is."""
    before, after = (_at(tree, path) for tree in (stage.recorded(), dump_recipe(stage.recipe)))
    return f"{path} was {_short(before)}, now {_short(after)}"


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 60 else text[:57] + "..."


def _at(tree: object, path: str) -> object:
    for key in path.split("."):
        tree = tree.get(key) if isinstance(tree, Mapping) else None
    return tree


def _place(plan: Plan, name: str) -> int:
    return next(place for place, stage in enumerate(plan.stages) if stage.name == name)


def _state_of(plan: Plan, name: str) -> State:
    return plan.stages[_place(plan, name)].state


def _with_paths(tree: Any, folders: Collection[str], new: str) -> Any:
    """Plain values with paths into any of the folders as paths into `new`."""
    if isinstance(tree, Mapping):
        return {key: _with_paths(value, folders, new) for key, value in tree.items()}
    if isinstance(tree, list):
        return [_with_paths(value, folders, new) for value in tree]
    if not isinstance(tree, str):
        return tree
    old = next((old for old in (new, *folders) if tree == old or tree.startswith(old + "/")), None)
    return tree if old is None else new + tree[len(old) :]
