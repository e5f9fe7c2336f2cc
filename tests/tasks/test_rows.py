"""From rows to problems: which field is what, what the prompt says, and which rows are none."""

import json
import re

import pytest
from pydantic import ValidationError

from r1kit.config.tasks import ChainsTask, CountdownTask, JsonlTask, LogicTask, OrderingTask, PairsTask
from r1kit.errors import DataError
from r1kit.tasks import FAMILIES, sample_problems
from r1kit.tasks.rows import verifier_for


def only(found):
    (problem,) = found.train
    return problem


@pytest.mark.parametrize("name", ["question", "problem", "prompt", "text", "instruction"])
def test_the_question_may_have_any_usual_name(load_rows, name):
    problem = only(load_rows([{"id": "a", name: " 1+1? ", "answer": "2", "level": 3}]))
    assert (problem.id, problem.prompt, problem.gold, problem.verifier, problem.language) == (
        "a", " 1+1? ", "2", "math", "en",
    )  # fmt: skip
    assert problem.meta == {name: " 1+1? ", "level": 3, "language_told_by": "script"}
    assert problem.messages == ()


def test_names_can_be_mapped(load_rows):
    row = {"frage": "1+1?", "lösung": 2, "nr": 7, "sprache": "de", "wie": "exact", "stufe": 4, "quote": 0.25}
    fields = {"question": "frage", "answer": "lösung", "id": "nr", "language": "sprache", "verifier": "wie",
              "difficulty": "stufe", "solve_rate": "quote"}  # fmt: skip
    problem = only(load_rows([row], fields=fields))
    assert (problem.id, problem.prompt, problem.gold) == ("set/7", "1+1?", "2")
    assert (problem.language, problem.verifier) == ("de", "exact")
    assert problem.meta == {"frage": "1+1?", "stufe": 4, "quote": 0.25, "difficulty": 4, "solve_rate": 0.25}


def test_a_mapped_answer_leaves_the_usual_one_in_meta(load_rows):
    problem = only(load_rows([{"question": "?", "answer": "long", "short": "2"}], fields={"answer": "short"}))
    assert (problem.gold, problem.meta["answer"]) == ("2", "long")


@pytest.mark.parametrize(
    ("answer", "gold"),
    [
        ("72", "72"),
        (" 72 ", "72"),
        (72, "72"),
        (72.0, "72"),
        (0.1, "0.1"),
        (-3, "-3"),
        ("\\frac{1}{2}", "\\frac{1}{2}"),
    ],
)
def test_a_gold_is_a_text_or_a_number(load_rows, answer, gold):
    assert only(load_rows([{"question": "?", "answer": answer}])).gold == gold


def test_the_gold_may_stand_after_a_mark(load_rows):
    rows = [{"question": "?", "answer": "6 * 12 = 72 #### 5\n#### 1,072"}]
    assert only(load_rows(rows, answer_after="####")).gold == "1,072"
    with pytest.raises(DataError, match=r"line 1: field 'answer' must hold the answer after '####', not '72'"):
        load_rows([{"question": "?", "answer": "72"}], answer_after="####")


@pytest.mark.parametrize(
    ("row", "verifier"),
    [
        ({"tests": [{"input": "", "output": ""}]}, "code"),
        ({"test_list": ["assert f()"]}, "code"),
        ({"test": "def check(f): pass"}, "code"),
        ({"instruction_id_list": ["x"]}, "instruction"),
        ({"reward_model": "helpfulness"}, "general"),
        ({"choices": ["a", "b"]}, "choice"),
        ({"choices": None, "tests": []}, "math"),
        ({}, "math"),
    ],
)
def test_a_row_calls_for_its_verifier(row, verifier):
    assert verifier_for(row) == verifier


def test_a_named_verifier_goes_before_the_tasks_and_that_before_the_usual(load_rows):
    row = {"question": "?", "answer": "A", "choices": ["a", "b"]}
    assert only(load_rows([row])).verifier == "choice"
    assert only(load_rows([row], verifier="exact")).verifier == "exact"
    assert only(load_rows([row | {"verifier": "json"}], verifier="exact")).verifier == "json"


def test_problems_judged_by_other_fields_need_no_gold(load_rows):
    row = {"task_id": "HumanEval/0", "prompt": "def f():", "test": "def check(f): pass", "entry_point": "f"}
    problem = only(load_rows([row]))
    assert (problem.id, problem.gold, problem.verifier) == ("HumanEval/0", "", "code")
    assert problem.meta == {"prompt": "def f():", "test": "def check(f): pass", "entry_point": "f",
                            "language_told_by": "script"}  # fmt: skip


def test_a_conversation_keeps_its_turns_and_ends_with_the_question(load_rows):
    turns = [("system", "Be brief."), ("user", "1+1?"), ("assistant", "2"), ("user", "And 2+2?")]
    messages = [{"role": role, "content": content, "extra": 1} for role, content in turns]
    problem = only(load_rows([{"messages": messages, "answer": "4"}], instruction="{question} Box it."))
    assert problem.prompt == "And 2+2? Box it."
    assert [(message["role"], message["content"]) for message in problem.messages] == [
        *turns[:3],
        ("user", "And 2+2? Box it."),
    ]
    assert "messages" not in problem.meta


def test_a_prompt_may_be_a_conversation_too(load_rows):
    problem = only(load_rows([{"prompt": [{"role": "user", "content": "1+1?"}], "answer": "2"}]))
    assert (problem.prompt, len(problem.messages)) == ("1+1?", 1)


def test_the_instruction_is_put_around_the_question_and_nothing_else_is_replaced(load_rows):
    row = {"question": "What is {answer} of {choices}?", "answer": "2", "x": "no"}
    instruction = "{question}\nPut it in \\boxed{}, or \\boxed{answer}, not {x}."
    assert only(load_rows([row], instruction=instruction)).prompt == (
        "What is {answer} of {choices}?\nPut it in \\boxed{}, or \\boxed{answer}, not {x}."
    )


def test_choices_and_tests_are_shown_where_the_instruction_says(load_rows):
    row = {"question": "Which?", "answer": 1, "choices": ["{question}", "b\\1"]}
    assert only(load_rows([row], instruction="{choices}\n{question}", verifier="choice")).prompt == (
        "A. {question}\nB. b\\1\nWhich?"
    )
    row = {"question": "Add.", "test_list": ["assert f(1) == 2", "assert f(2) == 3"]}
    assert only(load_rows([row], instruction="{question}\n{test_list}")).prompt == (
        "Add.\nassert f(1) == 2\nassert f(2) == 3"
    )


def test_a_multiple_choice_question_shows_its_options_and_its_number_becomes_a_letter(load_rows):
    problem = only(load_rows([{"question": "Which?", "answer": 2, "choices": ["x", "y", "z"]}]))
    assert problem.prompt.startswith("Which?\n\nA. x\nB. y\nC. z")
    assert problem.gold == "C"


def test_an_instruction_without_a_place_for_the_question_is_refused():
    for instruction in ("Box it.", "{question} {question}"):
        with pytest.raises(ValidationError, match="question"):
            JsonlTask(path="x", instruction=instruction)


def test_a_row_without_an_id_is_named_by_its_question_whatever_line_it_stands_on(load_rows):
    rows = [{"question": "A  b?", "answer": "1"}, {"question": "C?", "answer": "2"}]
    first, second = load_rows(rows).train
    again, before = load_rows(rows[::-1]).train
    assert {first.id, second.id} == {again.id, before.id}
    assert first.id.startswith("question/") and first.id != second.id
    assert only(load_rows([{"question": "a B?", "answer": "9"}])).id == first.id
    choices = [{"question": "C?", "answer": "A", "choices": ["1", other]} for other in ("2", "3")]
    assert len({problem.id for problem in load_rows(choices).train}) == 2


def test_verifier_options_reach_the_verifier_and_the_rows_own_come_last(load_rows):
    rows = [{"id": "a", "question": "?", "answer": "1"},
            {"id": "b", "question": "??", "answer": "1", "verifier_options": {"digits": 9}}]  # fmt: skip
    first, second = load_rows(rows, verifier_options={"digits": 3, "loose": True}).train
    assert first.meta["verifier_options"] == {"digits": 3, "loose": True}
    assert second.meta["verifier_options"] == {"digits": 9, "loose": True}


GOOD = {"id": "good", "question": "1+1?", "answer": "2"}


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"question": None}, "no question: field 'question' or 'problem'"),
        ({"question": "  "}, "field 'question' must be a text or a list of messages, not '  '"),
        ({"question": 3}, "field 'question' must be a text or a list of messages, not 3"),
        ({"answer": None}, "field 'answer' must be a text or a number, but is missing"),
        ({"answer": " "}, "field 'answer' must be a text or a number, not ' '"),
        ({"answer": True}, "field 'answer' must be a text or a number, not True"),
        ({"answer": ["2"]}, "field 'answer' must be a text or a number, not ['2']"),
        ({"id": 1.5}, "field 'id' must be a text or an integer, not 1.5"),
        ({"id": ""}, "field 'id' must be a text or an integer, not ''"),
        ({"verifier": 3}, "field 'verifier' must be a text, not 3"),
        ({"language": "English"}, "language 'English' is no ISO 639-1 code such as 'en'"),
        ({"question": []}, "the last message must be the user's"),
        ({"question": ["hi"]}, "each message needs a text under 'role' and 'content', not 'hi'"),
        ({"question": [{"role": "user"}]}, "each message needs a text under 'role' and 'content'"),
        ({"question": [{"role": "assistant", "content": "2"}]}, "the last message must be the user's"),
        ({"choices": "ab"}, "field 'choices' must be a list of texts, not 'ab'"),
        ({"choices": ["a"]}, "a question with 1 choices; expected 2 to 26"),
        ({"choices": ["a", " "]}, "choice B is empty"),
        ({"choices": ["a", None]}, "field 'choices' must be a list of texts"),
    ],
)
def test_a_bad_row_is_named_with_its_line_and_what_was_expected(load_rows, change, complaint):
    with pytest.raises(DataError) as caught:
        load_rows([GOOD, GOOD | {"id": "bad"} | change])
    message = str(caught.value)
    assert "set.jsonl: 1 of 2 rows can't be used: line 2: " in message
    assert complaint in message
    assert 'bad_rows = "skip"' in message
    assert "\n" not in message


def test_long_values_are_cut_in_complaints(load_rows):
    with pytest.raises(DataError) as caught:
        load_rows([GOOD, GOOD | {"id": "bad", "answer": [9] * 10_000}])
    assert len(str(caught.value)) < 400


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"fields": {"question": "questoin"}}, "no row has a field 'questoin', which fields.question names"),
        ({"fields": {"answer": "anwser"}}, "did you mean 'answer'?"),
        ({"fields": {"id": "idd"}}, "there are: id, question, answer; did you mean 'id'?"),
        ({"fields": {"content": "topic"}}, "no row has a field 'topic', which fields.content names"),
        ({"drop_if": "near_evals"}, "no row has a field 'near_evals', which drop_if names"),
        ({"min_solve_rate": 0.1}, "no row has a field 'solve_rate'; say with fields.solve_rate which one"),
    ],
)
def test_a_field_that_is_not_there_is_named_with_those_that_are(load_rows, settings, complaint):
    with pytest.raises(DataError) as caught:
        load_rows([GOOD], **settings)
    assert complaint in str(caught.value)
    assert "there are: id, question, answer" in str(caught.value)


def test_a_file_without_a_question_or_an_answer_says_how_to_name_them(load_rows):
    with pytest.raises(
        DataError, match=r"say with fields\.question which one is the question; there are: frage, answer"
    ):
        load_rows([{"frage": "?", "answer": "1"}])
    with pytest.raises(
        DataError, match=r"say with fields\.answer which one is the gold, or name a verifier that needs no"
    ):
        load_rows([{"question": "?", "solution": "1"}], bad_rows="skip")


def test_generated_problems_come_back_from_a_file_as_they_were(load_rows):
    tasks = [ChainsTask(), PairsTask(), CountdownTask(), OrderingTask(), LogicTask()]
    problems = sample_problems(tasks, 40, seed="file", split="train")
    rows = [{"id": p.id, "prompt": p.prompt, "answer": p.gold, "verifier": p.verifier, "language": p.language, **p.meta}
            for p in problems]  # fmt: skip
    found = load_rows(rows).train
    assert [(p.id, p.prompt, p.gold, p.verifier, p.language) for p in found] == [
        (p.id, p.prompt, p.gold, p.verifier, p.language) for p in problems
    ]
    assert all(FAMILIES[p.verifier].is_right(p.gold, p) for p in found)


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        ({"numbers": None}, "line 2: field 'numbers' is missing, which verifier 'pairs' needs"),
        ({"target": "9"}, "line 2: verifier 'pairs' refuses the answer '3+7'"),
        ({"numbers": 7}, "line 2: verifier 'pairs' refuses the answer '3+7'"),
        ({"verifier": "chains"}, "line 2: verifier 'chains' refuses the answer '3+7'"),
    ],
)
def test_a_familys_verifier_must_be_able_to_judge_every_row(load_rows, change, complaint):
    row = {"id": "a", "question": "Pick two", "answer": "3+7", "verifier": "pairs", "numbers": [3, 7, 5], "target": 10}
    with pytest.raises(DataError, match=re.escape(complaint)):
        load_rows([row, row | {"id": "b", "question": "Pick 2"} | change])


def test_rows_of_half_a_megabyte_are_read(load_rows):
    problem = only(load_rows([{"question": "x" * 500_000, "answer": "1", "list": list(range(10_000))}]))
    assert len(problem.prompt) == 500_000
    assert json.dumps(problem.meta["list"]) == json.dumps(list(range(10_000)))


def test_prompts_for_a_reward_model_need_no_answer_but_the_name_of_one(load_rows):
    (problem,) = load_rows([{"prompt": "Hello!", "reward_model": "safety"}]).train
    assert (problem.verifier, problem.gold, problem.meta["reward_model"]) == ("general", "", "safety")
    with pytest.raises(DataError, match="'reward_model' must be one of helpfulness, safety, not 'kindness'"):
        load_rows([{"prompt": "Hello!", "reward_model": "kindness"}])
    with pytest.raises(DataError, match="'reward_model' must be one of helpfulness, safety, but is missing"):
        load_rows([{"prompt": "Hello!", "verifier": "general"}])
