"""What is measured of a checkpoint beside its accuracy: whether it reads well, and how long it thinks."""

import math
from types import SimpleNamespace

import pytest

from r1kit.evaluation.checkpoints import reads_well, thinking_by_task
from r1kit.types import Completion, FinishReason, Group, Problem, Rollout, Score, Verdict

READABLE = {"think_format": 1.0, "language": 1.0, "repetition": 0.0}


def rollout(text="<think>a</think>b", *, finish_reason=FinishReason.STOP, difficulty=4, **parts):
    problem = Problem(id="p", prompt="?", gold="1", verifier="pairs", meta={"difficulty": difficulty})
    completion = Completion(token_ids=(1,), logprobs=(0.0,), text=text, finish_reason=finish_reason, policy_version=0)
    score = Score(total=0.0, parts=READABLE | parts, verdict=Verdict.WRONG)
    return Rollout(problem=problem, prompt_token_ids=(), completion=completion, score=score)


@pytest.mark.parametrize(
    ("parts", "is_readable"),
    [
        ({}, True),
        ({"language": 0.9, "repetition": -0.2}, True),
        ({"language": 0.89}, False),
        ({"repetition": -0.21}, False),
        ({"think_format": 0.0}, False),
    ],
)
def test_a_completion_reads_well_up_to_the_limits(parts, is_readable):
    assert reads_well(rollout(**parts)) is is_readable


def test_a_cut_completion_does_not_read_well():
    assert not reads_well(rollout(finish_reason=FinishReason.LENGTH))


def test_thinking_is_counted_in_tokens_up_to_its_end_by_family_and_difficulty():
    def tokenizer(texts, *, add_special_tokens):
        assert not add_special_tokens
        return {"input_ids": [text.split() for text in texts]}

    texts = {4: ["<think>a b c</think>d e", "<think>a</think>"], 6: ["<think>a b c d never ends", "no tags"]}
    groups = [
        Group(problem=rollout(difficulty=n).problem, rollouts=tuple(rollout(text, difficulty=n) for text in each))
        for n, each in [*texts.items(), (4, ["<think>a b c d</think>"])]
    ]
    found = thinking_by_task(groups, SimpleNamespace(tokenizer=tokenizer))
    assert found["pairs 4"]["tokens"] == 3.0  # problems of 2 and 4 tokens on average
    assert found["pairs 4"]["tokens_stderr"] == pytest.approx(math.sqrt(2) / math.sqrt(2))
    assert (found["pairs 4"]["n"], found["pairs 6"]["n"]) == (2, 1)
    assert found["pairs 6"]["tokens"] == 4.0  # six and two: thinking that never ends counts whole
