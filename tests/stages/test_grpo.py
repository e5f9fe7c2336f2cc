"""The loop of reinforcement learning: what it rewards it gets, and its figures say what happened."""

import json
import re
from dataclasses import replace

import pytest
import torch
from rich.console import Console
from transformers import PreTrainedTokenizerFast

from r1kit import pipeline
from r1kit.config.rollouts import RewardSettings
from r1kit.engine import rollouts
from r1kit.engine.engine import Piece
from r1kit.engine.rollouts import Sampler
from r1kit.errors import DataError, RecipeError, VerifierError
from r1kit.evaluation.evaluate import summarise
from r1kit.models.chat_template import ChatTemplate
from r1kit.stages import figures, grpo
from r1kit.stages.preparation import check_before_start, make_trainee
from r1kit.tasks import FAMILIES, Family, sample_problems
from r1kit.types import Completion, FinishReason, Group, Problem, Rollout, SamplingSpec, Score, Verdict


def group_of(parts, totals=None):
    """A group whose rollouts have these score parts; the total is their sum unless given."""
    problem = Problem(id="chains/1+1", prompt="Compute 1+1", gold="2", verifier="chains")
    completion = Completion(
        token_ids=(5, 6), logprobs=(-1.0, -2.0), text="ab", finish_reason=FinishReason.STOP, policy_version=0
    )
    scores = [
        Score(total=sum(part.values()) if totals is None else totals[place], parts=part, verdict=Verdict.WRONG)
        for place, part in enumerate(parts)
    ]
    rolled = [Rollout(problem=problem, prompt_token_ids=(1, 2), completion=completion, score=score) for score in scores]
    return Group(problem=problem, rollouts=tuple(rolled))


def test_what_is_rewarded_becomes_frequent(tiny, run_to_the_end, tmp_path, monkeypatch):
    def even_start(problem, completion, **options):
        even = float(completion.token_ids[0] % 2 == 0)
        parts = {"accuracy": even, "format": 0.0, "random": 0.0}
        return Score(total=even, parts=parts, verdict=Verdict.RIGHT if even else Verdict.WRONG)

    monkeypatch.setattr(rollouts, "score_completion", even_start)
    recipe = tiny(
        sampling={"max_new_tokens": 2},
        rollouts={"num_iterations": 25, "problems_per_iteration": 8, "group_size": 8},
        optimizer={"lr": 2e-2, "warmup_steps": 0, "schedule": "constant"},
        run={"checkpoint_interval_iterations": 100},
    )
    folder = run_to_the_end(recipe, tmp_path / "run")
    rewards = [row["reward"] for row in map(json.loads, (folder / "metrics.jsonl").open()) if "reward" in row]
    assert sum(rewards[:2]) / 2 < 0.75
    assert sum(rewards[-3:]) / 3 > 0.9, rewards


def test_metrics_say_how_far_sampler_and_trainer_differ_and_it_is_rounding(tiny, run_to_the_end, tmp_path):
    recipe = tiny(rollouts={"num_iterations": 2}, sampling={"temperature": 0.7})
    folder = run_to_the_end(recipe, tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert all(row["logprob_gap"] < 1e-5 and row["logprob_gap_max"] < 1e-4 for row in rows[:2])
    assert all(row["clip_share"] == 0 for row in rows[:2])  # one step an iteration: exactly on-policy
    kept = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    first = [row for row in kept if row["iteration"] == 0]
    assert sum(row["reward"] for row in first) / len(first) == pytest.approx(rows[0]["reward"])
    assert sum(row["num_tokens"] for row in first) == rows[0]["completion_tokens"]
    assert len({row["problem_id"] for row in first}) == 4 and len(first) == 16


def test_metrics_are_json_that_any_reader_takes(tiny, run_to_the_end, tmp_path):
    recipe = tiny(rollouts={"num_iterations": 1, "problems_per_iteration": 1}, evaluation={"num_problems": 1})
    folder = run_to_the_end(recipe, tmp_path / "run")
    constants: list[str] = []
    for line in (folder / "metrics.jsonl").open():
        json.loads(line, parse_constant=constants.append)
    assert constants == []  # NaN is no JSON: a single problem has no standard error


def test_the_advantage_of_a_group_sums_to_zero_in_what_is_kept(tiny, run_to_the_end, tmp_path):
    folder = run_to_the_end(tiny(rollouts={"num_iterations": 1}), tmp_path / "run")
    by_problem: dict[str, list[dict]] = {}
    for line in (folder / "rollouts.jsonl").open():
        by_problem.setdefault(json.loads(line)["problem_id"], []).append(json.loads(line))
    for rows in by_problem.values():
        assert sum(row["advantage"] for row in rows) == pytest.approx(0, abs=1e-5)
        assert all((row["advantage"] > 0) == (row["reward"] == 1.0) for row in rows if row["advantage"])


def test_advantage_shares_are_each_parts_weighted_deviation(tiny):
    recipe = tiny(rewards={"accuracy": 1.0, "format": 0.5, "random": 0.0})
    # accuracy deviates by 4 * 1/2 * 1; format by (3/4 + 3 * 1/4) * 0.5; random by nothing, since its weight is 0
    mixed = group_of(
        [
            {"accuracy": 1.0, "format": 1.0, "random": 1.0},
            {"accuracy": 1.0, "format": 0.0, "random": 0.0},
            {"accuracy": 0.0, "format": 0.0, "random": 1.0},
            {"accuracy": 0.0, "format": 0.0, "random": 0.0},
        ]
    )
    dead = group_of([{"accuracy": 1.0, "format": 1.0, "random": 0.0}] * 4)
    shares = figures.advantage_shares([mixed, dead], recipe)
    assert shares == pytest.approx({"accuracy": 2 / 2.75, "format": 0.75 / 2.75, "random": 0.0})
    assert figures.advantage_shares([dead], recipe) == {"accuracy": 0.0, "format": 0.0, "random": 0.0}


def test_a_dead_group_costs_no_forward_pass_but_lowers_the_step(tiny):
    recipe = tiny()
    trainee = make_trainee(recipe)
    problems = sample_problems(recipe.tasks, 2, seed="dead", split="train")
    groups = trainee.sampler.groups(problems, 4, seed="dead")
    advantages_PG = torch.tensor([[1.0, -1.0, 1.0, -1.0], [0.0] * 4])
    (alive,) = grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="dead")
    assert len(alive.token_ids_BT) == 4
    assert float(alive.token_weights_BT.sum()) == pytest.approx(0.5)
    assert list(grpo.minibatches(recipe, trainee, groups, torch.zeros(2, 4), seed="dead")) == []


@pytest.mark.parametrize("source", ["policy", "sampler"])
def test_with_several_steps_old_logprobs_are_those_before_the_first(tiny, source):
    recipe = tiny(rollouts={"steps_per_iteration": 2, "old_logprobs": source})
    trainee = make_trainee(recipe)
    problems = sample_problems(recipe.tasks, 2, seed="old", split="train")
    groups = trainee.sampler.groups(problems, 4, seed="old")
    advantages_PG = torch.tensor([[1.0, -1.0, 1.0, -1.0]] * 2)
    before = [batch.old_logprobs_BT for batch in grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="old")]
    batches = grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="old")
    for number, batch in enumerate(batches):
        assert torch.equal(batch.old_logprobs_BT, before[number])
        assert torch.allclose(batch.old_logprobs_BT, batch.sampler_logprobs_BT, atol=1e-5)
        grpo.update(recipe, trainee, batch)
    assert number == 1 and trainee.optimizer.steps_done == 2


def test_completions_that_cannot_fit_are_refused_before_the_start(tiny, run_to_the_end, tmp_path):
    recipe = tiny(sampling={"max_new_tokens": 5000})
    with pytest.raises(RecipeError, match=r"max_new_tokens is 5000.*1024 positions; lower .* to \d+ or less"):
        run_to_the_end(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_broken_verifier_is_refused_before_the_start(tiny, run_to_the_end, tmp_path, monkeypatch):
    broken = Family(FAMILIES["pairs"].make, FAMILIES["pairs"].parse, lambda answer, problem: True)
    monkeypatch.setitem(FAMILIES, "pairs", broken)
    with pytest.raises(VerifierError, match="'pairs' accepts"):
        run_to_the_end(tiny(), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_task_with_few_problems_is_enough_for_a_recipe_that_asks_for_few(tiny):
    recipe = tiny(tasks=[{"kind": "sums", "digits": 1}])
    check_before_start(recipe, make_trainee(recipe))  # 81 problems; the recipe needs 4 of one split and 8 of the other


def test_too_few_problems_for_the_test_are_seen_before_the_start(tiny, run_to_the_end, tmp_path):
    recipe = tiny(tasks=[{"kind": "logic", "people": 3}], evaluation={"num_problems": 200})
    with pytest.raises(DataError, match="held_out"):
        run_to_the_end(recipe, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_the_harder_problems_are_tested_before_and_after(tiny, run_to_the_end, tmp_path):
    recipe = tiny(
        rollouts={"num_iterations": 1}, evaluation={"harder": [{"kind": "chains", "terms": 9}], "num_problems": 4}
    )
    folder = run_to_the_end(recipe, tmp_path / "run")
    assert "harder" in (folder / "metrics.jsonl").read_text()


def test_a_sampler_scores_what_follows_an_opening_together_with_it(tiny):
    recipe = tiny()
    sampler = make_trainee(recipe).sampler
    problem = sample_problems(recipe.tasks, 1, seed="opening", split="train")[0]
    opening = f"<think>x</think><answer>{problem.gold}</answer>"
    groups = sampler.groups([problem], 8, seed="opening", opening=opening)
    # What an untrained model adds is noise; where it holds no tag, the opening alone makes the answer.
    noise = [rollout for rollout in groups[0].rollouts if "<" not in rollout.completion.text]
    assert len(noise) >= 4
    assert {rollout.score.verdict for rollout in noise} == {Verdict.RIGHT}
    assert not any(opening in rollout.completion.text for rollout in noise)
    assert sampler.groups([problem], 8, seed="opening", opening=opening) == groups


class Parrot:
    """An engine that answers every request with the same text, cut at its length."""

    def __init__(self, text):
        self.text = text

    def submit(self, requests):
        self.ids = list(range(len(requests)))
        return self.ids

    def step(self):
        completion = Completion(
            token_ids=(1,), logprobs=(0.0,), text=self.text, finish_reason=FinishReason.LENGTH, policy_version=0
        )
        return [Piece(request_id=request_id, completion=completion) for request_id in self.ids]


@pytest.mark.parametrize(
    ("text", "share"), [("maybe <answer>{gold}</answer>", 0.0), ("so</think><answer>{gold}</answer>", 1.0)]
)
def test_an_answer_in_a_thinking_that_never_closes_is_no_vote_either(tokenizer, text, share):
    opening = PreTrainedTokenizerFast(tokenizer_object=tokenizer.backend_tokenizer, eos_token=tokenizer.eos_token)
    opening.chat_template = "{{ messages[0].content }}<think>"
    problem = Problem(id="chains/2+2", prompt="Compute 2+2", gold="4", verifier="chains")
    sampler = Sampler(
        engine=Parrot(text.format(gold=problem.gold)),
        template=ChatTemplate(opening, "chat"),
        sampling=SamplingSpec(max_new_tokens=8),
        rewards=RewardSettings(),
    )
    figures = summarise(sampler.groups([problem], 4, seed="vote"))
    assert (figures["pass_at_1"], figures["pass_at_k"], figures["cons_at_k"]) == (share, share, share)


def test_groups_do_not_depend_on_what_else_is_sampled(tiny):
    recipe = tiny()
    sampler = make_trainee(recipe).sampler
    problems = sample_problems(recipe.tasks, 6, seed="batch", split="train")
    together = sampler.groups(problems, 4, seed="batch")
    alone = [sampler.groups([problem], 4, seed="batch")[0] for problem in reversed(problems)][::-1]
    ids = [[[r.completion.token_ids for r in group.rollouts] for group in groups] for groups in (together, alone)]
    assert ids[0] == ids[1]
    other = replace(sampler).groups(problems, 4, seed="other")
    assert [r.completion.token_ids for r in other[0].rollouts] != ids[0][0]


def test_the_console_says_what_figures_mean_when_asked_to(tiny, tmp_path, capsys):
    recipe = tiny(rollouts={"num_iterations": 1})
    for explain in (True, False):
        pipeline.train(recipe, tmp_path / f"{explain}", resume=False, explain=explain, console=Console(width=200))
        said = capsys.readouterr().out
        assert ("sampler against trainer" in said) is explain
        assert "held-out" in said and "reward" in said
        log = (tmp_path / f"{explain}" / "log.txt").read_text()
        (memory,) = [line for line in log.splitlines() if line.startswith("memory: ")]
        assert "held-out" in log and memory in said
        found = re.fullmatch(r"memory: (\S+) GiB at the peak, (\S+) GiB forecast \((\d+)%\)", memory)
        peak, forecast, share = map(float, found.groups())
        assert 0.3 < peak < 30 and 0.5 < forecast < 2
        assert share == pytest.approx(100 * forecast / peak, abs=3)
