"""Claims without models: stages that only leave what marks them as done, and figures that are made up."""

import json
from io import StringIO
from pathlib import Path

import pytest
from rich.console import Console

from r1kit.claims import gathering
from r1kit.claims.session import run_claims
from r1kit.pipeline import plan_r1
from r1kit.recipe import dump_recipe, load_recipe

RECIPE = Path(__file__).parents[2] / "recipes" / "nano" / "claims.toml"
FIXED = ["ablation.rl={}", "language.rl={rollouts={num_iterations=40}}"]
"""Settings that the tests name, whatever the recipe says: R1-Zero itself is the GRPO run."""
FIGURES = {
    "n": 10,
    "k": 4,
    "pass_at_1": 0.8,
    "cons_at_k": 0.9,
    "mixed_language_share": 0.2,
    "language_consistency": 0.99,
    "think_share": 1.0,
    "readable_share": 0.97,
    "truth": 0.5,
    "refused_harmful_share": 0.9,
    "refused_harmless_share": 0.1,
    "thinking": {"pairs 4": {"tokens": 20.0}, "pairs 6": {"tokens": 30.0}},
}
TESTS = [
    {
        "iteration": n,
        "general": {"by_model": {"helpfulness": {"grade": g, "grade_stderr": 0.01, "pass_at_1": t}}},
        "completion_tokens": 5,
        "trained_tokens": 6,
        "num_tokens": 7,
    }
    for n, g, t in [(0, 0.4, 0.5), (4, 0.6, 0.6), (8, 0.9, 0.1)]
]


class Rehearsal:
    """Runs claims as `r1 train` does, but for what stages and models do."""

    def __init__(self, monkeypatch):
        self.trained, self.measured, self.stop_at = [], [], None
        monkeypatch.setattr(gathering, "measured", self._measured)
        monkeypatch.setattr(gathering, "problem_sets", lambda *options, **more: {})

    def _measured(self, checkpoint, settings, sets, folder, *, seed):
        self.measured.append((folder.name, checkpoint.name))
        return {"reasoning": FIGURES, "general": FIGURES, "seconds": 1.5}, True

    def _train(self, recipe, folder, resume):
        name = f"{folder.parent.name}/{folder.name}"
        self.trained.append(str(folder))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "recipe.json").write_text(json.dumps({"recipe": dump_recipe(recipe)}))
        if self.stop_at and name.endswith(self.stop_at[0]):
            raise self.stop_at[1]
        (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in TESTS))
        (folder / "samples.jsonl").write_text('{"completions": [{"num_tokens": 3}, {"num_tokens": 4}]}\n')
        (folder / "final").mkdir(exist_ok=True)
        (folder / "done.json").write_text("{}")

    def run(self, folder, *overrides, resume=False):
        """Run recipes/nano/claims.toml, and return what was printed."""
        self.trained.clear()
        self.measured.clear()
        text = StringIO()
        recipe = load_recipe(RECIPE, [*FIXED, *overrides])
        console = Console(file=text, width=300)
        run_claims(recipe, folder, make_plan=plan_r1, train=self._train, resume=resume, console=console)
        return text.getvalue()


@pytest.fixture
def rehearsal(monkeypatch):
    return Rehearsal(monkeypatch)
