"""Multiple choice: one option is named or none, however it is written; whoever names several has named none."""

import json
import os
import time
from pathlib import Path

import pytest

from r1kit.errors import VerifierError
from r1kit.rewards.verifiers.choice import ChoiceVerifier
from r1kit.types import Problem, Verdict

VERIFIER = ChoiceVerifier()
CHOICES = ("B cells", "T cells", "red blood cells", "5 mW")


def problem(gold="C", choices=CHOICES, **meta):
    return Problem(id="cells", prompt="Which?", gold=gold, verifier="choice", meta={"choices": list(choices), **meta})


def letter_of(text, choices=CHOICES):
    """The letter that a completion is judged by; None where it names none."""
    asked = problem("A", choices)
    answer = VERIFIER.extract(text, asked)
    return None if answer is None else VERIFIER.judge(answer, asked).detail.get("letter")


NAMES_C = """
C
(C)
[C]
C.
**C**
Ⓒ
The answer is (C).
Answer: C
answer：Ｃ
#### C
The answer is probably C
The correct answer is:  C
Final Answer: **(C) red blood cells**
The correct answer is C. red blood cells
The answer is C) red blood cells
Answer: C - red blood cells
The answer is **C**: red blood cells carry oxygen.
The answer to the question is C.
I would go with option C.
I choose (C).
The best choice is C.
If the answer were A, x; but the answer is C.
Die Antwort ist C.
La respuesta correcta es C.
La réponse est C.
Ответ: C
答えはC
정답은 C
答案是C
答案：C
选C
故选C。
因为B错误，所以答案是C项。
正确答案是（C）。
\\boxed{C}
\\boxed{c}
$$\\boxed{\\text{(C) red blood cells}}$$
$\\boxed{\\textbf{(C)}\\ \\text{red blood cells}}$
The final answer is $\\boxed{C}$. I hope it is correct.
\\boxed{A} would be hasty; \\boxed{C}
<answer>C</answer>
<answer>(c)</answer>
<answer>Option C</answer>
<answer>The answer is C</answer>
<answer>\\boxed{C}</answer>
<answer>C, not A</answer>
<answer>C because A is wrong</answer>
<answer>C, because B, D are wrong</answer>
<answer>Red Blood Cells</answer>
<answer>red  blood
 cells.</answer>
<answer>A</answer> no, <answer>C</answer>
<answer>\u200bC\u200b</answer>
The answer is red blood cells.
<think>The answer is A</think>The answer is C.
""".strip()


@pytest.mark.parametrize("text", NAMES_C.replace("\n cells.", "\\n cells.").splitlines())
def test_one_option_is_read_however_it_is_written(text):
    assert letter_of(text.replace("\\n", "\n")) == "C"


NAMES_NONE = """
The answer is A or B.
The answer is C, D
The answer is not C.
The answer isn't C.
It cannot be that the answer is C.
I do not think the answer is C.
If the answer is C, then all is well.
Is the answer C?
The answer could be C.
The answer may be A, B, C or D.
The answer is C. Or maybe D.
The answer is C. Alternatively, D.
The answer is C is wrong.
The answer is CD.
The answer is C_0.
The answer is C++.
The answer is 3.
The answer is a function of x.
The answer is A function of x.
The correct answer is C. T cells
Answer: C – T cells
Which is it? A? B? C?
I think C
选项A错误，选项C正确
答案是C或D
答案是C和D
答案不是C
答案是B细胞
不选C
\\boxed{A, B}
\\boxed{A,B,C,D}
\\boxed{A B C D}
\\boxed{ABCD}
\\boxed{\\text{A or C}}
\\boxed{E}
\\boxed{}
<answer></answer>
<answer>none of them</answer>
<answer>all of them</answer>
<answer>A. B cells B. T cells C. red blood cells D. 5 mW</answer>
<answer>(A)(B)(C)(D)</answer>
<answer>A\\nB\\nC\\nD</answer>
<answer>1. A 2. B 3. C</answer>
<answer>A, B, C, or D</answer>
<answer>C or D</answer>
<answer>either C or D</answer>
<answer>C/D</answer>
<answer>C;D</answer>
<answer>A-D</answer>
<answer>C and D</answer>
<answer>not A</answer>
<answer>C is incorrect</answer>
<answer>Not sure, C</answer>
<answer>C (or D)</answer>
<answer>C (D is also right)</answer>
<answer>C; D also works</answer>
<answer>C, otherwise D</answer>
<answer>C if x > 0 and D if x < 0</answer>
<answer>B lymphocytes</answer>
<answer>5 MW</answer>
<answer>С</answer>
<think>The answer is C</think>
<think>The answer is C
""".strip()


@pytest.mark.parametrize("text", NAMES_NONE.splitlines())
def test_several_options_none_or_a_denied_one_are_no_answer(text):
    assert letter_of(text.replace("\\n", "\n")) is None


@pytest.mark.parametrize(
    ("text", "choices", "letter"),
    [
        ("<answer>B cells</answer>", CHOICES, "A"),  # the words of option A, though they begin with a B
        ("<answer>B</answer>", CHOICES, "B"),
        ("<answer>5 mW</answer>", CHOICES, "D"),
        ("<answer>C. -1</answer>", ("0", "1", "-1", "12"), "C"),
        ("<answer>C - 1</answer>", ("0", "-1", "1", "12"), "C"),
        ("<answer>P</answer>", ("P", "3P", "P/3"), "A"),  # no letter of three options, so it is the text
        ("<answer>C</answer>", ("L", "R", "1/C", "C"), "C"),  # a letter before a text
        ("<answer>c</answer>", ("2c", "c", "0.8c"), None),  # but a small one could be either
        ("<answer>(c)</answer>", ("2c", "c", "0.8c"), "C"),
        ("<answer>aa</answer>", ("Aa", "aa", "AA"), "B"),
        ("<answer>10²</answer>", ("102", "1002"), None),
        ("<answer>1.2 \\times 10^{5} m</answer>", ("1.2 x 10^5 m", "3 m"), "A"),
        ("<answer>True</answer>", ("true", "false"), "A"),
        ("<answer>687</answer>", ("687", "687", "701"), "A"),  # listed twice: either is it
        ("The answer is x. Then y.", ("x. Then y", "x"), "A"),
        ("The answer is x. Then z.", ("x. Then y", "x"), "B"),
        ("<answer>Z</answer>", (), "Z"),  # options that only the question lists
        ("<answer>none</answer>", (), None),
    ],
)
def test_the_words_of_an_option_count_where_only_one_has_them(text, choices, letter):
    assert letter_of(text, choices) == letter


@pytest.mark.parametrize(
    ("gold", "meta", "right"),
    [
        ("C", {}, "C"),
        ("(c)", {}, "C"),
        ("red blood cells", {}, "C"),
        ("", {"answer_index": 2}, "C"),
        ("C", {"answer_index": 2}, "C"),
        ("5 mW", {"answer_index": 3}, "D"),
    ],
)
def test_the_gold_may_be_a_letter_a_text_or_a_place(gold, meta, right):
    asked = problem(gold, **meta)
    assert [letter for letter in "ABCD" if VERIFIER.judge(letter, asked).verdict is Verdict.RIGHT] == [right]


@pytest.mark.parametrize(
    ("gold", "meta"),
    [("", {}), ("E", {}), ("blue cells", {}), ("A", {"answer_index": 2}), ("A", {"answer_index": 4}), ("A or B", {})],
)
def test_a_gold_that_names_no_option_is_unknown(gold, meta):
    judgement = VERIFIER.judge("A", problem(gold, **meta))
    assert judgement.verdict is Verdict.UNKNOWN
    assert "none of the choices" in judgement.reason


def test_an_option_listed_twice_is_right_by_either_letter():
    asked = problem("A", ("687", "687", "701"))
    verdicts = [VERIFIER.judge(answer, asked).verdict for answer in ("A", "B", "C", "687", "B. 687")]
    assert verdicts == [Verdict.RIGHT, Verdict.RIGHT, Verdict.WRONG, Verdict.RIGHT, Verdict.RIGHT]


def test_a_wrong_letter_can_be_read_and_nonsense_cannot():
    assert VERIFIER.judge("B", problem()).is_readable
    assert not VERIFIER.judge("no idea", problem()).is_readable


@pytest.mark.parametrize("choices", ["ABCD", [["a"], ["b"]], ["a"], ["a"] * 27, {"A": "x"}])
def test_choices_that_are_no_list_of_texts_are_refused(choices):
    with pytest.raises(VerifierError, match="cells: `choices` must be a list"):
        VERIFIER.judge("A", Problem(id="cells", prompt="", gold="A", verifier="choice", meta={"choices": choices}))


def test_hostile_texts_are_read_in_time():
    pieces = [
        "The answer is ",
        "answer to ",
        "(A) or ",
        "\\boxed{",
        "A, ",
        "option ",
        "A\n",
        "\u0301\u0327",
        "选",
        "not ",
    ]
    texts = [piece * (300_000 // len(piece)) for piece in pieces]
    started = time.perf_counter()
    letters = [letter_of(text) for text in texts + [f"<answer>{text}</answer>" for text in texts]]
    assert time.perf_counter() - started < 5
    assert set(letters) <= {None, "A"}


DATA = Path(os.environ.get("R1KIT_DATA", "nowhere"))


@pytest.mark.skipif(not DATA.is_dir(), reason="R1KIT_DATA names no folder")
@pytest.mark.parametrize("name", ["mmlu_stem.jsonl", "mmlu_pro_science.jsonl"])
def test_every_gold_of_a_real_set_is_right_and_every_other_letter_wrong(name):
    forms = ["{}", "\\boxed{{{}}}", "<answer>{}</answer>", "A and B look right, but no.\n\nThe answer is ({})."]
    wrong = []
    for line in (DATA / name).read_text("utf-8").splitlines():
        row = json.loads(line)
        asked = problem(row["answer"], row["choices"], answer_index=row["answer_index"])
        for index, (letter, text) in enumerate(zip("ABCDEFGHIJ", row["choices"], strict=False)):
            verdicts = {VERIFIER.judge(VERIFIER.extract(form.format(letter), asked), asked).verdict for form in forms}
            is_gold = text.strip() == row["choices"][row["answer_index"]].strip()
            if verdicts != {Verdict.RIGHT if is_gold else Verdict.WRONG}:
                wrong.append((row["id"], index))
    assert wrong == []
