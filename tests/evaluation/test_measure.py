"""`r1 eval`: what it reports, what it keeps, and what it refuses."""

import json
import math

import numpy as np
import pytest

from r1kit.evaluation.measure import overall
from r1kit.evaluation.outcomes import Sample, outcome_of
from r1kit.rewards import verify
from r1kit.rewards.verifiers import VERIFIERS, FamilyVerifier
from r1kit.tasks import FAMILIES
from r1kit.types import FinishReason, Problem, Verdict

CONTRACT = (
    "pass_at_1", "pass_at_1_stderr", "pass_at_k", "cons_at_k", "k", "n", "truncated_share", "mean_completion_tokens",
    "tokens_per_second", "peak_memory_bytes", "seconds",
)  # fmt: skip
FAST = ("--task", "chains", "--limit", "12", "--k", "4", "--max-new-tokens", "48", "--temperature", "1")


def rows_of(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_one_object_on_standard_output_and_everything_in_the_folder(r1, tmp_path):
    status, out, err = r1("eval", "nano", *FAST, "--out", "here", "--json", "-")
    assert status == 0
    figures = json.loads(out)
    assert [name for name in CONTRACT if figures.get(name) is None] == []
    assert figures == json.loads((tmp_path / "here" / "results.json").read_text())
    assert (figures["k"], figures["n"], figures["temperature"], figures["max_new_tokens"]) == (4, 12, 1.0, 48)
    assert figures["template"] == "nano"
    assert "pass@1" in err and "12 held-out problems" in err

    # The figures, from the kept samples alone.
    rows = rows_of(tmp_path / "here" / "samples.jsonl")
    assert len(rows) == 48
    right = np.array([row["verdict"] == "right" for row in rows], dtype=float).reshape(12, 4)
    assert figures["pass_at_1"] == pytest.approx(right.mean(), rel=1e-12)
    assert figures["pass_at_1_stderr"] == pytest.approx(right.mean(1).std(ddof=1) / math.sqrt(12), rel=1e-12)
    assert figures["pass_at_k"] == right.max(1).mean()
    assert figures["pass_at"]["2"]["pass"] == pytest.approx(
        np.mean([1 - math.comb(4 - int(n), 2) / math.comb(4, 2) for n in right.sum(1)]), rel=1e-12
    )
    assert figures["mean_completion_tokens"] == np.mean([row["num_tokens"] for row in rows])
    assert figures["truncated_share"] == np.mean([row["finish_reason"] == "length" for row in rows])
    for row in rows:
        problem = Problem(id=row["id"], prompt=row["prompt"], gold=row["gold"], verifier="chains")
        assert verify(row["answer"], problem).value == row["verdict"]


def test_without_a_folder_one_under_runs_is_found_again_and_other_settings_get_another(r1, tmp_path):
    assert r1("eval", "nano", *FAST)[0] == 0
    (folder,) = (tmp_path / "runs").iterdir()
    before = (folder / "samples.jsonl").read_bytes()
    status, out, _ = r1("eval", "nano", *FAST)
    assert status == 0 and "12 of 12 problems are there already" in out
    assert list((tmp_path / "runs").iterdir()) == [folder]
    assert (folder / "samples.jsonl").read_bytes() == before
    r1("eval", "nano", *FAST, "--seed", "1")
    assert len(list((tmp_path / "runs").iterdir())) == 2


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (("--temperature", "0.5"), "sampling.temperature 1.0 -> 0.5"),
        (("--k", "2"), "tasks.0.k 4 -> 2"),
        (("--limit", "11"), "tasks.0.num_problems 12 -> 11"),
        (("--seed", "1"), "sampling.seed 0 -> 1"),
        (("--dtype", "bfloat16"), 'model.dtype "float32" -> "bfloat16"'),
    ],
)
def test_a_folder_of_other_settings_is_refused_and_kept(r1, tmp_path, change, said):
    r1("eval", "nano", *FAST, "--out", "here")
    before = (tmp_path / "here" / "samples.jsonl").read_bytes()
    status, _, err = r1("eval", "nano", *FAST, *change, "--out", "here")
    assert status == 1
    assert said in err and err.count("\n") == 1
    assert (tmp_path / "here" / "samples.jsonl").read_bytes() == before


def test_other_weights_under_the_same_name_are_other_settings(r1, model_folder, tmp_path):
    words = ("--template", "nano", *FAST, "--out", "here")
    assert r1("eval", "nano", *words)[0] == 0
    status, _, err = r1("eval", model_folder, *words)
    assert status == 1 and "model.weights" in err


def test_another_batch_size_goes_on(r1, tmp_path):
    r1("eval", "nano", *FAST, "--out", "here", "--batch-size", "4")
    samples = tmp_path / "here" / "samples.jsonl"
    whole = samples.read_text()
    samples.write_text("".join(whole.splitlines(keepends=True)[:21]))
    assert r1("eval", "nano", *FAST, "--out", "here", "--batch-size", "16")[0] == 0
    assert samples.read_text() == whole  # float32: another batch has not changed a token


def test_several_tasks_have_figures_of_their_own_and_a_mean(r1):
    status, out, _ = r1("eval", "nano", *FAST, "--task", "pairs", "--json", "-")
    figures = json.loads(out)
    assert status == 0
    assert list(figures["tasks"]) == ["chains", "pairs"]
    parts = list(figures["tasks"].values())
    assert figures["pass_at_1"] == pytest.approx(sum(part["pass_at_1"] for part in parts) / 2)
    errors = [part["pass_at_1_stderr"] for part in parts]
    assert figures["pass_at_1_stderr"] == pytest.approx(math.hypot(*errors) / 2)
    assert (figures["n"], figures["k"]) == (24, 4)


def test_scores_at_different_ks_are_not_averaged():
    part = dict.fromkeys(CONTRACT, 0.5) | {"k": 4, "n": 10}
    mixed = overall([part, part | {"k": 8}])
    assert (mixed["pass_at_k"], mixed["cons_at_k"], mixed["k"]) == (None, None, None)
    assert mixed["pass_at_1"] == 0.5


def test_figures_are_reported_by_language_and_difficulty(r1):
    _, out, _ = r1("eval", "nano", "--task", "nano", "--limit", "24", "--max-new-tokens", "48", "--json", "-")
    figures = json.loads(out)
    assert set(figures["by"]) == {"verifier", "language", "difficulty"}
    assert set(figures["by"]["language"]) == {"en", "zh"}
    for parts in figures["by"].values():
        assert sum(part["n"] for part in parts.values()) == 24
        mean = sum(part["n"] * part["pass_at_1"] for part in parts.values()) / 24
        assert mean == pytest.approx(figures["pass_at_1"])


def test_two_models_are_compared_problem_by_problem(r1, model_folder, tmp_path):
    words = ("--template", "nano", *FAST)
    r1("eval", model_folder, *words, "--out", "other")
    status, out, _ = r1("eval", "nano", *words, "--out", "here", "--compare", "other", "--json", "f.json")
    assert status == 0 and "paired t, n = 12" in out
    figures = json.loads((tmp_path / "f.json").read_text())
    found = figures["comparison"]["tasks"]["chains"]
    assert found["difference"] == figures["pass_at_1"] > 0  # an untrained model is never right
    assert found["difference_stderr"] == pytest.approx(figures["pass_at_1_stderr"])

    status, out, _ = r1("eval", "nano", *words, "--out", "here", "--compare", model_folder, "--json", "g.json")
    again = json.loads((tmp_path / "g.json").read_text())
    assert status == 0 and again["comparison"]["tasks"]["chains"] == found
    assert again["compared"]["pass_at_1"] == 0
    assert (tmp_path / "here" / "compared" / "samples.jsonl").read_bytes() == (
        tmp_path / "other" / "samples.jsonl"
    ).read_bytes()


def test_results_without_a_common_problem_are_not_compared(r1):
    r1("eval", "nano", "--task", "pairs", "--limit", "3", "--out", "other")
    status, _, err = r1("eval", "nano", *FAST, "--out", "here", "--compare", "other")
    assert status == 1 and "no problem of it is in" in err


class Silent(FamilyVerifier):
    """Can't say anything about an even answer."""

    def judge(self, answer, problem):
        found = super().judge(answer, problem)
        unknown = self.parse(answer) is not None and self.parse(answer) % 2 == 0
        return type(found)(verdict=Verdict.UNKNOWN, reason="even") if unknown else found


def test_unknown_verdicts_are_counted_shown_and_left_out(r1, monkeypatch, tmp_path):
    family = FAMILIES["chains"]
    monkeypatch.setitem(VERIFIERS, "chains", Silent(family.parse, family.is_right))
    _, out, err = r1("eval", "nano", *FAST, "--out", "here", "--json", "-")
    figures, rows = json.loads(out), rows_of(tmp_path / "here" / "samples.jsonl")
    verdicts = [[row["verdict"] for row in rows[start : start + 4]] for start in range(0, 48, 4)]
    known = [[verdict == "right" for verdict in group if verdict != "unknown"] for group in verdicts]
    assert figures["unknown_share"] == sum(group.count("unknown") for group in verdicts) / 48 > 0
    assert figures["n"] == sum(map(bool, known))
    assert figures["pass_at_1"] == pytest.approx(np.mean([np.mean(group) for group in known if group]))
    assert "could not be judged" in err


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (("--k", "4", "--temperature", "0"), 2, "would draw the same completion 4 times"),
        (("--max-new-tokens", "5000"), 2, "the model has 1024 positions; lower it to"),
        (("--top-p", "0"), 2, "--top-p 0.0"),
        (("--json", "nowhere/f.json"), 1, "there is no folder nowhere"),
        (("--template", "chat"), 1, "no chat template"),
    ],
)
def test_what_cannot_be_done_is_refused_in_one_line(r1, words, status, said):
    found, _, err = r1("eval", "nano", "--task", "chains", "--limit", "2", *words)
    assert (found, said in err, "Traceback" in err) == (status, True, False)


def test_completions_that_were_cut_are_warned_of(r1):
    _, out, _ = r1("eval", "nano", "--task", "chains", "--limit", "8", "--max-new-tokens", "4")
    assert "were cut at 4 tokens" in out and "raise --max-new-tokens" in out


def test_memory_grows_with_problems_and_not_with_their_text():
    """What is kept of a problem with 64 long completions is a handful of numbers."""
    text = "wait " * 10_000
    sample = Sample(text=text, answer="1", verdict=Verdict.WRONG, finish_reason=FinishReason.STOP, num_tokens=10_000)
    kept = outcome_of(Problem(id="p", prompt="?", gold="2", verifier="chains"), [sample] * 64)
    assert kept.reflections == 640_000
    assert len(repr(kept)) < 600
