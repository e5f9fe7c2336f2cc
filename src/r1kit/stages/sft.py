"""Supervised fine-tuning: cold start, rejection-sampled data and distillation are all this loop."""

import shutil
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from rich.console import Console

from r1kit.config.objective import OptimizerSettings
from r1kit.config.recipes import SFTRecipe, SFTSettings
from r1kit.insight.steps import StepProgress
from r1kit.insight.token_view import token_text
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.policy import Policy
from r1kit.objectives.token_weights import token_mean
from r1kit.run import Run
from r1kit.stages.examples import (
    Example,
    collate_examples,
    examples_of,
    read_example_file,
    read_examples,
    split_rows,
)
from r1kit.stages.pretrain import next_token_loss
from r1kit.stages.validation import Validation
from r1kit.training.batch import Batch, shuffled_split
from r1kit.training.checkpoint import (
    Progress,
    latest_checkpoint,
    load_checkpoint,
    load_weights,
    save_checkpoint,
    save_model,
)
from r1kit.training.memory import peak_memory_bytes, return_free_memory
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import Update, optimizer_step

__all__ = ["Corpus", "Example", "collate_examples", "examples_of", "fit", "read_corpus", "read_examples", "train_sft"]

BEST = "best"
"""In a run's folder: the weights of the best validation so far, where there is patience."""
SHOWN = 4
"""Examples of the first batch that log.txt shows token by token."""
LINE_INTERVAL_STEPS = 20


@dataclass(frozen=True, slots=True)
class Corpus:
    """What a recipe trains and validates on."""

    training: Sequence[Example]
    validation: Sequence[Example] = ()
    notes: Sequence[str] = ()
    """What to say of rows that were passed over."""


def read_corpus(recipe: SFTRecipe, policy: Policy, template: ChatTemplate) -> Corpus:
    """The examples of a recipe's files, split where it asks for that; raises DataError for what can't be trained on."""
    sft = recipe.sft
    max_tokens = sft.max_tokens or getattr(policy.model.config, "max_position_embeddings", None)
    found = read_example_file(recipe.data, template, max_tokens=max_tokens, bad_rows=sft.bad_rows, limit=sft.limit)
    if recipe.validation_data is not None:
        other = read_example_file(recipe.validation_data, template, max_tokens=max_tokens, bad_rows=sft.bad_rows)
        return Corpus(found.examples, other.examples, [*found.notes, *other.notes])
    if sft.validation_share:
        return Corpus(*split_rows(found.rows, sft.validation_share, seed=recipe.seed), found.notes)
    return Corpus(found.examples, (), found.notes)


def train_sft(recipe: SFTRecipe, policy: Policy, corpus: Corpus, run: Run, console: Console) -> None:
    """Fine-tune on a corpus, from the run's last checkpoint if there is one, and save under `final/`.

    Returns early, with a checkpoint written, where the run is asked to stop.
    """
    examples, total = corpus.training, num_steps(recipe.sft, corpus.training)
    optimizer = Optimizer(policy, recipe.optimizer, total_steps=total)
    done = 0
    if checkpoint := latest_checkpoint(run.checkpoints):
        done = load_checkpoint(checkpoint, policy, optimizer, None).steps_done
    run.cut_back(done)
    validation = Validation(corpus.validation, recipe.sft, total // recipe.sft.num_epochs)
    validation.recall(run.read("metrics.jsonl"))
    with StepProgress("fine-tuning", total=total, done=done, console=console) as progress:
        for step, minibatch in enumerate(minibatches(recipe.sft, examples, seed=recipe.seed)):
            if step < done:
                continue
            if validation.is_over:
                break
            row = _step(recipe, policy, optimizer, minibatch, step)
            if validation.is_due(step + 1):
                _validate(recipe, policy, validation, row, run)
            run.log_metrics(row)
            _say(row, total, run, console)
            progress.advance(f"loss {row['loss']:.4f}")
            return_free_memory()
            if (step + 1) % recipe.run.checkpoint_interval_iterations == 0 or run.stop_requested:
                reached = Progress(iterations_done=step + 1, steps_done=step + 1)
                save_checkpoint(run.checkpoints, policy, optimizer, None, reached, keep=recipe.run.keep_checkpoints)
            if run.stop_requested:
                return
    _finish(recipe, policy, validation, run, console)


def show_first_batch(corpus: Corpus, recipe: SFTRecipe, template: ChatTemplate, run: Run, console: Console) -> None:
    """Count the first batch on the console, and write its first examples token by token to log.txt."""
    rows = next(iter(_batch_rows(recipe.sft, len(corpus.training), seed=recipe.seed)))
    batch = [corpus.training[row] for row in rows]
    tokens, trained = sum(e.num_tokens for e in batch), sum(e.num_trained for e in batch)
    line = (
        f"{len(corpus.training):,} examples to train on, {len(corpus.validation):,} to validate on; the first batch: "
    )
    line += f"{len(batch):,} examples, {tokens:,} tokens, {trained:,} of which train"
    for note in (*corpus.notes, line):
        run.log_text(note)
        console.print(note, highlight=False, soft_wrap=True)
    for number, example in enumerate(batch[:SHOWN], 1):
        run.log_text(f"example {number} of the first batch:\n{token_text(template, example.row)}")


def fit(
    policy: Policy, examples: Sequence[Example], *, sft: SFTSettings, optimizer: OptimizerSettings, seed: int
) -> list[float]:
    """Fine-tune a policy in place, without a run's folder; returns the loss of each step."""
    adamw = Optimizer(policy, optimizer, total_steps=num_steps(sft, examples))
    return [sft_step(policy, adamw, minibatch).loss for minibatch in minibatches(sft, examples, seed=seed)]


def num_steps(sft: SFTSettings, examples: Sequence[Example]) -> int:
    """Optimizer steps of all epochs."""
    return sft.num_epochs * -(-len(examples) // sft.examples_per_step)


def minibatches(sft: SFTSettings, examples: Sequence[Example], *, seed: int) -> Iterator[Batch]:
    """All minibatches of all epochs, each epoch in an order of its own; every token weighs the same within one."""
    for rows in _batch_rows(sft, len(examples), seed=seed):
        batch = collate_examples([examples[row] for row in rows])
        yield replace(batch, token_weights_BT=token_mean(batch.completion_mask_BT))


def sft_step(
    policy: Policy, optimizer: Optimizer, minibatch: Batch, *, max_tokens_per_microbatch: int = 2048
) -> Update:
    """One optimizer step on one minibatch."""
    return optimizer_step(
        policy,
        optimizer,
        minibatch,
        next_token_loss,
        temperature=1.0,
        max_tokens_per_microbatch=max_tokens_per_microbatch,
    )


def _batch_rows(sft: SFTSettings, num_examples: int, *, seed: int) -> Iterator[list[int]]:
    per_epoch = -(-num_examples // sft.examples_per_step)
    for epoch in range(sft.num_epochs):
        yield from shuffled_split(num_examples, per_epoch, seed=f"{seed}/epoch-{epoch}")


def _step(recipe: SFTRecipe, policy: Policy, optimizer: Optimizer, minibatch: Batch, step: int) -> dict[str, Any]:
    """One step, and what metrics.jsonl says of it."""
    started, learning_rate = time.perf_counter(), optimizer.learning_rate
    update = sft_step(policy, optimizer, minibatch, max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch)
    seconds, tokens = time.perf_counter() - started, int(minibatch.lengths_B.sum())
    return {
        "iteration": step,
        "step": step + 1,
        "loss": update.loss,
        "grad_norm": update.grad_norm,
        "learning_rate": learning_rate,
        "num_tokens": tokens,
        "seconds": seconds,
        "tokens_per_second": tokens / seconds,
        "peak_memory_bytes": peak_memory_bytes(),
    }


def _validate(recipe: SFTRecipe, policy: Policy, validation: Validation, row: dict[str, Any], run: Run) -> None:
    """Add the validation loss to a row; the best weights are kept where training may stop early."""
    loss = validation.loss(policy, max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch)
    row["validation_loss"] = loss
    if validation.note(loss) and recipe.sft.patience:
        save_model(policy, run.folder / BEST)


def _say(row: dict[str, Any], total: int, run: Run, console: Console) -> None:
    validated = row.get("validation_loss")
    if row["iteration"] % LINE_INTERVAL_STEPS == 0 or validated is not None:
        line = f"step {row['iteration']}/{total}  loss {row['loss']:.4f}"
        line += "" if validated is None else f"  validation {validated:.4f}"
        run.log_text(line)
        console.print(line, highlight=False)


def _finish(recipe: SFTRecipe, policy: Policy, validation: Validation, run: Run, console: Console) -> None:
    """Write `final/`: the last weights, or with patience the best ones."""
    best: Path = run.folder / BEST
    if recipe.sft.patience and best.is_dir():
        load_weights(best, policy)
        line = f"the weights of the best validation are taken: {validation.best:.4f}"
        line += f" (stopped after {validation.num_worse} without a better one)" if validation.is_over else ""
        run.log_text(line)
        console.print(line, highlight=False)
    save_model(policy, run.final)
    shutil.rmtree(best, ignore_errors=True)
