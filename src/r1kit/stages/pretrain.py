"""A new base model of the nano world: tokenizer, network and weights, from a generated corpus."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import islice

import torch
from rich.console import Console
from torch import Tensor

from r1kit.models import nano
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.placement import DTYPES
from r1kit.models.policy import Policy, TokenStats
from r1kit.objectives.sft_loss import sft_loss
from r1kit.objectives.token_weights import token_mean
from r1kit.recipe import PretrainRecipe
from r1kit.run import Run
from r1kit.tasks.nano_corpus import documents
from r1kit.training.batch import Batch, collate_tokens
from r1kit.training.checkpoint import Progress, latest_checkpoint, load_checkpoint, save_checkpoint, save_model
from r1kit.training.optimizer import Optimizer
from r1kit.training.step import optimizer_step


def train_base(recipe: PretrainRecipe, run: Run, console: Console) -> None:
    """Train a base model from nothing, or from the run's last checkpoint, and save it in bfloat16 under `final/`."""
    settings = recipe.pretrain
    policy = make_policy(recipe)
    optimizer = Optimizer(policy, recipe.optimizer, total_steps=settings.num_steps)
    progress = Progress(iterations_done=0, steps_done=0)
    if checkpoint := latest_checkpoint(run.checkpoints):
        progress = load_checkpoint(checkpoint, policy, optimizer, None)
    run.cut_back(progress.steps_done)
    template = ChatTemplate(policy.tokenizer, "nano")
    for step in range(progress.steps_done, settings.num_steps):
        started = time.perf_counter()
        batch = collate_rows(
            corpus_rows(template, settings.row_tokens, seed=f"{recipe.seed}/{step}"), settings.rows_per_step
        )
        update = optimizer_step(
            policy,
            optimizer,
            batch,
            next_token_loss,
            temperature=1.0,
            max_tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
        )
        seconds = time.perf_counter() - started
        tokens_per_second = settings.rows_per_step * settings.row_tokens / seconds
        row = {"iteration": step, "step": step + 1, "loss": update.loss, "grad_norm": update.grad_norm}
        run.log_metrics(row | {"seconds": seconds, "tokens_per_second": tokens_per_second})
        if step % 20 == 0:
            left = (settings.num_steps - step) * seconds / 60
            line = f"step {step}/{settings.num_steps}  loss {update.loss:.4f}  {tokens_per_second:.0f} tokens/s"
            line += f"  {left:.0f} min left"
            run.log_text(line)
            console.print(line, highlight=False)
        if (step + 1) % settings.checkpoint_interval_steps == 0 or run.stop_requested:
            done = Progress(iterations_done=step + 1, steps_done=step + 1)
            save_checkpoint(run.checkpoints, policy, optimizer, None, done, keep=recipe.run.keep_checkpoints)
        if run.stop_requested:
            return
    policy.model.to(torch.bfloat16)
    save_model(policy, run.final)
    console.print(f"the base model is in {run.final}", highlight=False)


def make_policy(recipe: PretrainRecipe) -> Policy:
    """A network with random weights, and a tokenizer made from the corpus."""
    settings = recipe.pretrain
    texts = (
        nano.NANO_DOCUMENT.format(question=question, completion=completion)
        for question, completion in islice(documents(f"{recipe.seed}/tokenizer"), settings.tokenizer_documents)
    )
    tokenizer = nano.make_tokenizer(texts, recipe.architecture.vocab_size)
    model = nano.make_model(recipe.architecture, tokenizer, seed=recipe.seed)
    # Rows are short, and the fused attention's bfloat16 backward on a processor is not made for them: plain products
    # train 1.9 times as fast (measured at 64 rows of 128 tokens).
    model.set_attn_implementation("eager")
    return Policy(model, tokenizer, compute_dtype=DTYPES[settings.compute_dtype])


def corpus_rows(template: ChatTemplate, row_tokens: int, *, seed: str) -> Iterator[list[int]]:
    """Rows of documents laid end to end; each begins with a new document, and the last one of a row is cut."""
    row: list[int] = []
    for question, completion in documents(seed):
        prompt, rest = template.example_token_ids(question, completion)
        row += [*prompt, *rest]
        if len(row) > row_tokens:
            yield row[: row_tokens + 1]
            row = []


def collate_rows(rows: Iterator[list[int]], num_rows: int) -> Batch:
    """A batch in which every token but the first of each row is predicted, all with the same weight."""
    chosen = list(islice(rows, num_rows))
    batch = collate_tokens([row[:1] for row in chosen], [row[1:] for row in chosen])
    return replace(batch, token_weights_BT=token_mean(batch.completion_mask_BT))


def next_token_loss(stats: TokenStats, batch: Batch) -> tuple[Tensor, Mapping[str, Tensor]]:
    """Cross-entropy over the tokens under the mask."""
    return sft_loss(stats.logprobs_BT, token_weights_BT=batch.token_weights_BT), {}
