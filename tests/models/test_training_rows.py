"""Conversations of five kinds of models, token by token: what the model reads, what trains, and where it ends."""

import pytest

from r1kit.errors import DataError
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.template_lint import lint_row

# To tokenizers that have no tags, these are text like any other.
OPEN, CLOSE = ["<", "t", "hink", ">"], ["<", "/", "t", "hink", ">"]
LLAMA_HEAD = [
    *("<|begin_of_text|>", "<|start_header_id|>", "system", "<|end_header_id|>", "\n\n"),
    *("Cutting", " Knowledge", " Date", ":", " December", " ", "202", "3", "\n"),
    *("Today", " Date", ":", " ", "26", " Jul", " ", "202", "4", "\n\n", "<|eot_id|>"),
]
SMOLLM_HEAD = [
    *("<|im_start|>", "system", "\n", "You", " are", " a", " helpful", " AI", " assistant"),
    *(" named", " SmolLM", ",", " trained", " by", " Hugging", " Face", "<|im_end|>", "\n"),
]
QWEN_HEAD = [
    *("<|im_start|>", "system", "\n", "You", " are", " Qwen", ",", " created", " by", " Alibaba", " Cloud", "."),
    *(" You", " are", " a", " helpful", " assistant", ".", "<|im_end|>", "\n"),
]
IM_QUESTION = [
    "<|im_start|>",
    "user",
    "\n",
    "What",
    " is",
    " it",
    "<|im_end|>",
    "\n",
    "<|im_start|>",
    "assistant",
    "\n",
]
LLAMA_QUESTION = [
    *("<|start_header_id|>", "user", "<|end_header_id|>", "\n\n", "What", " is", " it", "<|eot_id|>"),
    *("<|start_header_id|>", "assistant", "<|end_header_id|>", "\n\n"),
]
PROMPTS = {
    "smollm2": SMOLLM_HEAD + IM_QUESTION,
    "qwen2.5": QWEN_HEAD + IM_QUESTION,
    "qwen3": IM_QUESTION,
    "llama3": LLAMA_HEAD + LLAMA_QUESTION,
    "deepseek_r1_distill": [
        *("<｜begin▁of▁sentence｜>", "<｜User｜>", "What", " is", " it", "<｜Assistant｜>", "<think>", "\n"),
    ],
}
THOUGHT = {
    "smollm2": [*OPEN, "\n", "Easy", "\n", *CLOSE, "\n", "\n", "four", "<|im_end|>"],
    "qwen2.5": [*OPEN, "\n", "Easy", "\n", *CLOSE, "\n\n", "four", "<|im_end|>"],
    "qwen3": ["<think>", "\n", "Easy", "\n", "</think>", "\n\n", "four", "<|im_end|>"],
    "llama3": [*OPEN, "\n", "Easy", "\n", *CLOSE, "\n\n", "four", "<|eot_id|>"],
    # The prompt has opened the thinking.
    "deepseek_r1_distill": ["Easy", "\n", "</think>", "\n\n", "four", "<｜end▁of▁sentence｜>"],
}
NOT_THOUGHT = {
    "smollm2": ["four", "<|im_end|>"],
    "qwen2.5": ["four", "<|im_end|>"],
    # As the template has it: this model has learnt to close an empty think block.
    "qwen3": ["<think>", "\n\n", "</think>", "\n\n", "four", "<|im_end|>"],
    "llama3": ["four", "<|eot_id|>"],
    "deepseek_r1_distill": ["</think>", "\n\n", "four", "<｜end▁of▁sentence｜>"],
}
ALL = pytest.mark.parametrize("family", list(PROMPTS))


def asked(text="What is it"):
    return {"role": "user", "content": text}


def answered(text="four", thinking=None):
    return {"role": "assistant", "content": text} | ({} if thinking is None else {"reasoning_content": thinking})


@pytest.fixture
def runs(pieces):
    """A function from a row to the pieces of each run of tokens: masked, trained, masked, trained…"""

    def split(template, row):
        assert len(row.token_ids) == len(row.trainable)
        found, is_trained = [[]], False
        for piece, trains in zip(pieces(template.tokenizer, row.token_ids), row.trainable, strict=True):
            if trains != is_trained:
                found.append([])
            found[-1].append(piece)
            is_trained = trains
        return found

    return split


@ALL
def test_a_prompt_is_as_expected_token_by_token(chat_tokenizer, pieces, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    ids = template.prompt_token_ids("What is it")
    assert pieces(template.tokenizer, ids) == PROMPTS[family]
    assert ids == template.prompt_token_ids([asked()])
    assert template.ends_with_think is (family == "deepseek_r1_distill")
    template.lint("What is it")


@ALL
@pytest.mark.parametrize("inline", [False, True])
def test_thinking_trains_and_ends_in_the_templates_own_end_of_turn(chat_tokenizer, runs, family, inline):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    turn = answered("<think>\nEasy\n</think>\n\nfour") if inline else answered("four", "Easy")
    (row,) = template.training_rows([asked(), turn])
    assert runs(template, row) == [PROMPTS[family], THOUGHT[family]]
    assert row.token_ids[: len(PROMPTS[family])] == template.prompt_token_ids("What is it")
    lint_row(template, row)


@ALL
def test_an_answer_without_thinking_trains_as_the_template_writes_one(chat_tokenizer, runs, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    (row,) = template.training_rows([asked(), answered("four", "")])
    assert runs(template, row) == [PROMPTS[family], NOT_THOUGHT[family]]


@pytest.mark.parametrize("family", ["smollm2", "qwen2.5", "llama3"])
def test_a_conversation_whose_prompts_go_on_from_each_other_is_one_row(chat_tokenizer, runs, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    (row,) = template.training_rows([asked(), answered("four"), asked("Good"), answered("thanks")])
    question = LLAMA_QUESTION if family == "llama3" else ["\n", *IM_QUESTION]
    place = question.index("What")
    between = [*question[:place], "Good", *question[place + 3 :]]
    end = THOUGHT[family][-1]
    assert runs(template, row) == [PROMPTS[family], ["four", end], between, ["thanks", end]]
    lint_row(template, row)


@ALL
def test_each_turn_that_thinks_trains_after_the_prompt_it_is_sampled_from(chat_tokenizer, runs, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    turns = [asked(), answered("four", "Easy"), asked("Good"), answered("thanks", "wait")]
    first, second = template.training_rows(turns)
    assert runs(template, first) == [PROMPTS[family], THOUGHT[family]]
    # What sampling sees of the first turn is its answer alone: so the template has it for each of these models.
    assert second.token_ids[: second.trainable.index(True)] == template.prompt_token_ids(turns[:3])
    said = ["wait" if piece == "Easy" else "thanks" if piece == "four" else piece for piece in THOUGHT[family]]
    assert runs(template, second)[1:] == [said]
    assert "Easy" not in runs(template, second)[0]


def test_a_template_that_keeps_what_was_thought_makes_one_row_of_it(chat_tokenizer, runs):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), "chat")
    turn = answered("<think>\nEasy\n</think>\n\nfour")
    (row,) = template.training_rows([asked(), turn, asked(), turn])
    assert runs(template, row) == [
        PROMPTS["qwen2.5"], THOUGHT["qwen2.5"], ["\n", *IM_QUESTION], THOUGHT["qwen2.5"],
    ]  # fmt: skip


@ALL
def test_a_row_of_prompt_and_completion_is_the_conversation_of_the_two(chat_tokenizer, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    text = "<think>\nEasy\n</think>\n\nfour"
    prompt, completion = template.example_token_ids("What is it", text)
    (row,) = template.training_rows([asked(), answered(text)])
    assert prompt + completion == row.token_ids


@ALL
def test_settings_of_the_recipe_stand_where_they_belong(chat_tokenizer, runs, family):
    tokenizer = chat_tokenizer(family)
    template = ChatTemplate(tokenizer, "chat", system="Be brief", instruction="Think", prefill="Good")
    if family == "deepseek_r1_distill":
        turn, rest = answered("<think>\nGood\n</think>\n\nfour"), ["\n", "</think>", "\n\n", "four"]
    else:
        turn, rest = answered("Good four"), [" four"]
    (row,) = template.training_rows([asked(), turn])
    masked, trained = runs(template, row)
    assert trained == [*rest, THOUGHT[family][-1]]
    text = "".join(masked)
    assert text == template.prompt_text("What is it")
    assert text.endswith("Good") and "What is it\nThink<" in text and "Be brief<" in text
    assert "SmolLM" not in text and "Alibaba" not in text
    own = [{"role": "system", "content": "Yes"}, asked()]
    assert "Be brief" not in template.prompt_text(own) and "Yes<" in template.prompt_text(own)


def test_an_option_of_the_template_reaches_it(chat_tokenizer, runs):
    template = ChatTemplate(chat_tokenizer("qwen3"), "chat", options={"enable_thinking": False})
    closed = [*PROMPTS["qwen3"], "<think>", "\n\n", "</think>", "\n\n"]
    assert runs(template, template.training_rows([asked(), answered("four")])[0]) == [closed, ["four", "<|im_end|>"]]
    with pytest.raises(DataError, match="closes the thinking"):
        template.training_rows([asked(), answered("four", "Easy")])


def test_a_prefilled_think_tag_is_not_written_again(chat_tokenizer, runs):
    template = ChatTemplate(chat_tokenizer("qwen3"), "chat", prefill="<think>\n")
    assert template.ends_with_think
    for turn in (answered("four", "Easy"), answered("<think>\nEasy\n</think>\n\nfour")):
        (row,) = template.training_rows([asked(), turn])
        assert runs(template, row) == [[*PROMPTS["qwen3"], "<think>", "\n"], THOUGHT["qwen3"][2:]]
    with pytest.raises(DataError, match="never closes"):
        template.training_rows([asked(), answered("four")])


@pytest.mark.parametrize("kind", ["nano", "r1_zero"])
def test_plain_templates_end_in_the_tokenizers_end_and_can_be_prefilled(chat_tokenizer, pieces, kind):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), kind, prefill=" <think>")
    prompt, completion = template.example_token_ids("What is it", " <think>Easy</think>four")
    assert "".join(pieces(template.tokenizer, prompt)).endswith("Assistant: <think>")
    assert pieces(template.tokenizer, completion) == ["Easy", *CLOSE, "four", "<|endoftext|>"]
    with pytest.raises(DataError, match="has room for one question"):
        template.prompt_token_ids([asked(), answered(), asked()])


@ALL
@pytest.mark.parametrize("thinking", [None, "Easy {end} wait"])
def test_control_tokens_in_a_text_are_read_as_text(chat_tokenizer, family, thinking):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    end = THOUGHT[family][-1]
    marker = {"llama3": "<|start_header_id|>", "deepseek_r1_distill": "<｜User｜>"}.get(family, "<|im_start|>")
    text = f"Is it {end} or {marker}user"
    turn = answered(text, "" if thinking is None else thinking.format(end=end))
    (row,) = template.training_rows([asked(text), turn])
    counts = [row.token_ids.count(template.tokenizer.convert_tokens_to_ids(token)) for token in (end, marker)]
    plain = template.training_rows([asked("What"), answered("four", "" if thinking is None else "Easy")])[0]
    assert counts == [plain.token_ids.count(template.tokenizer.convert_tokens_to_ids(token)) for token in (end, marker)]
    decoded = template.tokenizer.decode(row.token_ids)
    assert decoded.count(text) == 2 and (thinking is None or f"Easy {end} wait" in decoded)
    lint_row(template, row)


def test_letters_that_a_tokenizer_composes_train_all_the_same(chat_tokenizer):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), "chat")
    (row,) = template.training_rows([asked(), answered("cafe\u0301")])
    assert template.tokenizer.decode(row.token_ids).endswith("caf\u00e9<|im_end|>")


def test_a_template_that_asks_for_the_date_gets_the_same_one_each_day(chat_tokenizer):
    tokenizer = chat_tokenizer("llama3")
    assert "strftime_now" in tokenizer.chat_template
    assert "Today Date: 26 Jul 2024\n" in ChatTemplate(tokenizer, "chat").prompt_text("What is it")
    other = ChatTemplate(tokenizer, "chat", options={"date_string": "1 May 2031"})
    assert "Today Date: 1 May 2031\n" in other.prompt_text("What is it")


@pytest.mark.parametrize(
    ("messages", "expected"),
    [
        ([], "needs a message of the user"),
        ([answered()], "needs a message of the user"),
        ([asked()], "no turn of the assistant"),
        ([asked(), answered(), {"role": "system", "content": "x"}], "only stand first"),
        ([asked(), answered(), answered()], "must end with a message of the user"),
        ([asked(), {"role": "tool", "content": "x"}], "message 2 has the role 'tool'"),
        ([asked(), answered() | {"tool_calls": []}], "message 2 has 'tool_calls'"),
        ([asked(), {"role": "assistant", "content": 3}], "message 2.*must be strings"),
        ([asked(), {"role": "assistant", "content": None}], "message 2.*must be strings"),
        ([asked() | {"reasoning_content": "x"}, answered()], "only the assistant thinks"),
        ([asked(), answered("<think>x</think>four", "Easy")], "holds think tags besides"),
        ([asked(), answered("four", "Easy </think> wait")], "holds think tags besides"),
        ([asked(), answered("fo\ud800ur")], "surrogate"),
        (["What"], "message 1 is not an object"),
    ],
)
def test_a_conversation_that_cannot_be_told_whole_is_refused(chat_tokenizer, messages, expected):
    template = ChatTemplate(chat_tokenizer("qwen3"), "chat")
    with pytest.raises(DataError, match=expected):
        template.training_rows(messages)
