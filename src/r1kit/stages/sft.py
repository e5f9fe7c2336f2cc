"""Supervised fine-tuning: cold start, rejection-sampled data and distillation are all this loop."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from r1kit.config.objective import OptimizerSettings
from r1kit.config.recipes import SFTRecipe, SFTSettings
from r1kit.errors import DataError
from r1kit.models.chat_template import ChatTemplate, TrainingRow
from r1kit.models.policy import Policy
from r1kit.models.template_lint import lint_row
from r1kit.objectives.token_weights import token_mean
from r1kit.run import Run
from r1kit.stages.pretrain import next_token_loss
from r1kit.training.batch import Batch, collate_tokens, shuffled_split
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint, save_model
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import optimizer_step


@dataclass(frozen=True, slots=True)
class Example:
    """One SFT example, as tokens; nothing of the prompt trains."""

    prompt_token_ids: tuple[int, ...]
    completion_token_ids: tuple[int, ...]
    trainable: tuple[bool, ...] | None = None
    """Which completion tokens train, where a conversation goes on after the first answer; None: all."""

    @property
    def row(self) -> TrainingRow:
        """Prompt and completion in one, with what trains of them."""
        whole = TrainingRow.of(self.prompt_token_ids, self.completion_token_ids)
        if self.trainable is None:
            return whole
        return TrainingRow(whole.token_ids, (False,) * len(self.prompt_token_ids) + self.trainable)

    @classmethod
    def of(cls, row: TrainingRow) -> "Example":
        """A row of tokens, its prompt being all before the first token that trains."""
        first = row.trainable.index(True)
        mask = row.trainable[first:]
        return cls(row.token_ids[:first], row.token_ids[first:], None if all(mask) else mask)


def read_examples(path: Path, template: ChatTemplate) -> list[Example]:
    """The examples of a JSON Lines file whose rows have `messages`, or `prompt` and `completion`.

    A prompt is a question or a list of messages. Raises DataError with the line of a row that is bad or would train
    something else than it seems to.
    """
    try:
        lines = path.read_text("utf-8").split("\n")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: cannot be read: {error}") from None
    examples = []
    for number, line in enumerate(lines if lines[-1] else lines[:-1], 1):
        try:
            examples += examples_of(json.loads(line), template)
        except json.JSONDecodeError as error:
            raise DataError(f"{path}:{number}: not valid JSON: {error.msg} at column {error.colno}") from None
        except RecursionError:
            raise DataError(f"{path}:{number}: too deeply nested") from None
        except DataError as error:
            raise DataError(f"{path}:{number}: {error}") from None
    if not examples:
        raise DataError(f"{path}: holds no examples")
    return examples


def examples_of(row: object, template: ChatTemplate) -> list[Example]:
    """The examples of one row of data, each checked; a conversation makes several where its template asks for that.

    Of `messages` every turn of the assistant trains, of `prompt` and `completion` the completion alone.
    """
    rows = _training_rows(row, template)
    for made in rows:
        lint_row(template, made)
    return [Example.of(made) for made in rows]


def _training_rows(row: object, template: ChatTemplate) -> list[TrainingRow]:
    if not isinstance(row, dict) or not ("messages" in row or {"prompt", "completion"} <= row.keys()):
        has = f"; it has {', '.join(map(str, row)) or 'nothing'}" if isinstance(row, dict) else ""
        raise DataError(f"not a JSON object with `messages`, or with `prompt` and `completion`{has}")
    if "messages" in row:
        if not isinstance(row["messages"], list):
            raise DataError("`messages` must be a list")
        return template.training_rows(row["messages"])
    if not isinstance(row["prompt"], str | list) or not isinstance(row["completion"], str):
        raise DataError("`prompt` must be a string or a list of messages, and `completion` a string")
    return [TrainingRow.of(*template.example_token_ids(row["prompt"], row["completion"]))]


def train_sft(recipe: SFTRecipe, policy: Policy, examples: Sequence[Example], run: Run, console: Console) -> None:
    """Fine-tune on examples, from the run's last checkpoint if there is one, and save under `final/`."""
    optimizer = Optimizer(policy, recipe.optimizer, total_steps=num_steps(recipe.sft, examples))
    progress = Progress(iterations_done=0, steps_done=0)
    if checkpoint := latest_checkpoint(run.checkpoints):
        progress = load_checkpoint(checkpoint, policy, optimizer, None)
    run.cut_back(progress.steps_done)
    for step, minibatch in enumerate(minibatches(recipe.sft, examples, seed=recipe.seed)):
        if step < progress.steps_done:
            continue
        loss = sft_step(policy, optimizer, minibatch, max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch)
        run.log_metrics({"iteration": step, "step": step + 1, "loss": loss})
        if step % 20 == 0:
            line = f"step {step}/{num_steps(recipe.sft, examples)}  loss {loss:.4f}"
            run.log_text(line)
            console.print(line, highlight=False)
        if (step + 1) % recipe.run.checkpoint_interval_iterations == 0 or run.stop_requested:
            done = Progress(iterations_done=step + 1, steps_done=step + 1)
            save_checkpoint(run.checkpoints, policy, optimizer, None, done, keep=recipe.run.keep_checkpoints)
        if run.stop_requested:
            return
    save_model(policy, run.final)


def fit(
    policy: Policy, examples: Sequence[Example], *, sft: SFTSettings, optimizer: OptimizerSettings, seed: int
) -> list[float]:
    """Fine-tune a policy in place, without a run's folder; returns the loss of each step."""
    adamw = Optimizer(policy, optimizer, total_steps=num_steps(sft, examples))
    return [sft_step(policy, adamw, minibatch) for minibatch in minibatches(sft, examples, seed=seed)]


def num_steps(sft: SFTSettings, examples: Sequence[Example]) -> int:
    """Optimizer steps of all epochs."""
    return sft.num_epochs * -(-len(examples) // sft.examples_per_step)


def minibatches(sft: SFTSettings, examples: Sequence[Example], *, seed: int) -> Iterator[Batch]:
    """All minibatches of all epochs, each epoch in an order of its own; every token weighs the same within one."""
    per_epoch = -(-len(examples) // sft.examples_per_step)
    for epoch in range(sft.num_epochs):
        for rows in shuffled_split(len(examples), per_epoch, seed=f"{seed}/epoch-{epoch}"):
            chosen = [examples[row] for row in rows]
            batch = collate_examples(chosen)
            yield replace(batch, token_weights_BT=token_mean(batch.completion_mask_BT))


def collate_examples(examples: Sequence[Example]) -> Batch:
    """The tensors of examples; only what trains of them is under the mask, whatever its token id is."""
    batch = collate_tokens([e.prompt_token_ids for e in examples], [e.completion_token_ids for e in examples])
    for row, example in enumerate(examples):
        if example.trainable is not None:
            first = len(example.prompt_token_ids)
            batch.completion_mask_BT[row, first : first + len(example.trainable)] = torch.tensor(example.trainable)
    return batch


def sft_step(policy: Policy, optimizer: Optimizer, minibatch: Batch, *, max_tokens_per_microbatch: int = 2048) -> float:
    """One optimizer step on one minibatch; returns its loss."""
    return optimizer_step(
        policy,
        optimizer,
        minibatch,
        next_token_loss,
        temperature=1.0,
        max_tokens_per_microbatch=max_tokens_per_microbatch,
    ).loss
