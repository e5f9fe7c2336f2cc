"""Rewriting: by a template, by a local model, by an endpoint that may fail; and a judge where rules can't grade."""

import json
import re
from dataclasses import replace

import pytest

from r1kit.config.rejection import RuleJudge
from r1kit.errors import DataError, RunError
from r1kit.evaluation.journal import Journal
from r1kit.recipe import parse_recipe
from r1kit.stages.candidates import Candidate
from r1kit.stages.filters import thinking_of
from r1kit.stages.grading import graded, grades_of
from r1kit.stages.rewriting import in_language, is_right, tidied
from r1kit.types import FinishReason, Problem, Verdict

CHAINS = {"kind": "chains", "terms": 3, "languages": ["en"]}


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def recipe_of(**sections):
    table = {
        "kind": "rejection",
        "num_problems": 12,
        "tasks": [CHAINS],
        "sampling": {"max_new_tokens": 64},
        "routes": [{"kind": "plain", "samples": 2}],
        "run": {"max_sequences": 8, "num_threads": 1},
    }
    return parse_recipe(table | sections, source="cold start")


def endpoint(url, **settings):
    return {"url": url, "model": "writer", "backoff_seconds": 0.01, "max_retries": 1, "max_concurrent": 2} | settings


PROBLEM = Problem(id="chain", prompt="Compute 3+4", gold="7", verifier="chains")


def candidate(text, *, answer="7"):
    return Candidate(
        problem=PROBLEM,
        route="plain",
        number=0,
        text=text,
        answer=answer,
        verdict=Verdict.RIGHT,
        finish_reason=FinishReason.STOP,
        num_tokens=9,
        repeated_share=0.0,
    )


def test_words_of_the_nano_world_go_from_one_language_into_the_other_and_back():
    chinese = "逐步检查:7+5=12对,12+8=21等等,12+8=20对,"
    english = "check steps:7+5=12 ok,12+8=21 wait,12+8=20 ok,"
    assert in_language(chinese, "en") == in_language(english, "en") == english
    assert in_language(english, "zh") == chinese
    assert in_language("逐个试:3+8=11等等,5+9=14对,", "en") == "try all:3+8=11 wait,5+9=14 ok,"


def test_loose_ends_go_and_nothing_else():
    assert tidied("  check steps:3+4=7 ok,  7-2=5 ok, ") == "check steps:3+4=7 ok, 7-2=5 ok"
    assert tidied("逐步检查:3+4=7对,") == "逐步检查:3+4=7对"


def test_mixed_thinking_is_translated_by_the_template_where_that_is_asked_for(run_to_the_end, tmp_path):
    base = {"num_problems": 96, "rewriting": {"kind": "template", "opening": {"en": "I "}}}
    dropped = rows_of(run_to_the_end(recipe_of(**base), tmp_path / "drop") / "traces.jsonl")
    translating = recipe_of(**base, filters={"mixed_languages": "translate"})
    kept = rows_of(run_to_the_end(translating, tmp_path / "translate") / "traces.jsonl")
    assert len(kept) > len(dropped) > 0
    assert all(row["completion"].startswith("<think>I ") for row in kept)
    assert not [row for row in kept if re.search("[\u4e00-\u9fff]", row["completion"])]


def test_a_new_text_must_hold_the_right_answer():
    found = candidate("<think>3+4=7 ok</think><answer>7</answer>")
    assert is_right(found, "<think>3+4=7</think>The answer is <answer>7</answer>.")
    assert not is_right(found, "<think>3+4=7</think>The answer is <answer>8</answer>.")
    assert not is_right(found, "<think>3+4=7</think>The answer is seven.")


def summarise(handler, number, body):
    """A good summary of most notes, a wrong one of every fifth, and thinking of its own before each."""
    notes = body["messages"][0]["content"]
    result = re.findall(r"=(-?\d+)", notes)[-1] if re.search(r"=(-?\d+)", notes) else "0"
    answer = f"{result}9" if number % 5 == 4 else result
    handler.say(f"<think>Let me see.</think>The sum comes to <answer>{answer}</answer>.")


def test_an_endpoint_writes_summaries_that_are_checked(serve, run_to_the_end, tmp_path):
    server = serve(summarise)
    rewriting = {"kind": "endpoint", "endpoint": endpoint(server.url), "answer": "tags"}
    folder = run_to_the_end(recipe_of(num_problems=32, rewriting=rewriting), tmp_path / "run")
    traces, funnel = rows_of(folder / "traces.jsonl"), json.loads((folder / "funnel.json").read_text())["filters"]
    assert len(traces) == funnel[-1]["kept"] >= 3
    assert funnel[-1]["dropped"] >= 1
    for trace in traces:
        assert re.fullmatch(
            r"<think>\n[^<]+\n</think>\n\nThe sum comes to <answer>-?\d+</answer>\.", trace["completion"]
        )
    prompt = server.requests[0]["messages"][0]["content"]
    assert "English" in prompt and "between <answer> and </answer>" in prompt


def test_an_endpoint_that_fails_keeps_what_was_answered_and_a_rerun_asks_only_the_rest(serve, run_to_the_end, tmp_path):
    def failing(handler, number, body):
        if number >= 3:
            handler.send(b"overloaded", 500)
        else:
            summarise(handler, 0, body)

    broken, sound = serve(failing), serve(lambda handler, number, body: summarise(handler, 0, body))

    def recipe(url):
        rewriting = {"kind": "endpoint", "endpoint": endpoint(url), "answer": "tags"}
        return recipe_of(num_problems=32, rewriting=rewriting)

    with pytest.raises(RunError, match=r"HTTP 500: overloaded, after 2 attempts.*--resume") as raised:
        run_to_the_end(recipe(broken.url), tmp_path / "run")
    assert "\n" not in str(raised.value)
    kept = rows_of(tmp_path / "run" / "answers.jsonl")
    assert len(kept) == 3
    broken.script = lambda handler, number, body: summarise(handler, 0, body)
    asked_before = len(broken.requests)
    folder = run_to_the_end(recipe(broken.url), tmp_path / "run", resume=True)
    answers = rows_of(folder / "answers.jsonl")
    assert answers[:3] == kept
    assert len(broken.requests) - asked_before == len(answers) - 3
    alone = run_to_the_end(recipe(sound.url), tmp_path / "alone")
    assert (folder / "traces.jsonl").read_bytes() == (alone / "traces.jsonl").read_bytes()


@pytest.mark.parametrize("call", [2, 14, 17])
def test_a_local_model_writes_summaries_and_a_killed_run_goes_on_to_the_same_bytes(
    run_to_the_end, tmp_path, monkeypatch, call
):
    rewriting = {
        "kind": "model",
        "model": {"path": "nano"},
        "template": {"kind": "nano"},
        "sampling": {"max_new_tokens": 40, "temperature": 1.0},
        "answer": "tags",
    }
    # The nano base can't write summaries: what matters is that it says the same again, and that nothing is lost.
    recipe = recipe_of(num_problems=12, rewriting=rewriting)
    append, calls = Journal.append, []

    def killed(self, rows):
        calls.append(1)
        if len(calls) == call:
            raise KeyboardInterrupt
        append(self, rows)

    def outcome(folder, **options):
        try:
            run_to_the_end(recipe, folder, **options)
        except DataError as error:
            return str(error).partition(";")[0]
        return (folder / "traces.jsonl").read_bytes()

    expected = outcome(tmp_path / "alone")
    with monkeypatch.context() as patched:
        patched.setattr(Journal, "append", killed)
        with pytest.raises(KeyboardInterrupt):
            run_to_the_end(recipe, tmp_path / "run")
    assert outcome(tmp_path / "run", resume=True) == expected
    alone, resumed = ((tmp_path / name / "answers.jsonl").read_bytes() for name in ("alone", "run"))
    assert alone == resumed and alone.count(b"\n") >= 3


def free_text(tmp_path):
    """Problems with references in free words, which `exact` calls wrong nearly always."""
    path = tmp_path / "free.jsonl"
    rows = [
        {"id": str(n), "question": f"Compute {n}+1", "answer": f"it is {n + 1}", "verifier": "exact", "language": "en"}
        for n in range(1, 9)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return [{"kind": "jsonl", "path": str(path), "use_for": "train"}]


def test_a_judge_grades_what_rules_cannot(serve, run_to_the_end, tmp_path):
    def grade(handler, number, body):
        text = body["messages"][0]["content"]
        reference = re.search(r"Reference:\nit is (\d+)\n", text)[1]
        answer = re.search(r"<<<<\n(.*)\n>>>>", text, re.DOTALL)[1]
        word = "correct" if reference in re.findall(r"\d+", answer) else "incorrect"
        handler.say(json.dumps({"analysis": "compared", "correctness": word}))

    server = serve(grade)
    judge = {"kind": "endpoint", "endpoint": endpoint(server.url), "instead_of": ["exact"]}
    tasks, more = free_text(tmp_path), {"num_problems": 8, "routes": [{"kind": "plain", "samples": 8}]}
    folder = run_to_the_end(recipe_of(tasks=tasks, judge=judge, **more), tmp_path / "judged")
    traces = rows_of(folder / "traces.jsonl")
    assert traces
    for trace in traces:
        wanted = str(int(re.search(r"Compute (\d+)", trace["prompt"])[1]) + 1)
        assert wanted in re.findall(r"\d+", trace["completion"].partition("</think>")[2])


def test_a_rule_grades_what_is_unknown_and_what_it_is_told_to_and_nothing_else():
    judge = RuleJudge(kind="rule", instead_of=("exact",))
    good, bad = "<think>3+4</think>It is 7.", "<think>7</think>It is 8."
    found = [
        replace(
            candidate(text, answer=None), number=number, verdict=verdict, problem=replace(PROBLEM, verifier=verifier)
        )
        for number, (text, verdict, verifier) in enumerate(
            [
                (good, Verdict.UNKNOWN, "math"),
                (bad, Verdict.UNKNOWN, "math"),
                (good, Verdict.WRONG, "exact"),
                (good, Verdict.WRONG, "math"),
                (bad, Verdict.RIGHT, "exact"),
            ]
        )
    ]
    grades = grades_of(found, judge, asking=None, seed="s")
    assert grades == {"chain#plain-0": "right", "chain#plain-1": "wrong", "chain#plain-2": "right"}
    assert [graded(c, grades).verdict for c in found] == ["right", "wrong", "right", "wrong", "right"]
    unanswerable = replace(found[0], problem=replace(PROBLEM, gold=""))
    assert grades_of([unanswerable], judge, asking=None, seed="s") == {}


def test_a_text_without_tags_is_thinking_under_the_form_any():
    assert thinking_of(candidate("3+4 is 7")) == "3+4 is 7"
