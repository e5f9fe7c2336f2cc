"""Training on problems of a file: checked before the start, visited evenly, and the same when it was stopped."""

import json

import pytest
from rich.console import Console

from r1kit.errors import DataError, RecipeError, VerifierError
from r1kit.pipeline import train
from r1kit.stages import grpo
from r1kit.stages.preparation import check_before_start, make_trainee


@pytest.fixture
def on_file(tiny, tmp_path):
    """A function from rows to a tiny recipe that trains on them."""

    def make(rows, settings=None, **sections):
        path = tmp_path / "problems.jsonl"
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        task = {"kind": "jsonl", "path": str(path), "held_out": 0.5} | (settings or {})
        return tiny(tasks=[task], **{"evaluation": {"num_problems": 5}} | sections)

    return make


def sums(number, **fields):
    return [{"id": f"q{n}", "question": f"Sum {n}+1", "answer": str(n + 1), "verifier": "sums"} | fields
            for n in range(number)]  # fmt: skip


def drawn(folder):
    """Problem ids by iteration."""
    turns: dict[int, list[str]] = {}
    for line in (folder / "rollouts.jsonl").read_text("utf-8").splitlines():
        row = json.loads(line)
        turns.setdefault(row["iteration"], []).append(row["problem_id"])
    return {turn: list(dict.fromkeys(ids)) for turn, ids in turns.items()}


@pytest.mark.parametrize("curriculum", [{"kind": "even"}, {"kind": "solve_rate", "exploration": 0.3}])
def test_a_killed_run_goes_on_to_the_same_weights_and_problems(
    on_file, run_to_the_end, outcome, tmp_path, monkeypatch, curriculum
):
    recipe = on_file(sums(30), curriculum=curriculum, run={"rollouts_interval_iterations": 1})
    alone = run_to_the_end(recipe, tmp_path / "alone")
    updates, real = [], grpo.update

    def die_in_the_fourth(*args, **kwargs):
        updates.append(1)
        if len(updates) == 4:
            raise KeyboardInterrupt
        return real(*args, **kwargs)

    monkeypatch.setattr(grpo, "update", die_in_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(recipe, tmp_path / "killed")
    monkeypatch.setattr(grpo, "update", real)
    killed = run_to_the_end(recipe, tmp_path / "killed", resume=True)
    assert drawn(killed) == drawn(alone)
    assert outcome(killed) == outcome(alone)
    ids = [problem for turn in drawn(alone).values() for problem in turn]
    if curriculum["kind"] == "even":
        assert max(map(ids.count, ids)) - min(map(ids.count, ids)) <= 1, "24 draws of about 15 problems"


def test_a_run_says_what_became_of_the_rows(on_file, tmp_path):
    folder = tmp_path / "run"
    rows = [*sums(30), {"question": "sum  3+1", "answer": "4", "verifier": "sums"}, {"question": "No answer"}]
    recipe = on_file(rows, {"bad_rows": "skip"}, rollouts={"num_iterations": 1})
    with (tmp_path / "console.txt").open("w") as file:
        train(recipe, folder, resume=False, explain=False, console=Console(file=file, width=500))
    for said in ((tmp_path / "console.txt").read_text(), (folder / "log.txt").read_text()):
        assert "problems.jsonl: 32 rows" in said
        assert "left out: 1 duplicates, 1 bad rows (the first: line 32: " in said


@pytest.mark.parametrize(
    ("rows", "error", "complaint"),
    [
        (sums(30, verifier="sum"), DataError, r"problems\.jsonl: unknown verifier 'sum'; did you mean 'sums'\?"),
        (sums(30, verifier="choice"), VerifierError, r"'choice' calls \d+ of \d+ golds unknown: '\d+' of problem"),
        ([*sums(30), {"question": "x 9 " * 300, "answer": "1", "verifier": "sums"}], RecipeError, "max_prompt_chars"),
        ([*sums(30), {"id": "last", "question": "?", "verifier": "sums"}], DataError, "line 31: field 'answer'"),
        (sums(3), DataError, r"only \d different"),
    ],
)  # fmt: skip
def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    on_file, run_to_the_end, tmp_path, rows, error, complaint
):
    with pytest.raises(error, match=complaint):
        run_to_the_end(on_file(rows), tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_few_golds_that_cannot_be_read_do_not_stop_a_run(on_file):
    rows = sums(40, verifier="choice", answer="A", choices=["a", "b"])
    rows = [row | {"question": f"{row['question']}?"} for row in rows]
    rows[3]["answer"] = "Z"
    check_before_start(
        recipe := on_file(rows, {"held_out": 0.9}, evaluation={"num_problems": 30}), make_trainee(recipe)
    )


def test_the_file_of_a_resumed_run_must_be_the_same(on_file, run_to_the_end, tmp_path, monkeypatch):
    recipe = on_file(sums(30))
    monkeypatch.setattr(grpo, "finish", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run_to_the_end(recipe, tmp_path / "run")
    with pytest.raises(DataError, match="the data has changed since the checkpoint: "):
        run_to_the_end(on_file(sums(40)), tmp_path / "run", resume=True)
