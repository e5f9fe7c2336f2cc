"""Equal compute: what is counted, and that training ends where as much is spent."""

import json

import pytest
import torch

from r1kit.errors import RunError
from r1kit.stages.compute import fine_tuning_tokens, trained_tokens
from r1kit.types import Completion, FinishReason, Group, Problem, Rollout, Score, Verdict


def group(*lengths):
    problem = Problem(id="p", prompt="?", gold="1", verifier="chains")
    rollouts = [
        Rollout(
            problem=problem,
            prompt_token_ids=(1, 2),
            completion=Completion(
                token_ids=(3,) * n, logprobs=(0.0,) * n, text="", finish_reason=FinishReason.STOP, policy_version=0
            ),
            score=Score(total=0.0, parts={}, verdict=Verdict.WRONG),
        )
        for n in lengths
    ]
    return Group(problem=problem, rollouts=tuple(rollouts))


def fine_tuning(folder, *tokens):
    (folder / "final").mkdir(parents=True)
    rows = [{"iteration": n, "num_tokens": count} for n, count in enumerate(tokens)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_groups_that_teach_nothing_cost_no_training():
    groups = [group(5, 7), group(100, 100), group(1, 1)]
    assert trained_tokens(groups, torch.tensor([[1.0, -1.0], [0.0, 0.0], [0.0, 0.5]])) == (5 + 7 + 4) + (1 + 1 + 4)
    assert trained_tokens([], torch.zeros(0, 2)) == 0


def test_a_fine_tuning_is_counted_from_its_own_metrics(tmp_path):
    folder = fine_tuning(tmp_path / "sft", 100, 150)
    assert fine_tuning_tokens(folder) == fine_tuning_tokens(folder / "final") == 250
    with pytest.raises(RunError, match="holds no finished fine-tuning"):
        fine_tuning_tokens(tmp_path / "none")


def test_training_ends_with_the_iteration_that_spends_the_budget(tiny, run_to_the_end, tmp_path):
    whole = run_to_the_end(tiny(), tmp_path / "whole")
    rows = [json.loads(line) for line in (whole / "metrics.jsonl").read_text().splitlines()]
    spent = [row["completion_tokens"] + row["trained_tokens"] for row in rows if "reward" in row]
    assert len(spent) == 6
    other = fine_tuning(tmp_path / "sft", sum(spent[:2]) + 1)
    cut = run_to_the_end(
        tiny(rollouts={"equal_compute_to": str(other)}, optimizer={"schedule": "constant"}), tmp_path / "cut"
    )
    rows = [json.loads(line) for line in (cut / "metrics.jsonl").read_text().splitlines()]
    assert sum("reward" in row for row in rows) == 3
    assert "that the fine-tuning trained" in (cut / "log.txt").read_text()
