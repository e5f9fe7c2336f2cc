"""General examples and preferences of the nano world as files, for the stages that learn from such.

examples.jsonl   prompts with good answers: traces of the domain `general`
pairs.jsonl      `prompt`, `chosen`, `rejected`: what a helpfulness model learns from
safety.jsonl     `prompt`, `completion`, `safe`: what a safety model learns from
done.json        stands there when all of it is done
"""

import json
import random
from pathlib import Path

from rich.console import Console

from r1kit.config.general_data import GeneralDataRecipe
from r1kit.run import Run, disk_errors, write_whole
from r1kit.tasks import sample_problems
from r1kit.tasks.general import example
from r1kit.tasks.general_preferences import write_preferences

EXAMPLES, PAIRS, SAFETY, DONE = "examples.jsonl", "pairs.jsonl", "safety.jsonl", "done.json"


def run_general_data(recipe: GeneralDataRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """Write the files; the same recipe gives the same files."""
    with Run(folder, recipe, resume=resume) as run:
        if (folder / DONE).is_file():
            console.print(f"this data is complete: {folder}", highlight=False)
            return
        rows = general_examples(recipe)
        with disk_errors(run.folder):
            text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
            write_whole(run.folder / EXAMPLES, text)
            write_preferences(
                run.folder, recipe.seed, recipe.num_pairs, recipe.num_safety, length_balanced=recipe.length_balanced
            )
            counts = {"examples": len(rows), "pairs": recipe.num_pairs, "safety": recipe.num_safety}
            write_whole(run.folder / DONE, json.dumps(counts) + "\n")
        console.print(
            f"{len(rows):,} general examples, {recipe.num_pairs:,} preferences, {recipe.num_safety:,} answers marked "
            "safe or not",
            highlight=False,
        )


def general_examples(recipe: GeneralDataRecipe) -> list[dict[str, str]]:
    """Good answers to training prompts of the general world, as rows of traces."""
    rng = random.Random(f"{recipe.seed}/general examples")
    seed = f"{recipe.seed}/general examples"
    problems = sample_problems((recipe.task,), recipe.num_examples, seed=seed, split="train")
    return [
        {
            "prompt": problem.prompt,
            "completion": example(problem, rng),
            "id": f"example/{number}",
            "family": str(problem.meta["family"]),
            "language": problem.language,
            "domain": "general",
            "source": "general world",
        }
        for number, problem in enumerate(problems)
    ]
