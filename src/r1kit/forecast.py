"""Before a run: what the recipe resolves to, what it will need, and the first example token by token."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console
from rich.table import Table

from r1kit.claims.session import own_stages
from r1kit.claims.stages import SeedPlan, plan_seed
from r1kit.claims.statements import chosen
from r1kit.config.claims import ClaimsRecipe
from r1kit.config.general_data import GeneralDataRecipe
from r1kit.config.preferences import PreferencesRecipe
from r1kit.config.rejection import RejectionRecipe
from r1kit.config.reward_model import RewardModelRecipe
from r1kit.config.rollouts import RewardSettings
from r1kit.insight.token_view import token_lines
from r1kit.models.chat_template import ChatTemplate, TrainingRow
from r1kit.models.loading import load_policy
from r1kit.objectives.advantages import group_norm_advantages
from r1kit.pipeline import plan_of, plan_r1
from r1kit.recipe import (
    DistillRecipe,
    PretrainRecipe,
    R1Recipe,
    Recipe,
    SFTRecipe,
    StageRecipe,
    ZeroRecipe,
    dump_recipe,
)
from r1kit.rewards.audit import refuse_bad_rewards
from r1kit.stage_plan import Plan
from r1kit.stage_runner import WHOLE, Cut
from r1kit.stages import grpo, ppo, pretrain, sft
from r1kit.stages.grpo import Trainee
from r1kit.stages.preference_data import read_preferences
from r1kit.stages.preparation import check_before_start, forecast_memory, make_trainee
from r1kit.stages.prompting import on_route
from r1kit.stages.rejection import make_draw
from r1kit.stages.reward_model import make_reward_model, num_steps
from r1kit.tasks import sample_problems
from r1kit.types import Rollout


def show_dry_run(recipe: Recipe, console: Console, folder: Path | None = None, cut: Cut = WHOLE) -> None:
    """Print the resolved recipe, a memory and time forecast, and the first training example with its mask.

    Of a recipe with several stages, print them, each with its size and how far it is in the folder.
    """
    if recipe.run.num_threads:
        torch.set_num_threads(recipe.run.num_threads)
    if isinstance(recipe, R1Recipe | DistillRecipe):
        plan = plan_of(recipe, folder or Path("runs") / recipe.kind)
        cut.places(plan)  # a stage that isn't there is refused before anything is printed
        _show_recipe(recipe, console)
        return show_plan(plan, cut, console)
    cut.refuse_for(recipe)
    if isinstance(recipe, ClaimsRecipe):
        seed_plan = plan_seed(recipe, recipe.seeds[0], folder or Path("runs") / recipe.kind, plan_r1)
        _show_recipe(recipe, console)
        return show_claims(seed_plan, console)
    _show_recipe(recipe, console)
    if isinstance(recipe, ZeroRecipe):
        _show_zero(recipe, console)
    elif isinstance(recipe, SFTRecipe):
        policy = load_policy(recipe.model, peft=recipe.peft)
        template = ChatTemplate.of(policy, recipe.template)
        corpus = sft.read_corpus(recipe, policy, template)
        for note in corpus.notes:
            console.print(note, highlight=False, soft_wrap=True)
        steps = sft.num_steps(recipe.sft, corpus.training)
        console.print(
            f"{len(corpus.training)} examples, {steps} optimizer steps; {len(corpus.validation)} to validate on"
        )
        show_tokens(template, corpus.training[0].row, console)
    elif isinstance(recipe, RewardModelRecipe):
        model = make_reward_model(recipe)
        found = read_preferences(recipe, model)
        console.print("; ".join(found.notes), highlight=False)
        console.print(f"{model.scalar.num_parameters():,} parameters, {num_steps(recipe, found.train)} optimizer steps")
        show_tokens(model.template, TrainingRow.of(*found.train[0].replies[0]), console)
    elif isinstance(recipe, RejectionRecipe | PreferencesRecipe):
        _show_rejection(recipe if isinstance(recipe, RejectionRecipe) else recipe.drawing(), console)
    elif isinstance(recipe, PretrainRecipe):
        policy = pretrain.make_policy(recipe)
        tokens = recipe.pretrain.num_steps * recipe.pretrain.rows_per_step * recipe.pretrain.row_tokens
        console.print(f"{policy.num_parameters():,} parameters, {tokens:,} tokens to read")
        template = ChatTemplate(policy.tokenizer, "nano")
        first = next(pretrain.corpus_rows(template, recipe.pretrain.row_tokens, seed=f"{recipe.seed}/0"))[:64]
        show_tokens(template, TrainingRow.of(first[:1], first[1:]), console)


def _show_recipe(recipe: Recipe, console: Console) -> None:
    console.print_json(json.dumps(dump_recipe(recipe), ensure_ascii=False))


def show_plan(plan: Plan, cut: Cut, console: Console) -> None:
    """Print the stages of a part of a pipeline: what each makes of what, how much work it is, and how far it is."""
    for place in cut.places(plan):
        number, stage = place + 1, plan.stages[place]
        given = "" if isinstance(stage.recipe, GeneralDataRecipe) else stage.recipe.model.path
        sources = ", ".join(stage.needs) or given or "nothing"
        console.print(
            f"{number:>2}  {stage.name} ({stage.recipe.kind}): {stage.makes}, from {sources}; "
            f"{size_of(stage.recipe)}; {stage.state.value}",
            highlight=False,
            soft_wrap=True,
        )
    if not cut.ends_early:
        names = "; ".join(checkpoint.name for checkpoint in plan.checkpoints)
        console.print(f"then every checkpoint is measured: {names}", highlight=False)


def show_claims(seed_plan: SeedPlan, console: Console) -> None:
    """Print the stages of the chosen claims of one seed, each once, and what each claim is made from."""
    claims = chosen(seed_plan.recipe)
    names = {name for claim in claims for name in seed_plan.stages_for(claim)}
    stages = [stage for stage in seed_plan.plan.stages if stage.name in names]
    show_plan(replace(seed_plan.plan, stages=stages), Cut(until=stages[-1].name), console)
    for claim in claims:
        made_from = ", ".join(own_stages(seed_plan, claim)) or "stages that others use too"
        console.print(f" {claim.name}  {claim.title}: {made_from}", highlight=False, soft_wrap=True)
    console.print(f"all of it for seeds {', '.join(map(str, seed_plan.recipe.seeds))}", highlight=False)


def size_of(recipe: StageRecipe) -> str:
    """How much work a stage is, in words."""
    if isinstance(recipe, ZeroRecipe):
        size = recipe.rollouts
        return f"{size.num_iterations:,} iterations of {size.problems_per_iteration:,} problems x {size.group_size}"
    if isinstance(recipe, SFTRecipe):
        return f"{recipe.sft.num_epochs} epochs, {recipe.sft.examples_per_step} examples a step"
    if isinstance(recipe, RewardModelRecipe):
        return f"{recipe.reward_model.num_epochs} epochs, {recipe.reward_model.examples_per_step} examples a step"
    if isinstance(recipe, GeneralDataRecipe):
        return f"{recipe.num_examples:,} examples, {recipe.num_pairs:,} pairs, {recipe.num_safety:,} marked safe or not"
    samples = sum(route.samples for route in recipe.routes)
    return f"{recipe.num_problems:,} problems x {samples} samples"


def _show_zero(recipe: ZeroRecipe, console: Console) -> None:
    trainee = make_trainee(recipe)
    check_before_start(recipe, trainee)
    if audited := refuse_bad_rewards(recipe, console, show=True):
        console.print(audited, highlight=False)
    probe = probe_iteration(recipe, trainee)
    memory = forecast_memory(recipe, trainee)
    adapters = trainee.policy.adapters
    of_which = "" if adapters is None else f", beside which {adapters.num_parameters():,} of adapters train"
    console.print(
        f"memory: about {memory / 2**30:.2f} GiB at the peak, with {trainee.policy.num_parameters():,} parameters"
        f"{of_which}"
    )
    now, full, num_iterations = probe.seconds, probe.seconds_at_full_length, recipe.rollouts.num_iterations
    console.print(
        f"time: {now:.1f} s for an iteration at the base's own length, {full:.1f} s were all completions of full "
        f"length: {now * num_iterations / 60:.1f} to {full * num_iterations / 60:.1f} min for {num_iterations} "
        "iterations, held-out tests apart (one iteration was run on this machine)"
    )
    console.print("the first rollout, token by token:")
    row = TrainingRow.of(probe.rollout.prompt_token_ids, probe.rollout.completion.token_ids)
    show_tokens(trainee.sampler.template, row, console)


def _show_rejection(recipe: RejectionRecipe, console: Console) -> None:
    draw = make_draw(recipe)
    for route, name in zip(recipe.routes, draw.names, strict=True):
        console.print(f"{name}: {len(draw.problems) * route.samples:,} completions; the first prompt, token by token:")
        prompt = on_route(draw.sampler, route).prompt_token_ids(draw.problems[0])
        show_tokens(draw.sampler.template, TrainingRow.of(prompt, ()), console)


@dataclass(frozen=True, slots=True)
class Probe:
    """What one iteration on this machine told."""

    rollout: Rollout
    """The first rollout of the first iteration."""
    seconds: float
    seconds_at_full_length: float
    """The same, were every completion cut at max_new_tokens."""


def probe_iteration(recipe: ZeroRecipe, trainee: Trainee) -> Probe:
    """Run the first iteration with a coin toss for a reward, so that no group is skipped.

    The update changes the trainee's weights: it is not fit for training afterwards.
    """
    seed = f"{recipe.seed}/iteration-0"
    problems = sample_problems(recipe.tasks, recipe.rollouts.problems_per_iteration, seed=seed, split="train")
    tossing = replace(trainee.sampler, rewards=RewardSettings(accuracy=0.0, random=1.0))
    started = time.perf_counter()
    groups = tossing.groups(problems, recipe.rollouts.group_size, seed=seed)
    sampled = time.perf_counter()
    advantages_PG = group_norm_advantages(torch.tensor([group.rewards_G for group in groups]))
    if trainee.critic is not None:
        ppo.learn_by_values(recipe, trainee, groups, seed=seed)
    else:
        for minibatch in grpo.minibatches(recipe, trainee, groups, advantages_PG, seed=seed):
            grpo.update(recipe, trainee, minibatch)
    trained = time.perf_counter()
    rollouts = [rollout for group in groups for rollout in group.rollouts]
    lengths = [len(rollout.completion.token_ids) for rollout in rollouts]
    prompts = sum(len(rollout.prompt_token_ids) for rollout in rollouts)
    full = recipe.sampling.max_new_tokens
    sampling_at_full = (sampled - started) * full * len(lengths) / sum(lengths)
    training_at_full = (trained - sampled) * (prompts + full * len(lengths)) / (prompts + sum(lengths))
    return Probe(rollouts[0], trained - started, sampling_at_full + training_at_full)


def show_tokens(template: ChatTemplate, row: TrainingRow, console: Console) -> None:
    """Print a row token by token: number, id, text, whether it trains, and what the tokenizer calls it."""
    table = Table("position", "id", "token", "trains", "", box=None)
    for line in token_lines(template, row):
        table.add_row(*line)
    console.print(table)
