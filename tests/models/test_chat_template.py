"""Questions become prompts: word for word, one BOS, and an end-of-sequence token only where a completion ends."""

import pytest
from tokenizers import Tokenizer
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast

from r1kit.errors import ModelError
from r1kit.models.chat_template import ChatTemplate

CHAT = (
    "{{ bos_token }}{% for message in messages %}<{{ message.role }}>{{ message.content }}{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def wrapped(tokenizer, pattern, *, chat_template=None):
    """A copy of the tokenizer with a BOS token, that turns every text into `pattern`, like "<s> $A"."""
    fast = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    fast.add_special_tokens(["<s>"])
    marks = [(mark, fast.token_to_id(mark)) for mark in ("<s>", tokenizer.eos_token)]
    fast.post_processor = TemplateProcessing(single=pattern, special_tokens=marks)
    copy = PreTrainedTokenizerFast(tokenizer_object=fast, bos_token="<s>", eos_token=tokenizer.eos_token)
    copy.chat_template = chat_template
    return copy


def test_the_nano_prompt_is_short(tokenizer):
    assert ChatTemplate(tokenizer, "nano").prompt_text("Compute 2+2") == "User: Compute 2+2\nAssistant:"


def test_the_r1_zero_prompt_is_the_papers_word_for_word(tokenizer):
    assert ChatTemplate(tokenizer, "r1_zero").prompt_text("What is 2+2?") == (
        "A conversation between User and Assistant. The user asks a question, and the Assistant solves it. The "
        "assistant first thinks about the reasoning process in the mind and then provides the user with the answer. "
        "The reasoning process and answer are enclosed within <think> </think> and <answer> </answer> tags, "
        "respectively, i.e., <think> reasoning process here </think> <answer> answer here </answer>. "
        "User: What is 2+2?. Assistant:"
    )


@pytest.mark.parametrize("kind", ["nano", "r1_zero", "chat"])
@pytest.mark.parametrize("question", ["{}", "{question}", "{0} {x!r} {{y}}", "%s \\n", "{% raw %}{{ 7*7 }}", "从3选"])
def test_a_question_survives_whatever_it_holds(tokenizer, kind, question):
    template = ChatTemplate(wrapped(tokenizer, "<s> $A", chat_template=CHAT), kind)
    assert template.prompt_text(question).count(question) == 1
    assert question in template.tokenizer.decode(template.prompt_token_ids(question))


@pytest.mark.parametrize("kind", ["nano", "r1_zero", "chat"])
def test_a_prompt_has_one_bos_at_its_start(tokenizer, kind):
    template = ChatTemplate(wrapped(tokenizer, "<s> $A", chat_template=CHAT), kind)
    ids = template.prompt_token_ids("Compute 2+2")
    assert ids[0] == template.tokenizer.bos_token_id
    assert ids.count(template.tokenizer.bos_token_id) == 1


def test_a_prompt_has_no_bos_where_the_tokenizer_adds_none(tokenizer):
    template = ChatTemplate(tokenizer, "nano")
    ids = template.prompt_token_ids("Compute 2+2")
    assert tokenizer.decode(list(ids)) == "User: Compute 2+2\nAssistant:"
    assert tokenizer.eos_token_id not in ids


def test_a_prompt_stays_open_where_the_tokenizer_closes_every_text(tokenizer):
    closing = wrapped(tokenizer, f"<s> $A {tokenizer.eos_token}")
    template = ChatTemplate(closing, "nano")
    prompt, completion = template.example_token_ids("Compute 2+2", "4")
    assert closing.encode("4")[-1] == closing.eos_token_id  # as it would close a prompt
    assert closing.eos_token_id not in prompt
    assert closing.decode(completion) == f"4{closing.eos_token}"


@pytest.mark.parametrize("pattern", ["$A", "<s> $A"])
def test_an_example_ends_in_one_end_of_sequence_token_and_holds_nothing_else_new(tokenizer, pattern):
    template = ChatTemplate(wrapped(tokenizer, pattern), "nano")
    text = "<think>2+2=4</think><answer>4</answer>"
    prompt, completion = template.example_token_ids("Compute 2+2", text)
    assert prompt == template.prompt_token_ids("Compute 2+2")
    assert completion[-1] == template.tokenizer.eos_token_id
    assert completion.count(template.tokenizer.eos_token_id) == 1
    assert template.tokenizer.decode(completion[:-1]) == text


def test_a_chat_template_of_the_tokenizer_is_used_as_it_is(tokenizer):
    template = ChatTemplate(wrapped(tokenizer, "<s> $A", chat_template=CHAT), "chat")
    assert template.prompt_text("Compute 2+2") == "<s><user>Compute 2+2<assistant>"


def test_kind_chat_without_a_template_is_refused(tokenizer):
    with pytest.raises(ModelError, match="no chat template"):
        ChatTemplate(tokenizer, "chat").prompt_text("Compute 2+2")


@pytest.mark.parametrize(("ending", "expected"), [("<think>", True), ("<think>\n", True), ("<think></think>", False)])
def test_a_template_that_opens_the_thinking_is_seen(tokenizer, ending, expected):
    prefilling = CHAT.replace("<assistant>", f"<assistant>{ending}")
    assert ChatTemplate(wrapped(tokenizer, "$A", chat_template=prefilling), "chat").ends_with_think is expected


@pytest.mark.parametrize("kind", ["nano", "r1_zero"])
def test_our_own_templates_leave_the_thinking_to_the_model(tokenizer, kind):
    assert not ChatTemplate(tokenizer, kind).ends_with_think
