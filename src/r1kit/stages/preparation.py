"""Before an RL stage begins: policy, optimizer and sampler made, and everything refused that would fail later."""

from collections.abc import Sequence
from dataclasses import replace

from r1kit.config.rollouts import RewardSettings, SamplingSettings, TemplateSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler
from r1kit.errors import DataError, RecipeError, VerifierError
from r1kit.models.chat_template import ChatTemplate, end_at
from r1kit.models.loading import load_policy
from r1kit.models.policy import Policy
from r1kit.recipe import ZeroRecipe
from r1kit.rewards.combine import language_notes
from r1kit.rewards.judging import judge_answer
from r1kit.rewards.verifiers import find_verifier
from r1kit.stages import grpo, ppo
from r1kit.stages.preference import ModelGrader, check_general_problems, preference_rewards
from r1kit.tasks import FAMILIES, sample_problems, validate
from r1kit.tasks.rows import NEED_NO_GOLD
from r1kit.tasks.source import longest_problems, verifiers_of
from r1kit.training.memory import forecast_bytes
from r1kit.training.optimizer import Optimizer
from r1kit.types import Problem, Verdict

LONGEST_CHECKED = 32
"""Of files, so many of the longest prompts are tokenised before a run begins."""


def make_trainee(recipe: ZeroRecipe) -> grpo.Trainee:
    """Policy, reference, optimizer and sampler of a recipe, before the first step."""
    policy = load_policy(recipe.model, trains=True, peft=recipe.peft, seed=recipe.seed)
    end_at(policy, ChatTemplate.of(policy, recipe.template))
    total_steps = recipe.rollouts.num_iterations * recipe.rollouts.steps_per_iteration
    sampler = make_sampler(
        policy,
        recipe.sampling,
        template=recipe.template,
        rewards=recipe.rewards,
        max_sequences=recipe.run.max_sequences,
    )
    return grpo.Trainee(
        policy=policy,
        reference=make_reference(recipe, policy),
        optimizer=Optimizer(policy, recipe.optimizer, total_steps=total_steps),
        critic=ppo.make_critic(recipe, policy),
        sampler=replace(sampler, preference=preference_rewards(recipe, sampler)),
    )


def make_reference(recipe: ZeroRecipe, policy: Policy) -> Policy | None:
    """What the KL term holds the policy to, if it has weight: the base, which under adapters is there already."""
    if recipe.objective.kl_coef == 0:
        return None
    return load_policy(recipe.model) if policy.adapters is None else policy.without_adapters()


def make_sampler(
    policy: Policy,
    sampling: SamplingSettings,
    *,
    template: TemplateSettings,
    rewards: RewardSettings,
    max_sequences: int,
) -> Sampler:
    """The embedded engine over a policy, with what turns problems into prompts and completions into scores."""
    chat_template = ChatTemplate.of(policy, template)
    return Sampler(
        engine=NativeEngine(policy, max_sequences=max_sequences),
        template=chat_template,
        sampling=chat_template.with_stops(sampling.spec()),
        rewards=rewards,
    )


def forecast_memory(recipe: ZeroRecipe, trainee: grpo.Trainee) -> int:
    """Bytes that a run will hold at its peak, counted before it; prompts are as long as the longest of an iteration."""
    num_problems = recipe.rollouts.problems_per_iteration
    problems = sample_problems(recipe.training_tasks, num_problems, seed=f"{recipe.seed}/iteration-0", split="train")
    prompt_tokens = max(len(trainee.sampler.prompt_token_ids(problem)) for problem in problems)
    policy_bytes = forecast_bytes(
        trainee.policy,
        max_sequences=min(recipe.run.max_sequences, num_problems * recipe.rollouts.group_size),
        positions=prompt_tokens + recipe.sampling.longest_completion,
        tokens_per_microbatch=recipe.run.max_tokens_per_microbatch,
        has_reference=trainee.reference is not None,
    )
    return policy_bytes + other_networks_bytes(trainee)


def other_networks_bytes(trainee: grpo.Trainee) -> int:
    """What a value model (weights, gradient, two moments, and a copy in another precision) and reward models take."""
    total = 0
    if trainee.critic is not None:
        scalar = trainee.critic.scalar
        is_copied = scalar.compute_dtype != scalar.model.dtype
        total += scalar.num_parameters() * (16 + 2 * is_copied)
    graders = trainee.sampler.preference.graders.values() if trainee.sampler.preference else ()
    models = [grader.model.scalar.model for grader in graders if isinstance(grader, ModelGrader)]
    return total + sum(model.num_parameters() * model.dtype.itemsize for model in models)


def check_before_start(recipe: ZeroRecipe, trainee: grpo.Trainee) -> None:
    """Refuse, before anything is written, a verifier that is wrong about its own golds and prompts that can't fit."""
    all_tasks = (*recipe.training_tasks, *recipe.evaluation.harder)
    check_general_problems(recipe, trainee.sampler.preference)
    for verifier, where in verifiers_of(all_tasks).items():
        check_verifier(verifier, where=where)
    language_notes(recipe.rewards)
    problems = sample_problems(recipe.training_tasks, recipe.rollouts.problems_per_round, seed="check", split="train")
    for tasks in (recipe.tasks, recipe.evaluation.harder):
        if tasks:
            problems += sample_problems(tasks, recipe.evaluation.num_problems, seed="check", split="held_out")
    validate(problems, seed="check")
    check_golds(problems)
    trainee.sampler.template.lint(problems[0].prompt, wants_thinking=recipe.rewards.format > 0)
    problems += longest_problems(all_tasks, LONGEST_CHECKED)
    limit = getattr(trainee.policy.model.config, "max_position_embeddings", None)
    longest = max(len(trainee.sampler.prompt_token_ids(problem)) for problem in problems)
    if limit is not None and longest >= limit:
        raise RecipeError(
            f"prompts have up to {longest} tokens, but the model has {limit} positions; "
            "leave long ones out with the task's max_prompt_chars"
        )
    if limit is not None and longest + recipe.sampling.longest_completion > limit:
        raise RecipeError(
            f"sampling.max_new_tokens is {recipe.sampling.longest_completion} and prompts have up to {longest} tokens, "
            f"but the model has {limit} positions; lower max_new_tokens to {limit - longest} or less, "
            "or leave long prompts out with the task's max_prompt_chars"
        )


def check_verifier(name: str, *, where: str) -> None:
    """Raise DataError, with the nearest known name, where there is no such verifier."""
    try:
        find_verifier(name)
    except VerifierError as error:
        raise DataError(f"{where}: {error}") from None


def check_golds(problems: Sequence[Problem]) -> None:
    """Raise VerifierError where golds of files are wrong in their verifier's eyes, or too many can't be read.

    Golds of code are programs, if there are any: they are not run here.
    """
    golds = [p for p in problems if p.gold and p.verifier not in FAMILIES.keys() | NEED_NO_GOLD]
    judged = [(problem, judge_answer(problem.gold, problem).judgement) for problem in golds]
    for verdict, most in ((Verdict.WRONG, 0), (Verdict.UNKNOWN, len(golds) // 10)):
        found = [(problem, judgement) for problem, judgement in judged if judgement.verdict is verdict]
        if len(found) > most:
            problem, judgement = found[0]
            raise VerifierError(
                f"verifier {problem.verifier!r} calls {len(found)} of {len(golds)} golds {verdict.value}: "
                f"{problem.gold[:60]!r} of problem {problem.id!r} ({judgement.reason})"
            )
