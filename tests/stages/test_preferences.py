"""Preference pairs: the better text is chosen whatever side it stands on, and length gives nothing away."""

import json
import re

import pytest

from r1kit.errors import DataError, RunError
from r1kit.recipe import parse_recipe
from r1kit.stages.candidates import Candidate
from r1kit.stages.funnel import Funnel
from r1kit.stages.preferences import Pair, even_in_length
from r1kit.types import FinishReason, Problem, Verdict


def rows_of(path):
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def replies_in(prompt):
    return [re.search(rf"Reply {name}:\n<<<<\n(.*?)\n>>>>", prompt, re.DOTALL)[1] for name in "AB"]


def prefers_small_numbers(handler, number, body):
    """Its taste is clear where the digits differ, and it always leans to the first a little."""
    a, b = (int("".join(re.findall(r"\d", text)) or 0) for text in replies_in(body["messages"][0]["content"]))
    handler.say("I would say less. " + ("[[A>>B]]" if a < b else "[[B>>A]]" if b < a else "[[A>B]]"))


@pytest.fixture
def recipe(tmp_path):
    path = tmp_path / "prompts.jsonl"
    rows = [{"id": f"p{n}", "question": f"Compute {n}+{n}", "reward_model": "helpfulness"} for n in range(1, 25)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))

    def make(url, **more):
        judge = {"url": url, "model": "judge", "backoff_seconds": 0.01, "max_retries": 1, "max_concurrent": 2}
        table = {
            "kind": "preferences",
            "num_problems": 24,
            "tasks": [{"kind": "jsonl", "path": str(path), "use_for": "train"}],
            "sampling": {"max_new_tokens": 48},
            "judge": judge,
            "run": {"max_sequences": 8, "num_threads": 1},
        }
        return parse_recipe(table | more, source="pairs")

    return make


def test_the_better_text_is_chosen_whatever_side_it_stands_on(recipe, serve, run_to_the_end, tmp_path):
    server = serve(prefers_small_numbers)
    folder = run_to_the_end(recipe(server.url, length_balance=False), tmp_path / "run")
    pairs = rows_of(folder / "pairs.jsonl")
    funnel = {row["name"]: row for row in json.loads((folder / "funnel.json").read_text())["filters"]}
    assert len(pairs) == funnel["clear verdict"]["kept"] >= 3
    assert len(server.requests) == 4 * (funnel["two answers"]["kept"])
    for pair in pairs:
        seen = [text.rpartition("</think>")[2] for text in (pair["chosen"], pair["rejected"])]
        small, large = (int("".join(re.findall(r"\d", text)) or 0) for text in seen)
        assert small < large and pair["delta"] == 2.0
        assert pair["prompt"].startswith("Compute ")


def test_a_judge_that_only_likes_what_stands_first_makes_no_pair(recipe, serve, run_to_the_end, tmp_path):
    server = serve(lambda handler, number, body: handler.say("[[A>>B]]"))
    with pytest.raises(DataError, match=r"no pair is left of 24: 'clear verdict' dropped \d+ .*min_delta"):
        run_to_the_end(recipe(server.url), tmp_path / "run")


def test_a_judge_that_fails_keeps_its_answers_and_a_rerun_asks_only_the_rest(recipe, serve, run_to_the_end, tmp_path):
    def failing(handler, number, body):
        if number < 5:
            return prefers_small_numbers(handler, number, body)
        return handler.send(b"", 500)

    server, sound = serve(failing), serve(prefers_small_numbers)
    with pytest.raises(RunError, match="HTTP 500"):
        run_to_the_end(recipe(server.url), tmp_path / "run")
    kept = rows_of(tmp_path / "run" / "answers.jsonl")
    assert len(kept) == 5
    server.script, asked = prefers_small_numbers, len(server.requests)
    folder = run_to_the_end(recipe(server.url), tmp_path / "run", resume=True)
    assert len(server.requests) - asked == len(rows_of(folder / "answers.jsonl")) - 5
    alone = run_to_the_end(recipe(sound.url), tmp_path / "alone")
    assert (folder / "pairs.jsonl").read_bytes() == (alone / "pairs.jsonl").read_bytes()


def pair_of(number, first, second, delta):
    texts = [
        Candidate(
            problem=Problem(id=f"p{number}", prompt="?", gold="", verifier="general"),
            route="plain",
            number=place,
            text=f"<think>{'long ' * 50 * place}</think>{text}",
            answer=None,
            verdict=Verdict.UNKNOWN,
            finish_reason=FinishReason.STOP,
            num_tokens=1,
            repeated_share=0.0,
        )
        for place, text in enumerate((first, second))
    ]
    return Pair(*texts, delta)


def test_as_many_longer_texts_are_chosen_as_shorter_ones_and_thinking_does_not_count():
    longer = [pair_of(n, "a longer text", "short", 2.0) for n in range(7)]
    shorter = [pair_of(n, "a longer text", "short", -1.5) for n in range(7, 10)]
    equal = [pair_of(n, "same!", "short", 2.0) for n in range(10, 12)]
    kept = even_in_length([*longer, *shorter, *equal], Funnel(), seed="s")
    assert [pair.chosen_is_longer for pair in kept] == [True] * 3 + [False] * 3 + [None] * 2
    assert kept == even_in_length([*longer, *shorter, *equal], Funnel(), seed="s")
