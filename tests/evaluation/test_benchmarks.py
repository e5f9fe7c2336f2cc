"""Which problems a task's name means, and how they are asked."""

import json

import pytest

from r1kit.config.evaluation import EvalSettings
from r1kit.demo import Bench, demo_recipe
from r1kit.errors import DataError, RecipeError, VerifierError
from r1kit.evaluation.benchmarks import BENCHMARKS, find_tasks, with_own_ids
from r1kit.types import Problem


@pytest.fixture
def data(tmp_path):
    def write(name, rows):
        (tmp_path / name).write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))

    write(
        "math500.jsonl", [{"id": f"m/{n}", "problem": f"What is {n}?", "answer": f"{n}", "level": n} for n in range(20)]
    )
    write("gsm8k_test.jsonl", [{"question": "2 + 2?", "answer": "4", "solution": "#### 4"}])
    write("cmath.jsonl", [{"id": "c", "question": "1加1等于几？", "answer": "2"}])
    write("mmlu_stem.jsonl", [{"id": "s", "question": "Which?", "choices": ["this", "that"], "answer": "B"}])
    write("mine.jsonl", [{"question": "Twice?", "answer": 2, "id": 7}, {"question": "Thrice?", "answer": 3, "id": 7}])
    return tmp_path


def find(name, data=None, *, chat=True, **settings):
    (task,) = find_tasks([name], EvalSettings(**settings), data=data, chat=chat)
    return task


def test_a_benchmark_brings_its_verifier_its_k_its_cap_and_its_instruction(data):
    task = find("math500", data)
    assert (task.k, task.max_new_tokens, len(task.problems)) == (16, 32_768, 20)
    assert task.problems[3].verifier == "math"
    assert task.problems[3].prompt == (
        "What is 3?\nPlease reason step by step, and put your final answer within \\boxed{}."
    )
    assert task.problems[3].meta["level"] == 3
    assert BENCHMARKS["aime24"].k == BENCHMARKS["gpqa"].k == 64  # arXiv:2501.12948v2, supplement D.1
    assert "逐步推理" in find("cmath", data).problems[0].prompt
    assert find("gsm8k", data).problems[0].meta["verifier_options"] == {"last_expression": True}
    assert find("mmlu_stem", data).problems[0].prompt.startswith("Which?\n\nA. this\nB. that")


def test_other_templates_state_the_form_themselves_and_an_instruction_can_be_given_or_taken_away(data):
    assert find("math500", data, chat=False).problems[0].prompt == "What is 0?"
    assert find("math500", data, instruction="").problems[0].prompt == "What is 0?"
    assert find("math500", data, chat=False, instruction="Be brief.").problems[0].prompt == "What is 0?\nBe brief."


def test_a_limit_takes_the_first_problems_or_draws_them_by_the_seed(data):
    first = find("math500", data, limit=5)
    assert [problem.id for problem in first.problems] == [f"m/{number}" for number in range(5)]
    assert first.origin.endswith("the first 5 of 20 problems")
    drawn = [find("math500", data, limit=5, shuffle=True, seed=seed) for seed in (0, 0, 1)]
    ids = [[problem.id for problem in task.problems] for task in drawn]
    assert ids[0] == ids[1] != ids[2]
    assert ids[0] != [problem.id for problem in first.problems]
    assert "drawn by seed 1" in drawn[2].origin
    assert "all 20 problems" in find("math500", data, limit=20).origin


def test_a_file_of_ones_own_is_a_task_and_rows_that_share_an_id_are_told_apart(data):
    task = find(str(data / "mine.jsonl"))
    assert (task.name, task.k) == ("mine", 1)
    assert [problem.id for problem in task.problems] == ["mine/7", "mine/7#2"]
    assert [problem.gold for problem in task.problems] == ["2", "3"]


def test_the_nano_set_is_what_the_demo_is_measured_on():
    for name, difficulty in (("nano", "trained"), ("nano_harder", "harder")):
        expected = Bench(demo_recipe(0)).problems(difficulty)
        assert list(find(name).problems) == expected


def test_a_family_takes_its_dials():
    task = find("chains:terms=9,languages=en", limit=4)
    assert [problem.meta["difficulty"] for problem in task.problems] == [9] * 4
    assert {problem.language for problem in task.problems} == {"en"}
    assert task.name == "chains:terms=9,languages=en"


@pytest.mark.parametrize(
    ("name", "error", "said"),
    [
        ("chians", RecipeError, "did you mean 'chains'"),
        ("chains:trems=3", RecipeError, "trems"),
        ("chains:terms=99", RecipeError, "terms: Input should be less than or equal to 16"),
        ("aime24", DataError, r"holds no aime24\.jsonl"),
        ("nowhere/mime.jsonl", DataError, "no such file"),
    ],
)
def test_what_is_not_there_is_named(data, name, error, said):
    with pytest.raises(error, match=said):
        find(name, data)


def test_a_benchmark_without_a_folder_says_which_option_is_missing():
    with pytest.raises(RecipeError, match=r"--data FOLDER where math500\.jsonl lies"):
        find("math500")


@pytest.mark.parametrize(
    ("row", "said"),
    [("not json", "line 2: not valid JSON"), ('{"question": "?"}', "line 2: field 'answer'"), ("[3]", "line 2")],
)
def test_a_bad_row_stops_an_evaluation_before_it_begins(tmp_path, row, said):
    (tmp_path / "bad.jsonl").write_text(f'{{"question": "1+1?", "answer": "2"}}\n{row}\n')
    with pytest.raises(DataError, match=said):
        find(str(tmp_path / "bad.jsonl"))


def test_an_unknown_verifier_is_named_before_anything_is_drawn(tmp_path):
    (tmp_path / "v.jsonl").write_text('{"question": "1+1?", "answer": "2", "verifier": "maths"}\n')
    with pytest.raises(VerifierError, match="'maths'; did you mean 'math'"):
        find(str(tmp_path / "v.jsonl"))


def test_ids_are_told_apart_wherever_they_recur():
    problems = [Problem(id=name, prompt="?", gold="1", verifier="math") for name in "abaa"]
    assert [problem.id for problem in with_own_ids(problems)] == ["a", "b", "a#2", "a#3"]
