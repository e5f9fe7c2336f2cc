"""Reward models: a network with one score for its head, trained on preferences (arXiv:2501.12948v2, section 3.1).

N: pairs or single completions of a minibatch
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from r1kit.config.reward_model import RewardModelRecipe
from r1kit.errors import Interrupted
from r1kit.evaluation.metrics import clustered_stderr
from r1kit.insight.report import write_report
from r1kit.models.reward import (
    RewardCard,
    RewardModel,
    describe,
    last_values,
    read_scores,
    score_rows,
    tokenizer_digest,
    use_own_padding,
)
from r1kit.models.scalar import load_scalar
from r1kit.objectives.preference_loss import correlation, expected_calibration_error, pairwise_loss, pointwise_loss
from r1kit.run import Run
from r1kit.stages.preference_data import Preference, PreferenceSet, longer_chosen_share, read_preferences
from r1kit.training.batch import shuffled_split
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint, save_model
from r1kit.training.memory import tokens_within_budget
from r1kit.training.optimizer import Optimizer
from r1kit.training.scalar_step import ScalarRows, scalar_step


def run_reward_model(recipe: RewardModelRecipe, folder: Path, *, resume: bool, console: Console) -> None:
    """Train a reward model in a folder, from the start or from its last checkpoint, to `final/`."""
    model = make_reward_model(recipe)
    preferences = read_preferences(recipe, model)
    with Run(folder, recipe, resume=resume) as run:
        if run.final.is_dir():
            console.print(f"this run is complete; the model is in {run.final}", highlight=False)
            return
        for note in preferences.notes:
            _say(note, run, console)
        train_reward_model(recipe, model, preferences, run, console)
        if run.stop_requested:
            raise Interrupted(f"interrupted; everything is saved, go on with --run {run.folder} --resume")
        console.print(f"model:  {run.final}", highlight=False)
        write_report([run.folder], run.folder / "report.html")
        console.print(f"report: {run.folder / 'report.html'}", highlight=False)


def make_reward_model(recipe: RewardModelRecipe) -> RewardModel:
    """The recipe's language model with a new head; all its scores are 0."""
    scalar = load_scalar(recipe.model, trains=True, is_new=True)
    card = RewardCard(
        loss=recipe.loss,
        sees=recipe.sees,
        template=recipe.template.model_dump(mode="json"),
        tokenizer=tokenizer_digest(scalar.tokenizer),
    )
    model = RewardModel(scalar, card)
    model.template.lint("?")
    describe(scalar, card)
    use_own_padding(scalar, model.template.end_id)
    return model


def train_reward_model(
    recipe: RewardModelRecipe, model: RewardModel, preferences: PreferenceSet, run: Run, console: Console
) -> None:
    """Train on preferences, from the run's last checkpoint if there is one, test, and save under `final/`."""
    total_steps = num_steps(recipe, preferences.train)
    optimizer = Optimizer(model.scalar, recipe.optimizer, total_steps=total_steps)
    progress = Progress(iterations_done=0, steps_done=0)
    if checkpoint := latest_checkpoint(run.checkpoints):
        progress = load_checkpoint(checkpoint, model.scalar, optimizer, None)
    run.cut_back(progress.steps_done)
    for step, batch in enumerate(minibatches(recipe, preferences.train)):
        if step < progress.steps_done:
            continue
        every = recipe.reward_model.test_interval_steps
        is_due = step == 0 or (every > 0 and step % every == 0)
        test = {"test": held_out_figures(recipe, model, preferences.held_out)} if is_due else {}
        update = scalar_step(model.scalar, optimizer, microbatches(recipe, model, batch))
        row = {"iteration": step, "step": step + 1, "loss": update.loss, "grad_norm": update.grad_norm, **test}
        run.log_metrics(row)
        _say(f"step {step + 1}/{total_steps}  loss {update.loss:.4f}{_told(test)}", run, console)
        if (step + 1) % recipe.run.checkpoint_interval_iterations == 0 or run.stop_requested:
            done = Progress(iterations_done=step + 1, steps_done=step + 1)
            save_checkpoint(run.checkpoints, model.scalar, optimizer, None, done, keep=recipe.run.keep_checkpoints)
        if run.stop_requested:
            return
    finish(recipe, model, preferences, run, console)


def finish(
    recipe: RewardModelRecipe, model: RewardModel, preferences: PreferenceSet, run: Run, console: Console
) -> None:
    """Test the trained model, write into it what its scores are measured from, and save it."""
    total_steps = num_steps(recipe, preferences.train)
    run.cut_back(total_steps)
    test = held_out_figures(recipe, model, preferences.held_out)
    run.log_metrics({"iteration": total_steps, "step": total_steps, "test": test})
    _say(f"end{_told({'test': test})}", run, console)
    # A point-wise score is a log-odds by itself; a pair-wise one has no zero of its own.
    centre = test["mean_score"] if recipe.loss == "pairwise" else 0.0
    describe(model.scalar, replace(model.card, centre=centre))
    save_model(model.scalar, run.final)


def num_steps(recipe: RewardModelRecipe, train: Sequence[Preference]) -> int:
    """Optimizer steps of all epochs."""
    return recipe.reward_model.num_epochs * -(-len(train) // recipe.reward_model.examples_per_step)


def minibatches(recipe: RewardModelRecipe, train: Sequence[Preference]) -> Iterator[list[Preference]]:
    """All minibatches of all epochs, each epoch in an order of its own."""
    per_epoch = -(-len(train) // recipe.reward_model.examples_per_step)
    for epoch in range(recipe.reward_model.num_epochs):
        for rows in shuffled_split(len(train), per_epoch, seed=f"{recipe.seed}/epoch-{epoch}"):
            yield [train[row] for row in rows]


def microbatches(recipe: RewardModelRecipe, model: RewardModel, batch: Sequence[Preference]) -> Iterator[ScalarRows]:
    """The minibatch in parts that fit memory; a pair is never parted, and each example counts the same."""
    room = tokens_within_budget(model.scalar, recipe.run.max_tokens_per_microbatch)
    for part in parts_by_tokens(batch, room):
        token_ids_BT, mask_BT = score_rows([tokens for preference in part for tokens in preference.replies])
        yield ScalarRows(token_ids_BT, mask_BT, partial(preference_loss, part, mask_BT, 1 / len(batch)))


def preference_loss(part: Sequence[Preference], mask_BT: Tensor, weight: float, values_BT: Tensor) -> Tensor:
    """The loss of some preferences, rows of pairs following each other, from the network's values."""
    scores_B = last_values(values_BT, mask_BT)
    weights_N = torch.full((len(part),), weight, device=scores_B.device)
    if part[0].is_safe is None:
        return pairwise_loss(scores_B[0::2], scores_B[1::2], weights_N)
    labels_N = torch.tensor([float(bool(preference.is_safe)) for preference in part], device=scores_B.device)
    return pointwise_loss(scores_B, labels_N, weights_N)


def parts_by_tokens(batch: Sequence[Preference], max_tokens: int) -> list[list[Preference]]:
    """The preferences, those with the longest rows first, in lists of at most `max_tokens` tokens, or of one."""
    parts: list[list[Preference]] = []
    room = 0
    for preference in sorted(batch, key=lambda preference: -preference.num_tokens):
        needed = sum(len(prompt) + len(reply) for prompt, reply in preference.replies)
        if needed > room:
            parts.append([])
            room = max(max_tokens, needed)
        parts[-1].append(preference)
        room -= needed
    return parts


def held_out_figures(recipe: RewardModelRecipe, model: RewardModel, held_out: Sequence[Preference]) -> dict[str, Any]:
    """How good the scores are on held-out preferences, and how much of that is length."""
    # Cut like a minibatch, and put back into the order of the rows.
    scores = _scores_of(recipe, model, held_out)
    scores_B = torch.tensor([score for found in scores for score in found], dtype=torch.float64)
    lengths_B = torch.tensor([len(reply) for example in held_out for _, reply in example.replies], dtype=torch.float64)
    figures: dict[str, Any] = {
        "n": len(held_out),
        "mean_score": float(scores_B.mean()),
        "score_std": float(scores_B.std(correction=0)),
        "length_correlation": correlation(scores_B, lengths_B),
    }
    if recipe.loss == "pairwise":
        return figures | _pair_figures(held_out, torch.tensor(scores, dtype=torch.float64))
    return figures | _point_figures(held_out, scores_B)


def _pair_figures(held_out: Sequence[Preference], scores_N2: Tensor) -> dict[str, Any]:
    """A pair of equal scores is half right. Calibration is that of both orders of each pair."""
    delta_N = scores_N2[:, 0] - scores_N2[:, 1]
    right_N = (delta_N > 0).double() + (delta_N == 0) * 0.5
    both_N, outcomes_N = torch.cat([delta_N, -delta_N]).sigmoid(), torch.tensor([1.0, 0.0])
    weights_N = torch.full_like(delta_N, 1 / len(delta_N))
    return {
        "accuracy": float(right_N.mean()),
        "accuracy_stderr": _stderr(held_out, right_N),
        "loss": float(pairwise_loss(scores_N2[:, 0], scores_N2[:, 1], weights_N)),
        "calibration_error": expected_calibration_error(both_N, outcomes_N.repeat_interleave(len(delta_N))),
        "mean_margin": float(delta_N.mean()),
        "longer_chosen_share": longer_chosen_share(held_out),
    }


def _point_figures(held_out: Sequence[Preference], scores_N: Tensor) -> dict[str, Any]:
    labels_N = torch.tensor([float(bool(example.is_safe)) for example in held_out], dtype=torch.float64)
    right_N = ((scores_N > 0) == labels_N.bool()).double()
    weights_N = torch.full_like(labels_N, 1 / len(labels_N))
    return {
        "accuracy": float(right_N.mean()),
        "accuracy_stderr": _stderr(held_out, right_N),
        "accuracy_safe": float(right_N[labels_N == 1].mean()) if bool((labels_N == 1).any()) else None,
        "accuracy_unsafe": float(right_N[labels_N == 0].mean()) if bool((labels_N == 0).any()) else None,
        "loss": float(pointwise_loss(scores_N, labels_N, weights_N)),
        "calibration_error": expected_calibration_error(scores_N.sigmoid(), labels_N),
        "safe_share": float(labels_N.mean()),
    }


@torch.no_grad()
def _scores_of(
    recipe: RewardModelRecipe, model: RewardModel, examples: Sequence[Preference]
) -> list[tuple[float, ...]]:
    found: dict[int, tuple[float, ...]] = {}
    for part in parts_by_tokens(examples, recipe.run.max_tokens_per_microbatch):
        scores = read_scores(model.scalar, *score_rows([tokens for example in part for tokens in example.replies]))
        width = len(part[0].replies)
        for number, example in enumerate(part):
            found[id(example)] = tuple(scores[number * width : (number + 1) * width].tolist())
    return [found[id(example)] for example in examples]


def _stderr(held_out: Sequence[Preference], right_N: Tensor) -> float:
    """Clustered by prompt: pairs of one prompt stand and fall together."""
    clusters: dict[str, list[float]] = {}
    for example, right in zip(held_out, right_N.tolist(), strict=True):
        clusters.setdefault(example.prompt, []).append(right)
    return clustered_stderr(list(clusters.values()))


def _told(test: dict[str, Any]) -> str:
    if not test:
        return ""
    found = test["test"]
    return (
        f"  held-out accuracy {found['accuracy']:.1%} ±{found['accuracy_stderr']:.1%} (n {found['n']})"
        f"  calibration error {found['calibration_error']:.3f}  score x length {found['length_correlation']:+.2f}"
    )


def _say(line: str, run: Run, console: Console) -> None:
    run.log_text(line)
    console.print(line, highlight=False, soft_wrap=True)
