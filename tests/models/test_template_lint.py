"""Each trap between templates, tokenizers and training is refused, with what mends it; sound models pass."""

import pytest
from tokenizers import processors

from r1kit.errors import DataError, ModelError
from r1kit.models.chat_template import ChatTemplate, TrainingRow
from r1kit.models.template_lint import lint_row, trained_spans
from r1kit.rewards import check_format

FAMILIES = ["smollm2", "qwen2.5", "qwen3", "llama3", "deepseek_r1_distill"]
ASKED = [{"role": "user", "content": "What is it"}]
CHATML = (
    "{% for message in messages %}<|im_start|>{{ message.role }}\n{{ message.content }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


@pytest.fixture
def rewritten(chat_tokenizer):
    """A function from a family and replacements in its chat template to the template object."""

    def make(family, *replacements, **settings):
        tokenizer = chat_tokenizer(family)
        for old, new in replacements:
            assert old in tokenizer.chat_template
            tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
        return ChatTemplate(tokenizer, "chat", **settings)

    return make


@pytest.fixture
def chatml(chat_tokenizer):
    """A function from a family and replacements in the plain ChatML template to the template object."""

    def make(family, *replacements, **settings):
        tokenizer = chat_tokenizer(family)
        tokenizer.chat_template = CHATML
        for old, new in replacements:
            assert old in tokenizer.chat_template
            tokenizer.chat_template = tokenizer.chat_template.replace(old, new)
        return ChatTemplate(tokenizer, "chat", **settings)

    return make


def row_of(template, completion="four"):
    prompt, rest = template.example_token_ids("What is it", completion)
    return TrainingRow.of(prompt, rest)


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("kind", ["chat", "r1_zero", "nano"])
def test_sound_models_pass(chat_tokenizer, family, kind):
    template = ChatTemplate(chat_tokenizer(family), kind)
    template.lint("What is it", wants_thinking=True)
    lint_row(template, row_of(template, "<think>Easy</think>four"))


@pytest.mark.parametrize("family", FAMILIES)
def test_what_trains_must_end_in_the_end_of_the_turn_and_hold_it_once(chat_tokenizer, family):
    template = ChatTemplate(chat_tokenizer(family), "chat")
    row = row_of(template, "<think>Easy</think>four")
    cut = TrainingRow(row.token_ids[:-1], row.trainable[:-1])
    twice = TrainingRow((*row.token_ids, template.end_id), (*row.trainable, True))
    for faulty, expected in ((cut, "does not end in the token"), (twice, "in its midst")):
        with pytest.raises(DataError, match=expected):
            lint_row(template, faulty)


def test_an_end_of_the_tokenizer_where_the_template_has_its_own_is_refused(chat_tokenizer):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), "chat")
    row = row_of(template)
    with pytest.raises(DataError, match="does not end in the token"):
        lint_row(template, TrainingRow((*row.token_ids[:-1], template.tokenizer.eos_token_id), row.trainable))


def test_a_row_without_a_prompt_or_without_what_trains_is_refused(chat_tokenizer):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), "chat")
    row = row_of(template)
    for trainable in ((False,) * len(row.token_ids), (True,) * len(row.token_ids)):
        with pytest.raises(DataError, match="needs a prompt that is masked"):
            lint_row(template, TrainingRow(row.token_ids, trainable))


def test_spans_are_the_runs_of_trained_tokens():
    assert trained_spans(TrainingRow((5, 6, 7, 8, 9), (False, True, True, False, True))) == [(6, 7), (9,)]


def test_two_bos_tokens_are_refused_and_the_setting_mends_it(rewritten):
    twice = ("{{- bos_token -}}", "{{- bos_token -}}{{- bos_token -}}")
    with pytest.raises(ModelError, match="two BOS"):
        rewritten("llama3", twice).lint("What is it")
    mended = rewritten("llama3", twice, bos=True)
    mended.lint("What is it")
    assert mended.prompt_token_ids("What is it") == rewritten("llama3").prompt_token_ids("What is it")


def test_a_missing_bos_is_refused_and_the_setting_mends_it(rewritten):
    without = ("{{- bos_token -}}", "")
    with pytest.raises(ModelError, match=r"writes none; set template\.bos"):
        rewritten("llama3", without).lint("What is it")
    mended = rewritten("llama3", without, bos=True)
    mended.lint("What is it")
    assert mended.prompt_token_ids("What is it") == rewritten("llama3").prompt_token_ids("What is it")
    bare = rewritten("llama3", without, bos=False)
    bare.lint("What is it")
    assert bare.prompt_token_ids("What is it") == mended.prompt_token_ids("What is it")[1:]


def test_a_bos_setting_for_a_tokenizer_that_has_none_is_refused(rewritten):
    with pytest.raises(ModelError, match="has no BOS token"):
        rewritten("qwen2.5", bos=True).lint("What is it")


def test_a_bos_in_what_trains_is_refused(chat_tokenizer):
    template = ChatTemplate(chat_tokenizer("llama3"), "chat")
    row = row_of(template)
    first = row.trainable.index(True)
    ids = (*row.token_ids[:first], template.tokenizer.bos_token_id, *row.token_ids[first:])
    with pytest.raises(DataError, match="holds the BOS token"):
        lint_row(template, TrainingRow(ids, (*row.trainable, True)))


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        (("{{ message.content }}<|im_end|>\n", "{{ message.content }}\n"), "ends the assistant's turn with no token"),
        (("{{ message.content }}<|im_end|>\n", "{{ message.content }}</s>\n"), "ends the assistant's turn with no tok"),
        (("<|im_start|>assistant\n{% endif %}", "{% endif %}"), "begins an assistant's turn otherwise"),
        (("{{ message.content }}", "{{ message.content | upper }}"), "does not write what the assistant said"),
        (
            ("{{ message.role }}\n", "{{ message.role }}\n{% if message.role == 'assistant' %}final: {% endif %}"),
            "begins an assistant's turn otherwise",
        ),
    ],
)
def test_a_template_that_training_cannot_follow_is_refused(chatml, replacement, expected):
    template = chatml("qwen2.5", replacement)
    with pytest.raises(ModelError, match=expected):
        template.lint("What is it")
    with pytest.raises(ModelError, match=expected):
        row_of(template)


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [
        # Earlier messages change as soon as an answer follows: the prompt is no prefix of the conversation.
        (
            ("{% for", "{{ 'To be answered\n' if messages[-1].role == 'user' else '' }}{% for"),
            "begins an assistant's turn otherwise",
        ),
        (("{{ message.content }}", "{{ message.content.replace('four', '4') }}"), "does not write a turn as it is"),
        (
            (
                "{% for message in messages %}",
                "{% for message in messages %}{{ 'A' if 'four' in messages[-1].content }}",
            ),
            "otherwise than those of a prompt",
        ),
    ],
)
def test_a_turn_that_the_template_changes_is_refused(chatml, replacement, expected):
    with pytest.raises((DataError, ModelError), match=expected):
        row_of(chatml("qwen2.5", replacement))


def test_thinking_that_a_template_hides_in_an_empty_block_trains_all_the_same(chatml, pieces):
    # The trap of some training templates: an empty think block before every answer, and the reasoning gone.
    hiding = (
        "{{ message.content }}",
        "{{ '<think>\n\n</think>\n\n' if message.role == 'assistant' }}{{ message.content }}",
    )
    template = chatml("qwen3", hiding)
    turn = {"role": "assistant", "content": "four", "reasoning_content": "Easy"}
    (row,) = template.training_rows([*ASKED, turn])
    (span,) = trained_spans(row)
    assert pieces(template.tokenizer, span) == [
        *("<think>", "\n", "Easy", "\n", "</think>", "\n\n", "four", "<|im_end|>"),
    ]
    inline = {"role": "assistant", "content": "<think>\nEasy\n</think>\n\nfour"}
    with pytest.raises(DataError, match="does not write a turn as it is"):
        template.training_rows([*ASKED, inline])


def test_no_template_is_refused(chat_tokenizer):
    tokenizer = chat_tokenizer("qwen2.5")
    tokenizer.chat_template = None
    with pytest.raises(ModelError, match="no chat template: use 'r1_zero'"):
        ChatTemplate(tokenizer, "chat").lint("What is it")


def test_a_template_that_refuses_the_conversation_says_why(chatml):
    template = chatml(
        "qwen2.5", ("{% for", "{{ raise_exception('no system role') if messages[0].role == 'system' }}{% for")
    )
    template.lint("What is it")
    with pytest.raises(DataError, match="refuses the conversation: no system role"):
        template.prompt_token_ids([{"role": "system", "content": "x"}, *ASKED])


def test_an_option_that_the_template_does_not_know_is_refused(rewritten):
    with pytest.raises(ModelError, match=r"template.options.enable_thinking.*knows nothing"):
        rewritten("qwen2.5", options={"enable_thinking": False}).lint("What is it")


@pytest.mark.parametrize(
    ("family", "options", "did"),
    [("deepseek_r1_distill", {}, "opens"), ("qwen3", {"enable_thinking": False}, "closes")],
)
def test_a_think_tag_that_the_template_has_written_already_is_not_prefilled(rewritten, family, options, did):
    with pytest.raises(ModelError, match=f"already {did} the thinking"):
        rewritten(family, options=options, prefill="<think>\n").lint("What is it")


def test_a_reward_for_thinking_that_the_prompt_has_closed_is_refused(rewritten):
    template = rewritten("qwen3", options={"enable_thinking": False})
    template.lint("What is it")
    with pytest.raises(ModelError, match="the prompt closes it"):
        template.lint("What is it", wants_thinking=True)


@pytest.mark.parametrize(
    ("family", "settings"), [("deepseek_r1_distill", {}), ("qwen3", {"prefill": "<think>\n"}), ("qwen3", {})]
)
def test_a_think_tag_in_the_prompt_is_not_demanded_of_the_completion(rewritten, family, settings):
    template = rewritten(family, **settings)
    template.lint("What is it", wants_thinking=True)
    is_open = bool(settings) or family == "deepseek_r1_distill"
    assert template.ends_with_think is is_open
    text = "Easy</think><answer>four</answer>"
    for completion, is_right in ((text, is_open), (f"<think>{text}", not is_open)):
        assert check_format(completion, prompt_ends_with_think=template.ends_with_think).strict is is_right


@pytest.mark.parametrize("kind", ["chat", "r1_zero"])
def test_a_prompt_that_ends_within_a_word_is_refused(chat_tokenizer, kind):
    tokenizer = chat_tokenizer("qwen2.5")
    with pytest.raises(ModelError, match="ends in a space"):
        ChatTemplate(tokenizer, kind, prefill="The answer is ").lint("What is it")
    ChatTemplate(tokenizer, kind, prefill="The answer is").lint("What is it")


def test_a_prompt_that_ends_where_a_completion_would_is_refused(chatml):
    with pytest.raises(ModelError, match="ends in a token that ends a completion"):
        chatml("qwen2.5", prefill="<|im_end|>").lint("What is it")


def test_a_plain_prompt_with_an_end_of_text_in_it_is_refused(chat_tokenizer):
    template = ChatTemplate(chat_tokenizer("qwen2.5"), "r1_zero", prefill="<|endoftext|> Good")
    with pytest.raises(ModelError, match="holds the end-of-sequence token"):
        template.lint("What is it")


def test_a_template_that_writes_nothing_of_a_question_is_refused(chat_tokenizer):
    tokenizer = chat_tokenizer("qwen2.5")
    tokenizer.chat_template = "{% if messages[-1].role == 'assistant' %}{{ messages[-1].content }}<|im_end|>{% endif %}"
    with pytest.raises(ModelError, match="has no tokens"):
        ChatTemplate(tokenizer, "chat").lint("What is it")


def test_a_completion_that_does_not_begin_as_prefilled_is_refused(chat_tokenizer):
    for kind in ("chat", "r1_zero"):
        with pytest.raises(DataError, match=r"does not begin with what the prompt prefills: 'Good'"):
            row_of(ChatTemplate(chat_tokenizer("qwen2.5"), kind, prefill="Good"))


def test_a_tokenizer_that_closes_every_text_leaves_prompts_open(chat_tokenizer):
    tokenizer = chat_tokenizer("qwen2.5")
    marks = [("<|endoftext|>", tokenizer.eos_token_id)]
    tokenizer.backend_tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|endoftext|>", special_tokens=marks
    )
    template = ChatTemplate(tokenizer, "r1_zero")
    assert tokenizer.encode("What")[-1] == tokenizer.eos_token_id
    template.lint("What is it")
    assert tokenizer.eos_token_id not in template.prompt_token_ids("What is it <|endoftext|> What")


def test_a_tokenizer_that_cannot_give_the_text_back_is_refused(chat_tokenizer):
    tokenizer = chat_tokenizer("qwen2.5")
    tokenizer.backend_tokenizer.decoder = None
    with pytest.raises(DataError, match="does not give the completion back"):
        row_of(ChatTemplate(tokenizer, "chat"), "four is it")
