"""Choosing among samples: votes, best of k and weighted votes, against closed forms."""

import itertools
import json
import math
import random

import pytest
import torch

from r1kit.config.model import ModelSettings
from r1kit.errors import VerifierError
from r1kit.evaluation.decoding import decoded_by_score, decoded_by_vote, load_scorer, scores_of
from r1kit.evaluation.outcomes import Sample, decoded_curve, figures, outcome_of
from r1kit.evaluation.voting import heaps_of
from r1kit.models.reward import RewardCard, describe, tokenizer_digest
from r1kit.models.scalar import load_scalar
from r1kit.training.checkpoint import save_model
from r1kit.types import FinishReason, Problem, Verdict

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
INF = math.inf


def verdict_by_weight(answers, verdicts, scores):
    return decoded_by_vote(heaps_of(answers, verdicts), verdicts, scores).verdict


@pytest.mark.parametrize(
    ("scores", "plain", "weighted", "best"),
    [
        ([0, 0, 0, 0], W, W, R),  # 7 7 against 8; equal scores: the first is best
        ([5, 5, 5, 5], W, W, R),
        ([math.log(3), 0, 0, -50], W, R, R),  # 3 against 1 + 1
        ([math.log(1.9), 0, 0, -50], W, W, R),  # 1.9 against 2
        ([-50, 0, 0, 9], W, W, W),  # who does not answer has no vote, and can be the best all the same
        ([-INF, -INF, -INF, -INF], W, W, R),
        ([-1e9, -1e9 - 2, -1e9 - 2, -1e9 - 9], W, R, R),  # only differences count
    ],
)
def test_votes_weigh_the_exponential_of_their_score(scores, plain, weighted, best):
    answers, verdicts = ["8", "7", "7", None], [R, W, W, W]
    assert decoded_by_vote(heaps_of(answers, verdicts), verdicts).verdict is plain
    assert verdict_by_weight(answers, verdicts, scores) is weighted
    assert decoded_by_score(scores, verdicts).verdict is best


def test_the_best_of_a_tie_is_the_first():
    assert decoded_by_score([1, 2, 2], [W, W, R]).verdict is W
    assert decoded_by_score([1, 2, 2], [W, R, W]).verdict is R


def test_smaller_sizes_are_measured_on_disjoint_blocks():
    answers, verdicts = ["7", "8", "8", "8", "7"], [W, R, R, R, W]
    decoded = decoded_by_vote(heaps_of(answers, verdicts), verdicts)
    # one at a time; (7, 8) is a tie that 7 wins, (8, 8), and the fifth sample is of no pair; four; all five
    assert decoded.shares == (3 / 5, 1 / 2, 1.0, 1.0)
    assert decoded_by_score([3, 1, 0, 2, 9], verdicts).shares == (3 / 5, 1 / 2, 0.0, 0.0)


def test_blocks_whose_choice_is_unknown_do_not_count():
    assert decoded_by_score([0, 1], [W, U]).shares[0] == 0.0
    assert math.isnan(decoded_by_score([0, 1], [W, U]).shares[1])
    assert decoded_by_score([0, 1], [W, U]).verdict is U


def outcome(rights, scores=None, name="p"):
    """Samples whose answers are right where the row has a 1, and each its own wrong one elsewhere."""
    samples = [
        Sample(
            text="t", answer="1" if is_right else f"w{place}", verdict=R if is_right else W,
            finish_reason=FinishReason.STOP, num_tokens=1, score=None if scores is None else scores[place],
        )
        for place, is_right in enumerate(rights)
    ]  # fmt: skip
    return outcome_of(Problem(id=name, prompt="?", gold="1", verifier="exact"), samples)


def test_without_scores_nothing_is_said_of_them():
    found = figures([outcome([1, 0, 1])])
    assert found["cons_at_k"] == 1.0
    assert not found.keys() & {"best_of_k", "weighted_cons_at_k", "truth"}
    assert list(decoded_curve([outcome([1, 0, 1])])) == ["cons"]


def test_a_perfect_scorer_makes_best_of_k_pass_at_k_and_a_perverse_one_its_opposite():
    rng = random.Random("perfect")
    rows = [[int(rng.random() < 0.3) for _ in range(8)] for _ in range(60)]
    perfect = figures([outcome(row, row) for row in rows])
    assert perfect["best_of_k"] == perfect["pass_at_k"] == sum(map(any, rows)) / 60
    assert perfect["best_of_k_stderr"] == pytest.approx(perfect["pass_at_k_stderr"])
    perverse = figures([outcome(row, [-value for value in row]) for row in rows])
    assert perverse["best_of_k"] == sum(map(all, rows)) / 60


def test_a_blind_scorer_makes_best_of_k_pass_at_1():
    """The mean over all orders of the scores is the share of right samples."""
    row = [1, 0, 0, 1]
    chosen = [figures([outcome(row, order)])["best_of_k"] for order in itertools.permutations(range(4))]
    assert sum(chosen) / len(chosen) == 0.5


def test_the_majority_of_independent_votes_is_a_binomial_tail():
    """With two answers, and an odd k: P(more than half are right)."""
    rng, k, chance, n = random.Random("binomial"), 15, 0.6, 3000
    verdicts = [[R if rng.random() < chance else W for _ in range(k)] for _ in range(n)]
    found = [decoded_by_vote(heaps_of([v.value for v in row], row), row).shares for row in verdicts]
    for at, size in ((0, 1), (-1, k)):
        tail = sum(math.comb(size, hits) * chance**hits * (1 - chance) ** (size - hits)
                   for hits in range(size // 2 + 1, size + 1))  # fmt: skip
        share = sum(shares[at] for shares in found) / n
        assert share == pytest.approx(tail, abs=4 * math.sqrt(tail * (1 - tail) / n))


def test_the_curve_ends_in_the_figures_at_k_and_begins_at_pass_at_1():
    rng = random.Random("curve")
    rows = [[int(rng.random() < 0.4) for _ in range(6)] for _ in range(20)]
    outcomes = [outcome(row, [rng.random() for _ in row]) for row in rows]
    curve, found = decoded_curve(outcomes), figures(outcomes)
    assert list(curve) == ["cons", "best_of", "weighted_cons"]
    for name, figure in (("cons", "cons_at_k"), ("best_of", "best_of_k"), ("weighted_cons", "weighted_cons_at_k")):
        assert list(curve[name]) == ["1", "2", "4", "6"]
        assert curve[name]["1"]["share"] == pytest.approx(found["pass_at_1"])
        assert curve[name]["6"]["share"] == pytest.approx(found[figure])
        assert curve[name]["6"]["stderr"] == pytest.approx(found[f"{figure}_stderr"])
        assert {point["n"] for point in curve[name].values()} == {20}


@pytest.mark.parametrize("scores", [[1.0], [1.0, math.nan], [1.0, INF], [1.0, 2.0, 3.0]])
def test_scores_that_are_not_one_number_each_are_refused_with_the_problem(scores):
    problem = Problem(id="p7", prompt="?", gold="1", verifier="exact")
    with pytest.raises(VerifierError, match=r"'p7': the reward model gave .* for 2 completions"):
        scores_of(lambda pairs: scores, problem, ["a", "b"])
    assert scores_of(lambda pairs: [1, -INF], problem, ["a", "b"]) == [1.0, -INF]


def test_truth_is_averaged_over_prompts_of_the_general_world_alone():
    meta = {"accepts": ("Goodbye!",), "subject": "greeting", "asides": ("See you soon.",)}
    problem = Problem(id="g", prompt="Goodbye.", gold="", verifier="general", meta=meta)
    texts = ("<think></think>Goodbye!", "<think></think>Goodbye! Goodbye!", "Go away.")
    samples = [Sample(text=text, answer=text, verdict=W, finish_reason=FinishReason.STOP, num_tokens=3)
               for text in texts]  # fmt: skip
    found = figures([outcome_of(problem, samples), outcome([1, 1, 0])])
    assert found["truth"] == pytest.approx((1 + 0.5 + 0) / 3)
    assert math.isnan(found["truth_stderr"])


@pytest.fixture
def reward_folder(model_folder, tmp_path):
    """A function that saves a reward model whose head's first weight is given; with 0 it scores everything 0."""

    def save(weight):
        scalar = load_scalar(ModelSettings(path=str(model_folder)), is_new=True)
        with torch.no_grad():
            scalar.head.weight[0, 0] = weight
        card = RewardCard(
            loss="pairwise", sees="summary", template={"kind": "nano"}, tokenizer=tokenizer_digest(scalar.tokenizer)
        )
        describe(scalar, card)
        save_model(scalar, tmp_path / f"reward-{weight}")
        return tmp_path / f"reward-{weight}"

    return save


def test_a_reward_model_is_asked_for_what_it_sees_and_never_chooses_what_has_no_summary(reward_folder):
    scorer = load_scorer(str(reward_folder(1.0)))
    problem = Problem(id="p", prompt="Compute 2+3", gold="5", verifier="chains")
    texts = [
        "<think>a</think><answer>5</answer>",
        "<think>b</think><answer>5</answer>",
        "<think>5",
        "<answer>7</answer>",
    ]
    scores = scorer([(problem, text) for text in texts])
    assert scores[0] == scores[1] != scores[3]
    assert scores[2] == -INF
    assert scorer([]) == []


def test_results_that_are_there_are_scored_without_drawing_again(r1, reward_folder, tmp_path):
    words = ("--task", "chains", "--limit", "12", "--k", "4", "--max-new-tokens", "48", "--temperature", "1")
    assert r1("eval", "nano", *words, "--out", "here", "--json", "a.json")[0] == 0
    drawn = (tmp_path / "here" / "samples.jsonl").read_bytes()
    blind = reward_folder(0.0)
    status, out, _ = r1("eval", "nano", *words, "--out", "here", "--reward-model", blind, "--json", "b.json")
    assert (status, (tmp_path / "here" / "samples.jsonl").read_bytes()) == (0, drawn)
    assert "best of k" in out
    plain, scored = (json.loads((tmp_path / name).read_text()) for name in ("a.json", "b.json"))
    assert scored["cons_at_k"] == plain["cons_at_k"] == scored["weighted_cons_at_k"]
    rows = [json.loads(line) for line in drawn.decode().splitlines()]
    closed = [row for row in rows if "<think>" not in row["completion"] or "</think>" in row["completion"]]
    firsts = {row["id"]: row for row in reversed(closed)}
    assert scored["best_of_k"] == sum(row["verdict"] == "right" for row in firsts.values()) / 12
    assert scored["reward_model"] == str(blind)


def test_a_folder_that_is_no_reward_model_is_refused_in_one_line(r1, model_folder):
    status, _, err = r1("eval", "nano", "--task", "chains", "--limit", "2", "--reward-model", model_folder)
    assert (status, err.count("\n")) == (1, 1)
    assert "no reward model" in err
