"""Rejection sampling: what is kept, what is said where nothing is, and that a killed run ends in the same bytes."""

import json
import signal

import pytest
from rich.console import Console

from r1kit.errors import DataError, Interrupted, RunError
from r1kit.evaluation.journal import Journal
from r1kit.recipe import parse_recipe
from r1kit.rewards.format import check_format
from r1kit.rewards.judging import judge_text
from r1kit.stages.rejection import run_rejection
from r1kit.tasks import sample_problems

FILES = ("samples.jsonl", "traces.jsonl", "funnel.json", "done.json")


class Killed(BaseException):
    """Stands for SIGKILL: nothing catches it."""


@pytest.fixture
def table(tmp_path):
    """A cold start from the nano base model: a few seconds."""
    general = tmp_path / "general.jsonl"
    rows = [{"prompt": f"Hello {number}!", "completion": "Hello! How can I help?"} for number in range(30)]
    general.write_text("".join(json.dumps(row) + "\n" for row in rows))
    example = {"question": "Compute 3+4", "completion": "<think>check steps:3+4=7 ok</think><answer>7</answer>"}
    return {
        "kind": "rejection",
        "num_problems": 24,
        "tasks": [{"kind": "chains", "terms": 3}, {"kind": "pairs", "numbers": 4}],
        "sampling": {"max_new_tokens": 64},
        "routes": [{"kind": "plain", "samples": 4}, {"kind": "few_shot", "samples": 2, "examples": [example]}],
        "rewriting": {"kind": "template"},
        "general": {"path": str(general)},
        "run": {"max_sequences": 8, "num_threads": 1},
    }


@pytest.fixture
def console():
    return Console(quiet=True)


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def test_traces_are_right_readable_and_mixed_three_to_one(table, run_to_the_end, tmp_path):
    recipe = parse_recipe(table, source="cold start")
    folder = run_to_the_end(recipe, tmp_path / "run")
    traces, funnel = rows_of(folder / "traces.jsonl"), json.loads((folder / "funnel.json").read_text())
    problems = {p.id: p for p in sample_problems(recipe.tasks, 24, seed="0/rejection/problems", split="train")}
    reasoning = [trace for trace in traces if trace["domain"] != "general"]
    assert len(reasoning) >= 8
    assert len(traces) - len(reasoning) == round(len(reasoning) / 3)
    for trace in reasoning:
        problem = problems[trace["id"].partition("#")[0]]
        check = check_format(trace["completion"])
        assert judge_text(trace["completion"], problem).judgement.verdict == "right"
        assert check.think_only and not check.strict
        sentence = {"en": "The answer is <answer>", "zh": "答案是<answer>"}[problem.language]
        assert trace["completion"].partition("</think>")[2].startswith(sentence)
        assert (trace["prompt"], trace["language"], trace["family"]) == (
            problem.prompt,
            problem.language,
            problem.verifier,
        )
    first, last = funnel["filters"][0], funnel["filters"][-1]
    assert first["kept"] + first["dropped"] == funnel["drawn"] == 24 * 6
    assert [row["kept"] + row["dropped"] for row in funnel["filters"][1:]] == [
        row["kept"] for row in funnel["filters"][:-1]
    ]
    assert last["kept"] == len(reasoning)
    assert funnel["domains"][-1]["samples"] == len(traces)
    assert {row["domain"] for row in funnel["domains"]} == {"math", "general", "total"}


@pytest.mark.parametrize("call", [1, 7, 30])
def test_a_killed_run_goes_on_to_the_same_bytes(table, run_to_the_end, tmp_path, monkeypatch, call):
    recipe = parse_recipe(table, source="cold start")
    alone = run_to_the_end(recipe, tmp_path / "alone")
    folder, calls, append = tmp_path / "run", [], Journal.append

    def killed(self, rows):
        calls.append(1)
        if len(calls) == call:
            with self.path.open("ab") as file:
                file.write(b'{"route": "plain", "id": "cha')
            raise Killed
        append(self, rows)

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(Journal, "append", killed)
        run_to_the_end(recipe, folder)
    run_to_the_end(recipe, folder, resume=True)
    assert [(folder / name).read_bytes() for name in FILES] == [(alone / name).read_bytes() for name in FILES]


def test_an_interrupt_keeps_what_was_drawn_and_says_how_to_go_on(table, run_to_the_end, tmp_path, monkeypatch):
    recipe, append = parse_recipe(table, source="cold start"), Journal.append

    def interrupted(self, rows):
        append(self, rows)
        if self.path.read_bytes().count(b"\n") == 5:
            signal.raise_signal(signal.SIGINT)

    with monkeypatch.context() as patched, pytest.raises(Interrupted, match="--resume"):
        patched.setattr(Journal, "append", interrupted)
        run_to_the_end(recipe, tmp_path / "run")
    assert len(rows_of(tmp_path / "run" / "samples.jsonl")) == 5
    assert not (tmp_path / "run" / "done.json").exists()
    assert (run_to_the_end(recipe, tmp_path / "run", resume=True) / "done.json").exists()


def test_where_nothing_is_left_the_filter_is_named_and_can_be_changed(table, run_to_the_end, tmp_path, monkeypatch):
    strict = parse_recipe(table | {"filters": {"min_thinking_chars": 5000}}, source="cold start")
    with pytest.raises(DataError, match=r"nothing is left of 144 .*'(right|some thinking)' dropped") as raised:
        run_to_the_end(strict, tmp_path / "run")
    assert "\n" not in str(raised.value)
    before = (tmp_path / "run" / "samples.jsonl").read_bytes()
    monkeypatch.setattr("r1kit.engine.native.engine.NativeEngine.step", None)  # nothing is drawn again
    folder = run_to_the_end(parse_recipe(table, source="cold start"), tmp_path / "run", resume=True)
    assert (folder / "samples.jsonl").read_bytes() == before
    assert rows_of(folder / "traces.jsonl")


def test_no_right_completion_for_any_problem_is_one_clear_message(table, model_folder, run_to_the_end, tmp_path):
    untrained = parse_recipe(table | {"model": {"path": str(model_folder)}}, source="cold start")
    with pytest.raises(DataError, match=r"'right' dropped 144 .*num_problems, or samples of a route"):
        run_to_the_end(untrained, tmp_path / "run")


def test_what_was_drawn_otherwise_is_not_gone_on_with(table, run_to_the_end, tmp_path):
    run_to_the_end(parse_recipe(table, source="cold start"), tmp_path / "run")
    other = parse_recipe(table | {"sampling": {"max_new_tokens": 65}}, source="cold start")
    with pytest.raises(RunError, match=r"sampling\.max_new_tokens"):
        run_to_the_end(other, tmp_path / "run", resume=True)


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        ("", "holds no general example"),
        ("{}\n", "line 1: not a row with `prompt` and `completion`"),
        ('{"prompt": "Hello!", "completion": 3}\n', "line 1: `prompt` must be a string"),
        ("[1]", "one JSON array"),
    ],
)
def test_a_general_set_that_is_empty_or_bad_stops_before_anything_is_drawn(table, tmp_path, console, content, expected):
    (tmp_path / "general.jsonl").write_text(content)
    with pytest.raises(DataError, match=expected):
        run_rejection(parse_recipe(table, source="x"), tmp_path / "run", resume=False, console=console)
    assert not (tmp_path / "run").exists()


def test_a_finished_run_is_not_done_again(table, run_to_the_end, tmp_path, monkeypatch):
    recipe = parse_recipe(table, source="cold start")
    folder = run_to_the_end(recipe, tmp_path / "run")
    times = [(folder / name).stat().st_mtime_ns for name in FILES]
    run_to_the_end(recipe, folder, resume=True)
    assert [(folder / name).stat().st_mtime_ns for name in FILES] == times
