"""The nano model: a tokenizer that sees every digit and every tag, and a network that its seed decides."""

import pytest
import torch

from r1kit.config.model import ArchitectureSettings, ModelSettings
from r1kit.models import nano
from r1kit.models.loading import load_policy
from r1kit.tasks.nano_corpus import documents

SHAPE = {"hidden_size": 48, "num_layers": 2, "num_heads": 4, "num_key_value_heads": 2, "intermediate_size": 96}


def test_every_digit_is_a_token_of_its_own(tokenizer):
    ids = tokenizer.encode("User: 1234567890 99")
    pieces = [tokenizer.decode([token_id]) for token_id in ids]
    assert [piece for piece in pieces if piece.strip().isdigit()] == list("123456789099")
    assert len({token_id for token_id, piece in zip(ids, pieces, strict=True) if piece == "9"}) == 1


def test_no_entry_of_the_vocabulary_holds_two_digits(tokenizer):
    assert [entry for entry in tokenizer.get_vocab() if sum(sign.isdigit() for sign in entry) > 1] == []


@pytest.mark.parametrize("tag", nano.TAGS)
def test_every_tag_is_one_token_wherever_it_stands(tokenizer, tag):
    (token_id,) = tokenizer.encode(tag)
    for text in (f"a{tag}b", f"4{tag}{tag}5", f" {tag}\n", f"对{tag}对"):
        assert tokenizer.encode(text).count(token_id) == text.count(tag)
        assert tokenizer.decode(tokenizer.encode(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "Compute 7+5-3",
        "计算7+5-3",
        "用1 2 3得到7 is mixed 文字",
        "  two  spaces\n\n\tand a tab \r\n",
        "<think>check steps:7+5=12 wait,对,</think><answer>12</answer>",
        "naïve café — “quotes” 🙂 \u200b\ufeff",
        " , . ! 's n't",
        "１２３ ½ ²",
        "",
    ],
)
def test_what_is_encoded_decodes_to_itself(tokenizer, text):
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_the_corpus_decodes_to_itself(tokenizer):
    stream = documents("decode")
    texts = [nano.NANO_DOCUMENT.format(question=q, completion=c) for q, c in (next(stream) for _ in range(200))]
    assert [text for text in texts if tokenizer.decode(tokenizer.encode(text)) != text] == []


def test_no_entry_of_the_vocabulary_is_wasted_on_a_piece_of_a_tag(tokenizer):
    wasted = [entry for entry in tokenizer.get_vocab() if any(tag in entry and tag != entry for tag in nano.TAGS)]
    assert wasted == []  # a tag is cut out before merges apply, so no text is ever encoded with these


def test_the_vocabulary_is_as_large_as_asked_for_and_end_and_padding_differ(tokenizer):
    assert len(tokenizer) == 420
    assert sorted(tokenizer.get_vocab().values()) == list(range(420))
    assert tokenizer.eos_token_id != tokenizer.pad_token_id
    assert tokenizer.bos_token_id is None


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_same_seed_makes_the_same_weights(tokenizer, kind):
    shape = ArchitectureSettings(kind=kind, **SHAPE)
    torch.manual_seed(1)
    first = nano.make_model(shape, tokenizer, seed=5).state_dict()
    after = torch.rand(1)
    again = nano.make_model(shape, tokenizer, seed=5).state_dict()
    other = nano.make_model(shape, tokenizer, seed=6).state_dict()
    torch.manual_seed(1)
    assert torch.equal(after, torch.rand(1)), "the caller's random numbers are untouched"
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["model.embed_tokens.weight"], other["model.embed_tokens.weight"])


@pytest.mark.parametrize("kind", ["llama", "qwen2"])
def test_the_network_has_the_shape_asked_for_and_ties_its_embeddings(tokenizer, kind):
    model = nano.make_model(ArchitectureSettings(kind=kind, **SHAPE), tokenizer, seed=0)
    config = model.config
    assert (config.model_type, config.num_hidden_layers, config.vocab_size) == (kind, 2, len(tokenizer))
    assert model.lm_head.weight.data_ptr() == model.model.embed_tokens.weight.data_ptr()
    assert model.model.layers[0].self_attn.k_proj.weight.shape == (24, 48)
    assert {weights.dtype for weights in model.parameters()} == {torch.float32}


@pytest.mark.parametrize(("name", "kind"), [("nano-student-llama", "llama"), ("nano-student-qwen2", "qwen2")])
def test_students_are_half_as_wide_as_the_base_and_share_its_tokenizer(name, kind):
    base, student = load_policy(ModelSettings()), load_policy(ModelSettings(path=name))
    assert student.model.config.model_type == kind
    assert student.model.config.hidden_size * 2 == base.model.config.hidden_size
    assert student.model.config.num_hidden_layers == base.model.config.num_hidden_layers
    text = "User: Compute 3+5-2\nAssistant:<think>check steps:3+5=8 ok,</think>你好!"
    assert student.tokenizer.get_vocab() == base.tokenizer.get_vocab()
    assert student.tokenizer.encode(text) == base.tokenizer.encode(text)
    assert student.tokenizer.decode(student.tokenizer.encode(text)) == text
    size = sum(path.stat().st_size for path in nano.shipped_folder(name).iterdir())
    assert size < 1_000_000
