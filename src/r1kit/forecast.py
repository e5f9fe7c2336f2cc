"""Before a run: what the recipe resolves to, what it will need, and the first example token by token."""

import json
import time
from collections.abc import Sequence
from dataclasses import replace

import torch
from rich.console import Console
from rich.table import Table

from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.pipeline import check_before_start, make_trainee
from r1kit.recipe import PretrainRecipe, Recipe, SFTRecipe, ZeroRecipe, dump_recipe
from r1kit.stages import grpo, pretrain, sft
from r1kit.stages.grpo import Trainee
from r1kit.tasks import sample_problems
from r1kit.training.memory import forecast_bytes

PROBE_TOKENS = 12


def show_dry_run(recipe: Recipe, console: Console) -> None:
    """Print the resolved recipe, a memory and time forecast, and the first training example with its mask."""
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    console.print_json(json.dumps(dump_recipe(recipe), ensure_ascii=False))
    if isinstance(recipe, ZeroRecipe):
        _show_zero(recipe, console)
    elif isinstance(recipe, SFTRecipe):
        policy = load_policy(recipe.model)
        examples = sft.read_examples(recipe.data, ChatTemplate(policy.tokenizer, recipe.template.kind))
        console.print(f"{len(examples)} examples, {sft.num_steps(recipe, examples)} optimizer steps")
        show_tokens(policy, examples[0].prompt_token_ids, examples[0].completion_token_ids, console)
    elif isinstance(recipe, PretrainRecipe):
        policy = pretrain.make_policy(recipe)
        tokens = recipe.pretrain.num_steps * recipe.pretrain.rows_per_step * recipe.pretrain.row_tokens
        console.print(f"{policy.num_parameters():,} parameters, {tokens:,} tokens to read")
        rows = pretrain.corpus_rows(
            ChatTemplate(policy.tokenizer, "nano"), recipe.pretrain.row_tokens, seed=f"{recipe.seed}/0"
        )
        row = next(rows)
        show_tokens(policy, row[:1], row[1:64], console)


def _show_zero(recipe: ZeroRecipe, console: Console) -> None:
    trainee = make_trainee(recipe)
    check_before_start(recipe, trainee)
    seconds = forecast_seconds(recipe, trainee)
    memory = forecast_bytes(
        trainee.policy,
        max_sequences=min(
            recipe.run.max_sequences, recipe.rollouts.problems_per_iteration * recipe.rollouts.group_size
        ),
        positions=recipe.sampling.max_new_tokens + 64,
        tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
        has_reference=trainee.reference is not None,
    )
    console.print(
        f"memory: about {memory / 2**30:.2f} GiB at the peak, with {trainee.policy.num_parameters():,} parameters"
    )
    console.print(
        f"time: at most about {seconds:.1f} s an iteration and {seconds * recipe.rollouts.num_iterations / 60:.0f} min "
        "in all, were every completion of full length (a probe on this machine)"
    )
    problem = sample_problems(recipe.tasks, 1, seed=f"{recipe.seed}/iteration-0", split="train")[0]
    prompt, completion = trainee.sampler.template.example_token_ids(
        problem.prompt, f"<think></think><answer>{problem.gold}</answer>"
    )
    console.print("the first prompt, and its gold as a completion: what would be sampled and trained is marked")
    show_tokens(trainee.policy, prompt, completion, console)


def forecast_seconds(recipe: ZeroRecipe, trainee: Trainee) -> float:
    """Seconds of an iteration in which every completion reaches its full length, from a short probe of both phases.

    The probe's update changes the trainee's weights: it is not fit for training afterwards.
    """
    problems = sample_problems(recipe.tasks, recipe.rollouts.problems_per_iteration, seed="probe", split="train")
    full = recipe.sampling.max_new_tokens
    short = replace(trainee.sampler, sampling=replace(trainee.sampler.sampling, max_new_tokens=PROBE_TOKENS))
    started = time.perf_counter()
    groups = short.groups(problems, recipe.rollouts.group_size, seed="probe")
    sampled = time.perf_counter()
    advantages_PG = torch.ones(len(groups), recipe.rollouts.group_size)
    for minibatch in grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="probe"):
        grpo.update(recipe, trainee, minibatch)
    trained = time.perf_counter() - sampled
    prompt_tokens = len(groups[0].rollouts[0].prompt_token_ids)
    return (sampled - started) * full / PROBE_TOKENS + trained * (prompt_tokens + full) / (prompt_tokens + PROBE_TOKENS)


def show_tokens(policy: Policy, prompt: Sequence[int], completion: Sequence[int], console: Console) -> None:
    """Print an example token by token: number, id, text, and whether it trains."""
    table = Table("position", "id", "token", "trains", box=None)
    for position, token_id in enumerate([*prompt, *completion]):
        token = repr(policy.tokenizer.decode([token_id]))
        table.add_row(str(position), str(token_id), token, "yes" if position >= len(prompt) else "")
    console.print(table)
