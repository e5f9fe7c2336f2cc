"""Which rows of a file become problems of which split, what is left out and what is said of it."""

import json
import time

import pytest
from pydantic import ValidationError

from r1kit.config.tasks import HubTask, JsonlTask
from r1kit.errors import DataError
from r1kit.tasks.problem_sets import load_problems


def ids(problems):
    return [problem.id for problem in problems]


def test_a_share_is_held_out_by_the_id_alone(load_rows, make_rows):
    rows = make_rows(2000)
    whole = load_rows(rows, held_out=0.25)
    assert 0.21 < len(whole.held_out) / 2000 < 0.29
    assert sorted(ids(whole.train) + ids(whole.held_out)) == sorted(row["id"] for row in rows)
    # Other rows, another order, another text: a problem stays where it was.
    changed = [row | {"question": row["question"] + " Tell me."} for row in rows[:1000]][::-1]
    part = load_rows(changed, held_out=0.25)
    assert set(ids(part.held_out)) == set(ids(whole.held_out)) & {row["id"] for row in rows[:1000]}
    # A smaller share is part of a larger one.
    assert set(ids(load_rows(rows, held_out=0.1).held_out)) < set(ids(whole.held_out))


@pytest.mark.parametrize(("share", "held_out"), [(0.0, 0), (1.0, 50)])
def test_none_and_all_can_be_held_out(load_rows, make_rows, share, held_out):
    found = load_rows(make_rows(50), held_out=share)
    assert (len(found.train), len(found.held_out)) == (50 - held_out, held_out)


def test_a_file_can_feed_one_split_alone(load_rows, make_rows):
    for use_for, sizes in (("train", (9, 0)), ("held_out", (0, 9))):
        found = load_rows(make_rows(9), use_for=use_for)
        assert (len(found.train), len(found.held_out)) == sizes


def test_translations_stay_in_one_split(load_rows):
    rows = [{"id": f"{lang}{n}", "question": f"{lang} {n}", "answer": "1", "n": n, "lang": lang}
            for n in range(200) for lang in ("en", "zh", "de")]  # fmt: skip
    found = load_rows(rows, held_out=0.2, fields={"content": "n"})
    train, held_out = ({problem.meta["n"] for problem in part} for part in (found.train, found.held_out))
    assert train & held_out == set() and len(held_out) > 20
    assert len(found.held_out) == 3 * len(held_out)
    assert {problem.language for problem in found.held_out} == {"en", "zh", "de"}


def test_a_held_out_file_is_kept_whole_and_the_training_file_loses_what_it_repeats(write_rows, make_rows):
    rows = make_rows(10, solve_rate=0.5, near_eval=[])
    test = [{"question": "what  is 3 + 1?", "answer": "4"}, {"question": "New?", "answer": "1"}]
    task = JsonlTask(
        path=write_rows(rows),
        held_out_path=write_rows(test, "test.jsonl"),
        min_solve_rate=0.1,
        drop_if="near_eval",
        limit=5,
    )
    found = load_problems(task)
    assert ids(found.train) == ["q0", "q1", "q2", "q4", "q5"]
    assert [problem.prompt for problem in found.held_out] == ["what  is 3 + 1?", "New?"]
    assert found.report.dropped == {"duplicates": 1, "over the limit": 4}


def test_repeated_questions_are_dropped_and_counted(load_rows):
    rows = [
        {"id": "a", "question": "What is 1 + 1?", "answer": "2"},
        {"id": "b", "question": " what IS\n1 + 1? ", "answer": "2 "},
        {"id": "c", "question": "What is 1 + 1?", "answer": "3"},
        {"id": "d", "question": "What is 1 + 2?", "answer": "3"},
    ]
    found = load_rows(rows)
    assert ids(found.train) == ["a", "d"]
    assert (found.report.dropped, found.report.num_conflicts) == ({"duplicates": 2}, 1)
    assert "2 duplicates, 1 of the duplicates had another answer than the one kept" in str(found.report)
    assert ids(load_rows(rows, deduplicate=False).train) == ["a", "b", "c", "d"]


def test_the_same_last_question_after_another_beginning_is_another_problem(load_rows):
    rows = [
        {"answer": "1", "messages": [{"role": "system", "content": text}, {"role": "user", "content": "Go on."}]}
        for text in ("Count up.", "Count down.", "count  down.")
    ]
    assert len(load_rows(rows).train) == 2


def test_an_id_that_stands_twice_is_a_bad_row(load_rows, make_rows):
    rows = [*make_rows(3), {"id": "q1", "question": "Something else?", "answer": "1"}]
    with pytest.raises(DataError, match="line 4: id 'q1' stands in line 2 too, with another question"):
        load_rows(rows)


def test_filters_keep_what_they_say(load_rows, tmp_path):
    rows = [
        {"id": f"q{n}", "question": "x" * (n + 1), "answer": "1", "rate": n / 10, "near_eval": ["e"] if n == 4 else []}
        for n in range(11)
    ]
    denied = tmp_path / "denied.txt"
    denied.write_text("q5\n\n  q9 \nnobody\n")
    found = load_rows(
        rows,
        fields={"solve_rate": "rate"},
        min_solve_rate=0.1,
        max_solve_rate=0.9,
        drop_if=["near_eval"],
        drop_ids=denied,
        max_prompt_chars=9,
        limit=4,
    )
    assert ids(found.train) == ["q1", "q2", "q3", "q6"]
    assert found.report.dropped == {
        "by solve rate": 2,
        "with near_eval": 1,
        "named in drop_ids": 2,
        "over the limit": 2,
    }
    assert (found.report.num_rows, found.report.num_train) == (11, 4)
    assert [problem.meta["solve_rate"] for problem in found.train] == [0.1, 0.2, 0.3, 0.6]


def test_what_r1_sample_wrote_is_filtered_by_solve_rate(load_rows):
    rows = [
        {"id": str(rate), "question": f"{rate}?", "answer": "1", "completions": [], "verdicts": [], "solve_rate": rate}
        for rate in (0.0, 0.1, 0.5, 0.9, 1, None)
    ]
    found = load_rows(rows, min_solve_rate=0.1, max_solve_rate=0.9)
    assert ids(found.train) == ["0.1", "0.5", "0.9"]
    assert found.report.dropped == {"by solve rate": 2, "without a solve rate": 1}
    with pytest.raises(DataError, match="field 'solve_rate' must be a number from 0 to 1, not 'half'"):
        load_rows([*rows, {"question": "?", "answer": "1", "solve_rate": "half"}], max_solve_rate=0.9)


def test_bad_rows_stop_the_run_or_are_passed_over_and_told(load_rows, make_rows):
    rows = [*make_rows(2), '{"question": ', {"question": "No answer."}, "[]", '{"id": "z"}', *make_rows(4)[2:]]
    with pytest.raises(DataError) as caught:
        load_rows(rows)
    message = str(caught.value)
    assert "set.jsonl: 4 of 8 rows can't be used: line 3: not valid JSON" in message
    assert "line 5: expected an object" in message and "and 1 more. Mend them, or pass over them" in message
    found = load_rows(rows, bad_rows="skip")
    assert ids(found.train) == ["q0", "q1", "q2", "q3"]
    assert len(found.report.bad) == 4
    assert "8 rows, 4 to train on, 0 held out; left out: 4 bad rows (the first: line 3: " in str(found.report)


@pytest.mark.parametrize(
    ("rows", "settings", "complaint"),
    [
        ([], {}, "set.jsonl: holds no rows"),
        (["", "  "], {}, "set.jsonl: holds no rows"),
        (["{", "[]"], {"bad_rows": "skip"}, "2 of 2 rows can't be used"),
        ([{"question": "long", "answer": "1"}], {"max_prompt_chars": 3}, "no row is left of 1; left out: 1 too long"),
        ([{"question": " ", "answer": "1"}], {"bad_rows": "skip"}, r"no row is left of 1; left out: 1 bad rows \(the"),
    ],
)
def test_a_file_of_which_nothing_is_left_is_an_error(load_rows, rows, settings, complaint):
    with pytest.raises(DataError, match=complaint):
        load_rows(rows, **settings)


def test_a_list_of_ids_that_cannot_be_read_is_an_error(load_rows, make_rows, tmp_path):
    with pytest.raises(DataError, match=r"none\.txt: cannot be read as a list of ids"):
        load_rows(make_rows(2), drop_ids=tmp_path / "none.txt")


def test_a_file_is_read_once_until_it_changes(write_rows, make_rows):
    task = JsonlTask(path=write_rows(make_rows(5)), held_out=0.0)
    first = load_problems(task)
    assert load_problems(task) is first
    assert load_problems(task.model_copy(update={"weight": 3.0})) is first
    assert load_problems(task.model_copy(update={"limit": 2})) is not first
    write_rows(make_rows(6))
    assert len(load_problems(task).train) == 6


def test_a_relative_path_starts_at_the_current_folder(write_rows, make_rows, monkeypatch):
    monkeypatch.chdir(write_rows(make_rows(3)).parent)
    assert len(load_problems(JsonlTask(path="set.jsonl", use_for="train")).train) == 3


def test_thirty_thousand_rows_load_in_a_second_or_two(tmp_path):
    path = tmp_path / "many.jsonl"
    filling = "Some words of a longer question. " * 10
    path.write_text("".join(json.dumps({"question": f"{filling}{n}", "answer": str(n)}) + "\n" for n in range(30_000)))
    started = time.process_time()
    found = load_problems(JsonlTask(path=path))
    assert time.process_time() - started < 6, "0.8 seconds on one core"
    assert len(found.train) + len(found.held_out) == 30_000


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"held_out_path": "b", "use_for": "train"}, "held_out_path is set, but use_for = 'train'"),
        ({"min_solve_rate": 0.9, "max_solve_rate": 0.1}, "min_solve_rate is 0.9, above max_solve_rate 0.1"),
        ({"language": "English"}, "language"),
        ({"held_out": 1.5}, "held_out"),
        ({"limit": True}, "limit"),
        ({"fields": {"question": 3}}, "question"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(settings, complaint):
    with pytest.raises(ValidationError, match=complaint):
        JsonlTask(path="a", **settings)


def test_a_hub_task_has_one_held_out_set_too():
    with pytest.raises(ValidationError, match="held_out_split is set, but use_for = 'held_out'"):
        HubTask(dataset="a/b", held_out_split="test", use_for="held_out")
