"""What of an iteration trains: unknown and cut completions leave every sum, limits grow, the KL has its place."""

import json
from dataclasses import replace

import pytest
import torch
from rich.console import Console

from r1kit import pipeline
from r1kit.engine import rollouts
from r1kit.errors import RecipeError, VerifierError
from r1kit.objectives.advantages import group_norm_advantages, rloo_advantages
from r1kit.stages import grpo
from r1kit.stages.preparation import check_before_start, make_trainee
from r1kit.tasks import sample_problems
from r1kit.types import FinishReason, Group, Score, Verdict

UNKNOWN_ROWS = {(0, 1), (1, 0), (1, 1), (1, 2), (1, 3)}
"""One completion of the first group, and all of the second."""


def groups_for(recipe, trainee, num_problems=3):
    problems = sample_problems(recipe.tasks, num_problems, seed="what", split="train")
    return trainee.sampler.groups(problems, 4, seed="what")


def rescored(groups, rewards_PG, *, unknown=()):
    """The groups with these rewards; an unknown one is worth what it should never be taken for."""
    return [
        Group(
            problem=group.problem,
            rollouts=tuple(
                replace(
                    rollout,
                    score=Score(
                        total=rewards_PG[p][g],
                        parts=rollout.score.parts,
                        verdict=Verdict.UNKNOWN if (p, g) in unknown else Verdict.WRONG,
                    ),
                )
                for g, rollout in enumerate(group.rollouts)
            ),
        )
        for p, group in enumerate(groups)
    ]


def cut_off(groups, rows):
    """The groups with these completions cut at the limit, all others ended by themselves."""
    return [
        replace(
            group,
            rollouts=tuple(
                replace(
                    rollout,
                    completion=replace(
                        rollout.completion,
                        finish_reason=FinishReason.LENGTH if (p, g) in rows else FinishReason.STOP,
                    ),
                )
                for g, rollout in enumerate(group.rollouts)
            ),
        )
        for p, group in enumerate(groups)
    ]


def lengths_of(groups):
    return [[len(rollout.completion.token_ids) for rollout in group.rollouts] for group in groups]


def weight_of_each_row(minibatch):
    return sorted(minibatch.token_weights_BT.sum(-1).tolist())


def expected_weights(kind, lengths, num_in_denominator, total_tokens):
    """What each completion weighs, by hand."""
    by_kind = {
        "sequence_mean": lambda length: 1 / num_in_denominator,
        "token_mean": lambda length: length / total_tokens,
        "constant_length": lambda length: length / (num_in_denominator * 12),
    }
    return sorted(by_kind[kind](length) for length in lengths)


REWARDS_PG = [[1.0, 0.0, 0.0, 1.0], [0.0, 1.0, 0.0, 1.0], [0.0, 1.0, 1.0, 1.0]]


@pytest.mark.parametrize("kind", ["sequence_mean", "token_mean", "constant_length"])
def test_unknown_completions_are_in_no_minibatch_in_no_denominator_and_in_no_mean(tiny, kind):
    recipe = tiny(token_weights={"kind": kind})
    trainee = make_trainee(recipe)
    groups = rescored(groups_for(recipe, trainee), REWARDS_PG, unknown=UNKNOWN_ROWS)

    advantages_PG, _ = grpo.advantages_of(recipe, trainee, groups)
    (minibatch,) = grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="0")

    third, half = 2**0.5, 0.5**0.5
    torch.testing.assert_close(
        advantages_PG,
        torch.tensor([[third, 0.0, -half, 0.0], [0.0] * 4, [0.0] * 4])
        + torch.tensor([[-third + half, 0, -third + half, half], [0] * 4, [-(3**0.5), 3**-0.5, 3**-0.5, 3**-0.5]]),
    )
    lengths = lengths_of(groups)
    kept = [lengths[p][g] for p in range(3) for g in range(4) if (p, g) not in UNKNOWN_ROWS]
    assert len(minibatch) == len(kept) == 7
    assert weight_of_each_row(minibatch) == pytest.approx(expected_weights(kind, kept, 7, sum(kept)))


def test_a_group_of_unknown_completions_is_dead_and_an_iteration_of_them_takes_no_step(tiny):
    recipe = tiny()
    trainee = make_trainee(recipe)
    everything = {(p, g) for p in range(3) for g in range(4)}
    groups = rescored(groups_for(recipe, trainee), REWARDS_PG, unknown=everything)
    advantages_PG, _ = grpo.advantages_of(recipe, trainee, groups)
    assert advantages_PG.tolist() == [[0.0] * 4] * 3
    assert list(grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="0")) == []


@pytest.mark.parametrize("kind", ["sequence_mean", "token_mean", "constant_length"])
def test_masked_truncated_completions_leave_the_denominator_and_stay_in_the_groups_mean(tiny, kind):
    cut_rows = {(0, 0), (2, 3)}
    plain, masking = (tiny(token_weights={"kind": kind}, rollouts={"mask_truncated": mask}) for mask in (False, True))
    trainee = make_trainee(plain)
    groups = cut_off(rescored(groups_for(plain, trainee), REWARDS_PG), cut_rows)
    advantages_PG, _ = grpo.advantages_of(masking, trainee, groups)
    torch.testing.assert_close(advantages_PG, group_norm_advantages(torch.tensor(REWARDS_PG)))

    (whole,) = grpo.minibatches(plain, trainee, groups, advantages_PG, seed="0")
    (minibatch,) = grpo.minibatches(masking, trainee, groups, advantages_PG, seed="0")

    lengths = lengths_of(groups)
    kept = [lengths[p][g] for p in range(3) for g in range(4) if (p, g) not in cut_rows]
    assert (len(whole), len(minibatch)) == (12, 10)
    assert weight_of_each_row(minibatch) == pytest.approx(expected_weights(kind, kept, 10, sum(kept)))
    assert sum(weight_of_each_row(minibatch)) == pytest.approx(1.0) or kind == "constant_length"


def test_where_all_are_cut_and_masked_there_is_no_step(tiny):
    recipe = tiny(rollouts={"mask_truncated": True})
    trainee = make_trainee(recipe)
    everything = {(p, g) for p in range(3) for g in range(4)}
    groups = cut_off(rescored(groups_for(recipe, trainee), REWARDS_PG), everything)
    advantages_PG, _ = grpo.advantages_of(recipe, trainee, groups)
    assert list(grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="0")) == []


def test_a_run_counts_what_the_verifier_could_not_tell_and_never_pays_it_0(tiny, run_to_the_end, tmp_path, monkeypatch):
    original = rollouts.score_completion

    def sometimes_unknown(problem, completion, **options):
        score = original(problem, completion, **options)
        is_unknown = completion.token_ids[0] % 3 == 0
        # Were it taken for a reward, it would be seen: the coin pays 0 or 1.
        return replace(score, total=-100.0, verdict=Verdict.UNKNOWN) if is_unknown else score

    monkeypatch.setattr(rollouts, "score_completion", sometimes_unknown)
    folder = run_to_the_end(tiny(rollouts={"num_iterations": 2}), tmp_path / "run")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    kept = [json.loads(line) for line in (folder / "rollouts.jsonl").open()]
    for iteration in (0, 1):
        of_it = [row for row in kept if row["iteration"] == iteration]
        unknown = [row for row in of_it if row["verdict"] == "unknown"]
        assert 0 < len(unknown) < len(of_it) == 16
        assert rows[iteration]["unknown_share"] == pytest.approx(len(unknown) / 16)
        assert all(row["advantage"] == 0 for row in unknown)
        known = [row["reward"] for row in of_it if row["verdict"] != "unknown"]
        assert rows[iteration]["reward"] == pytest.approx(sum(known) / len(known))
        assert 0 <= rows[iteration]["reward"] <= 1


def test_a_run_in_which_nothing_is_known_stops_and_says_so(tiny, run_to_the_end, tmp_path, monkeypatch):
    original = rollouts.score_completion

    def unknown_in_training(*args, **options):
        score = original(*args, **options)
        return replace(score, verdict=Verdict.UNKNOWN) if "iteration" in options["seed"] else score

    monkeypatch.setattr(rollouts, "score_completion", unknown_in_training)
    with pytest.raises(VerifierError, match="could not judge 64 completions of 16 problems"):
        run_to_the_end(tiny(rollouts={"num_iterations": 2}), tmp_path / "run")


def test_the_limit_on_length_is_that_of_the_stage_in_force(tiny, run_to_the_end, tmp_path):
    stages = [{"from_step": 2, "max_new_tokens": 20}, {"from_step": 3, "max_new_tokens": 7}]
    recipe = tiny(
        sampling={"max_new_tokens": 12, "stages": stages},
        rollouts={"num_iterations": 4},
        run={"rollouts_interval_iterations": 1},
        evaluation={"interval_iterations": 1},
    )
    assert [recipe.sampling.max_new_tokens_at(step) for step in range(5)] == [12, 12, 20, 7, 7]
    assert recipe.sampling.longest_completion == 20
    folder = run_to_the_end(recipe, tmp_path / "run")
    longest = [0] * 4
    for line in (folder / "rollouts.jsonl").open():
        row = json.loads(line)
        longest[row["iteration"]] = max(longest[row["iteration"]], row["num_tokens"])
    assert longest == [12, 12, 20, 7]  # an untrained model hardly ever stops by itself
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
    assert [row["held_out"]["max_new_tokens"] for row in rows] == [12, 12, 20, 7, 7]


def test_constant_length_weights_and_the_overlong_part_follow_the_stage(tiny):
    recipe = tiny(
        sampling={"max_new_tokens": 12, "stages": [{"from_step": 2, "max_new_tokens": 20}]},
        token_weights={"kind": "constant_length"},
    )
    trainee = make_trainee(recipe)
    for steps_done, limit in ((0, 12), (2, 20)):
        now = grpo.at_iteration(recipe, trainee, 0, steps_done)
        groups = rescored(groups_for(recipe, now), REWARDS_PG)
        advantages_PG, _ = grpo.advantages_of(recipe, now, groups)
        (minibatch,) = grpo.minibatches(recipe, now, groups, advantages_PG, seed="0")
        weights_BT = minibatch.token_weights_BT
        assert weights_BT[weights_BT > 0].tolist() == pytest.approx([1 / (12 * limit)] * int((weights_BT > 0).sum()))
        for rollout in groups_for(recipe, now)[0].rollouts:
            if rollout.completion.is_truncated:
                assert rollout.score.parts["overlong"] == -1


def test_the_longest_stage_must_fit_before_the_start(tiny):
    recipe = tiny(sampling={"max_new_tokens": 12, "stages": [{"from_step": 9, "max_new_tokens": 5000}]})
    with pytest.raises(RecipeError, match=r"5000.*positions"):
        check_before_start(recipe, make_trainee(recipe))


@pytest.mark.parametrize(
    ("sections", "expected"),
    [
        ({"sampling": {"stages": [{"from_step": 5, "max_new_tokens": 9}, {"from_step": 5, "max_new_tokens": 10}]}},
         r"stages begin at steps \[5, 5\]"),
        ({"objective": {"kl_place": "reward"}}, "kl_estimator = 'k1'"),
        ({"objective": {"kind": "reinforce"}, "rollouts": {"steps_per_iteration": 2}}, "off-policy"),
        ({"objective": {"kind": "gspo", "cap": 3.0}}, "unknown key 'objective.cap'"),
        ({"objective": {"dual_clip": 1.0}}, "objective.dual_clip"),
        ({"rewards": {"zero_truncated": True, "overlong": 1.0}}, "choose one"),
        ({"rewards": {"overlong_cache_tokens": 12}}, "at most 12 tokens"),
        ({"rollouts": {"variance_of": "verdict"}}, "dynamic sampling is off"),
        ({"correction": {"kind": "truncated", "cap": 0.5}}, "correction.cap"),
        ({"correction": {"kind": "masked", "low": 2.0}}, "correction.low"),
        ({"correction": {"kind": "truncate"}}, "did you mean 'truncated'?"),
    ],
)  # fmt: skip
def test_settings_that_cannot_work_together_are_refused(tiny, sections, expected):
    with pytest.raises(RecipeError, match=expected):
        tiny(**sections)


def test_the_kl_in_the_reward_is_the_sum_of_k1_over_a_completion(tiny):
    recipe = tiny(objective={"kl_coef": 0.5, "kl_place": "reward", "kl_estimator": "k1"}, advantage={"kind": "rloo"})
    trainee = make_trainee(recipe)
    generator = torch.Generator().manual_seed(0)
    for weights in trainee.reference.model.parameters():
        weights.data += 0.05 * torch.randn(weights.shape, generator=generator)
    groups = rescored(groups_for(recipe, trainee), REWARDS_PG)

    advantages_PG, figures = grpo.advantages_of(recipe, trainee, groups)

    kl_PG = torch.tensor([[by_hand(trainee, rollout) for rollout in group.rollouts] for group in groups])
    assert kl_PG.abs().min() > 0.01
    expected_PG = rloo_advantages(torch.tensor(REWARDS_PG) - 0.5 * kl_PG)
    torch.testing.assert_close(advantages_PG, expected_PG, rtol=1e-4, atol=1e-4)
    assert figures["kl_per_completion"] == pytest.approx(float(kl_PG.mean()), rel=1e-4)
    assert figures["kl"] == pytest.approx(float(kl_PG.sum()) / sum(map(sum, lengths_of(groups))), rel=1e-4)
    (minibatch,) = grpo.minibatches(recipe, trainee, groups, advantages_PG, seed="0")
    assert minibatch.reference_logprobs_BT is None  # it is in the reward, and not in the loss again


def by_hand(trainee, rollout):
    prompt, completion = rollout.prompt_token_ids, rollout.completion.token_ids
    ids = torch.tensor([[*prompt, *completion]])
    total = 0.0
    with torch.no_grad():
        for policy, sign in ((trainee.policy, 1), (trainee.reference, -1)):
            logprobs_TV = policy.model(input_ids=ids).logits[0].log_softmax(-1)
            for place, token in enumerate(completion, start=len(prompt)):
                total += sign * float(logprobs_TV[place - 1, token])
    return total


@pytest.mark.parametrize(
    "objective",
    [{"kl_estimator": "k3"}, {"kl_estimator": "k2"}, {"kl_estimator": "k1", "kl_place": "reward"}],
    ids=lambda objective: "-".join(objective.values()),
)
def test_a_run_with_a_kl_term_stays_nearer_to_where_it_began(tiny, run_to_the_end, tmp_path, objective):
    distances = []
    for kl_coef in (1e-9, 3.0):
        recipe = tiny(
            objective=objective | {"kl_coef": kl_coef, "reference_refresh_steps": 0},
            rollouts={"num_iterations": 12},
            optimizer={"lr": 3e-3, "warmup_steps": 0, "schedule": "constant"},
            evaluation={"interval_iterations": 0},
        )
        folder = run_to_the_end(recipe, tmp_path / f"{kl_coef}")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        distances.append(sum(row["kl"] for row in rows[8:12]) / 4)
    assert distances[1] < 0.5 * distances[0], distances


def test_a_run_with_a_correction_logs_its_effective_samples_and_what_it_cut(tiny, run_to_the_end, tmp_path):
    recipe = tiny(correction={"kind": "truncated", "level": "sequence"}, rollouts={"num_iterations": 1})
    folder = run_to_the_end(recipe, tmp_path / "run")
    row = json.loads((folder / "metrics.jsonl").read_text().splitlines()[0])
    # The embedded engine samples from the trainer's own distribution, to rounding.
    assert row["importance"] == pytest.approx(1, abs=1e-4)
    assert row["effective_sample_share"] == pytest.approx(1, abs=1e-6)
    assert row["importance_cut_share"] == 0


def test_an_entropy_bonus_keeps_a_policy_undecided(tiny, run_to_the_end, tmp_path):
    entropies = []
    for entropy_coef in (0.0, 0.5):
        recipe = tiny(
            objective={"entropy_coef": entropy_coef},
            rollouts={"num_iterations": 10},
            optimizer={"lr": 1e-2, "warmup_steps": 0, "schedule": "constant"},
            evaluation={"interval_iterations": 0},
        )
        folder = run_to_the_end(recipe, tmp_path / f"{entropy_coef}")
        rows = [json.loads(line) for line in (folder / "metrics.jsonl").open()]
        entropies.append(rows[9]["entropy"])
    assert entropies[1] > entropies[0] + 0.05, entropies


def test_dynamic_sampling_that_finds_too_few_groups_goes_on_and_says_so(tiny, tmp_path, capsys):
    recipe = tiny(
        rewards={"accuracy": 1.0, "random": 0.0},  # an untrained model is never right
        rollouts={"num_iterations": 2, "max_rounds": 3},
        evaluation={"interval_iterations": 0},
    )
    pipeline.train(recipe, tmp_path / "run", resume=False, explain=False, console=Console(width=300))
    assert capsys.readouterr().out.count("4 live groups short after 3 rounds") == 2
    assert (tmp_path / "run" / "log.txt").read_text().count("4 live groups short after 3 rounds") == 2
    rows = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").open()]
    assert [(row["groups_trained"], row["dropped_all_wrong"], row["num_updates"]) for row in rows[:2]] == [
        (0, 12, 0)
    ] * 2
    kept = [json.loads(line) for line in (tmp_path / "run" / "rollouts.jsonl").open()]
    assert len(kept) == 2 * 12 * 4 and not any(row["trained"] for row in kept)
