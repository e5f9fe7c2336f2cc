"""`r1 sample`: problems in, completions out."""

import json

import pytest
import torch

from r1kit.config.model import ModelSettings
from r1kit.evaluation.sampling import completion_parts, solve_rate
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy
from r1kit.types import Completion, FinishReason, Verdict

QUESTIONS = ["Compute 7+5-3", "计算3+4", "Compute 9+9+1-2", "Sum 47+38", "Compute 5", "Which two of 3 5 9 make 12?"]


def write(path, rows):
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))


def read(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_each_row_comes_out_in_order_with_all_it_had_and_what_was_drawn(r1, tmp_path):
    write(
        tmp_path / "in.jsonl",
        [
            {"question": "Compute 7+5-3", "answer": "9", "verifier": "chains", "mine": [1, {"a": None}]},
            {"problem": "Compute 1+1", "id": "no gold"},
            {"messages": [{"role": "user", "content": "Compute 2+2"}], "answer": 4, "verifier": "chains"},
        ],
    )
    status, out, _ = r1("sample", "nano", "in.jsonl", "out.jsonl", "--k", "3", "--json", "-")
    assert status == 0
    rows = read(tmp_path / "out.jsonl")
    assert rows[0]["mine"] == [1, {"a": None}]
    for row in rows:
        assert len(row["completions"]) == 3
        for completion in row["completions"]:
            assert (
                completion["text"] == f"<think>{completion['thinking']}</think><answer>{completion['answer']}</answer>"
            )
            assert completion["finish_reason"] == "stop" and completion["num_tokens"] > 3
    for row in (rows[0], rows[2]):
        right = [int(completion["answer"]) == int(row["answer"]) for completion in row["completions"]]
        assert row["verdicts"] == [completion["verdict"] for completion in row["completions"]]
        assert row["verdicts"] == ["right" if is_right else "wrong" for is_right in right]
        assert row["solve_rate"] == sum(right) / 3
        assert [completion["extracted"] for completion in row["completions"]] == [
            completion["answer"] for completion in row["completions"]
        ]
    assert "verdicts" not in rows[1] and "verdict" not in rows[1]["completions"][0]
    figures = json.loads(out)
    assert (figures["rows"], figures["errors"], figures["n"], figures["k"]) == (3, 0, 2, 3)
    assert figures["pass_at_1"] == pytest.approx((rows[0]["solve_rate"] + rows[2]["solve_rate"]) / 2)


BAD = {
    "not json": "not valid JSON",
    "[1, 2]": "expected an object",
    '{"question": 5, "answer": "3"}': "field 'question'",
    '{"nothing": 1}': "no question",
    '{"question": "", "answer": "3"}': "field 'question'",
    '{"question": "x", "answer": "3", "verifier": "maths"}': "unknown verifier 'maths'",
    '{"messages": [{"role": "assistant", "content": "x"}]}': "the last message must be the user's",
    json.dumps({"question": "9+" * 2000 + "1"}): "more than the model's 1024 positions",
}


def test_a_bad_row_gets_its_error_in_its_place_and_stops_nobody(r1, tmp_path):
    good = json.dumps({"question": "Compute 1+2", "answer": "3", "verifier": "chains"})
    write(tmp_path / "in.jsonl", [good, "", *(line for bad in BAD for line in (bad, good))])
    status, out, _ = r1("sample", "nano", "in.jsonl", "out.jsonl", "--max-new-tokens", "40")
    rows = read(tmp_path / "out.jsonl")
    assert status == 0 and len(rows) == 1 + 2 * len(BAD)
    assert all("error" not in row and row["completions"] for row in rows[::2])
    for number, (row, (line, said)) in enumerate(zip(rows[1::2], BAD.items(), strict=True)):
        assert row["error"].startswith(f"line {3 + 2 * number}: ") and said in row["error"]
        assert row["completions"] == []
        assert said in out.replace("\n", " ")
        # What the row said is never lost.
        assert row.get("line") == line or json.loads(line).items() <= row.items()


def test_greedy_completions_are_those_of_a_plain_transformers_loop(r1, tmp_path):
    write(tmp_path / "in.jsonl", [{"question": question} for question in QUESTIONS])
    r1("sample", "nano", "in.jsonl", "out.jsonl", "--temperature", "0", "--max-new-tokens", "60", "--batch-size", "4")

    policy = load_policy(ModelSettings(path="nano"))
    template = ChatTemplate(policy.tokenizer, "nano")
    for question, row in zip(QUESTIONS, read(tmp_path / "out.jsonl"), strict=True):
        prompt = torch.tensor([template.prompt_token_ids(question)])
        ids = policy.model.generate(prompt, do_sample=False, max_new_tokens=60)[0, prompt.shape[1] :]
        assert row["completions"][0]["text"] == policy.tokenizer.decode(ids, skip_special_tokens=True)
        assert row["completions"][0]["num_tokens"] == len(ids)


def test_rows_that_share_an_id_or_a_question_have_completions_of_their_own(r1, tmp_path):
    write(tmp_path / "in.jsonl", [{"question": "Compute 7+5-3+9", "id": "x"}] * 6)
    r1("sample", "nano", "in.jsonl", "out.jsonl", "--temperature", "1", "--k", "2")
    texts = [completion["text"] for row in read(tmp_path / "out.jsonl") for completion in row["completions"]]
    assert len(set(texts)) > 3


def test_a_file_that_is_complete_is_left_as_it_is_and_other_settings_or_input_are_refused(r1, tmp_path):
    write(tmp_path / "in.jsonl", [{"question": question} for question in QUESTIONS])
    r1("sample", "nano", "in.jsonl", "out.jsonl")
    before = (tmp_path / "out.jsonl").read_bytes()
    status, out, _ = r1("sample", "nano", "in.jsonl", "out.jsonl")
    assert status == 0 and "6 of 6 rows are there already" in out
    for words, said in (
        (("--k", "2"), "k 1 -> 2"),
        (("--stop", "</think>"), "stop [] -> ["),
        (("--max-new-tokens", "9"), "max_new_tokens 512 -> 9"),
    ):
        status, _, err = r1("sample", "nano", "in.jsonl", "out.jsonl", *words)
        assert (status, said in err) == (1, True)
    write(tmp_path / "in.jsonl", [{"question": "another"}])
    status, _, err = r1("sample", "nano", "in.jsonl", "out.jsonl")
    assert (status, "input_digest" in err) == (1, True)
    assert (tmp_path / "out.jsonl").read_bytes() == before


def test_stop_strings_and_a_cut_are_said(r1, tmp_path):
    write(tmp_path / "in.jsonl", [{"question": "Compute 7+5-3"}])
    r1("sample", "nano", "in.jsonl", "stopped.jsonl", "--stop", "</think>")
    r1("sample", "nano", "in.jsonl", "cut.jsonl", "--max-new-tokens", "3")
    (stopped,), (cut,) = (read(tmp_path / name)[0]["completions"] for name in ("stopped.jsonl", "cut.jsonl"))
    assert stopped["text"].endswith("</think>") and stopped["finish_reason"] == "stop"
    assert (stopped["answer"], cut["finish_reason"], cut["num_tokens"]) == ("", "length", 3)


@pytest.mark.parametrize(
    ("source", "said"),
    [("missing.jsonl", "cannot be read"), ("empty.jsonl", "holds no row"), ("array.jsonl", "is one JSON array")],
)
def test_an_input_that_is_none_is_refused(r1, tmp_path, source, said):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    (tmp_path / "array.jsonl").write_text('[{"question": "x"}]')
    status, _, err = r1("sample", "nano", source, "out.jsonl")
    assert (status, said in err) == (1, True)
    assert not (tmp_path / "out.jsonl").exists()


def test_input_and_output_are_never_one_file(r1, tmp_path):
    write(tmp_path / "in.jsonl", [{"question": "x"}])
    status, _, err = r1("sample", "nano", "in.jsonl", "./in.jsonl")
    assert status == 2 and "the same file" in err


@pytest.mark.parametrize(
    ("text", "opens", "thinking", "answer"),
    [
        ("<think> a </think> <answer> 7 </answer>", False, "a", "7"),
        ("a</think>So it is \\boxed{7}.\n", True, "a", "So it is \\boxed{7}."),
        ("just 7", False, None, "just 7"),
        ("<think>never ends", False, "never ends", ""),
        ("never ends", True, "never ends", ""),
        ("<think>a</think><answer>1</answer><answer>2</answer>", False, "a", "<answer>1</answer><answer>2</answer>"),
        ("<think></think>7", False, "", "7"),
    ],
)
def test_thinking_and_answer_are_told_apart(text, opens, thinking, answer):
    completion = Completion(
        token_ids=(1,), logprobs=(0.0,), text=text, finish_reason=FinishReason.STOP, policy_version=0
    )
    parts = completion_parts(completion, prompt_ends_with_think=opens)
    assert (parts["text"], parts["thinking"], parts["answer"]) == (text, thinking, answer)


def test_the_solve_rate_is_over_known_verdicts():
    right, wrong, unknown = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
    assert solve_rate([right, wrong, unknown]) == 0.5
    assert solve_rate([unknown]) is None
