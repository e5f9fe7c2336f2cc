"""Tiny tokenizers that read and mark text as those of real models do, each with a template in that model's style."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEMPLATES = Path(__file__).parent / "templates"
# Every word of these is one token of its own, with and without a space before it.
WORDS = (
    "You are a helpful AI assistant named SmolLM, trained by Hugging Face Qwen, created by Alibaba Cloud. "
    "system user assistant What is the sum the answer Two plus two makes four Good is it Yes No thanks "
    "Cutting Knowledge Date: December 2023 Today Date: 26 Jul 2024 Be You brief Think Easy wait The user asks"
)
IM = ("<|im_start|>", "<|im_end|>")
HEADERS = ("<|start_header_id|>", "<|end_header_id|>")


@dataclass(frozen=True)
class Family:
    """What a kind of model's tokenizer is like."""

    special: tuple[str, ...]
    eos: str
    pad: str
    bos: str | None = None
    adds_bos: bool = False
    text_tokens: tuple[str, ...] = ()
    """Added tokens that are not special."""
    composes: bool = False
    """Brings text into Unicode's composed form before reading it."""
    splits: str | None = None
    """How text is cut before merging; None: as GPT-2 does."""


def cutting(digits: str) -> str:
    """Llama 3's and Qwen's way to cut text, with so many digits a piece."""
    return (
        rf"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*"
        r"|\s*[\r\n]+|\s+(?!\S)|\s+"
    )


FAMILIES = {
    "smollm2": Family(special=("<|endoftext|>", *IM), bos="<|im_start|>", eos="<|im_end|>", pad="<|im_end|>"),
    # The base model, whose template ends a turn with another token than its tokenizer ends a text.
    "qwen2.5": Family(
        special=("<|endoftext|>", *IM),
        eos="<|endoftext|>",
        pad="<|endoftext|>",
        composes=True,
        splits=cutting(r"\p{N}"),
    ),
    "qwen3": Family(
        special=("<|endoftext|>", *IM),
        eos="<|im_end|>",
        pad="<|endoftext|>",
        text_tokens=("<think>", "</think>"),
        composes=True,
        splits=cutting(r"\p{N}"),
    ),
    "llama3": Family(
        special=("<|begin_of_text|>", "<|end_of_text|>", *HEADERS, "<|eot_id|>"),
        bos="<|begin_of_text|>",
        eos="<|eot_id|>",
        pad="<|eot_id|>",
        adds_bos=True,
        splits=cutting(r"\p{N}{1,3}"),
    ),
    "deepseek_r1_distill": Family(
        special=("<｜begin▁of▁sentence｜>", "<｜end▁of▁sentence｜>"),
        bos="<｜begin▁of▁sentence｜>",
        eos="<｜end▁of▁sentence｜>",
        pad="<｜end▁of▁sentence｜>",
        adds_bos=True,
        text_tokens=("<｜User｜>", "<｜Assistant｜>", "<think>", "</think>"),
        splits=cutting(r"\p{N}"),
    ),
}


@pytest.fixture(scope="session")
def chat_tokenizer():
    """A function from a family's name to a new tokenizer of it, its chat template set."""

    def make(name: str) -> PreTrainedTokenizerFast:
        family = FAMILIES[name]
        fast = Tokenizer(models.BPE())
        fast.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        if family.splits:
            cut = pre_tokenizers.Split(Regex(family.splits), "isolated")
            to_bytes = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
            fast.pre_tokenizer = pre_tokenizers.Sequence([cut, to_bytes])
        fast.decoder = decoders.ByteLevel()
        if family.composes:
            fast.normalizer = normalizers.NFC()
        trainer = trainers.BpeTrainer(
            vocab_size=2000, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
        )
        fast.train_from_iterator([WORDS, *WORDS.split(), "\n\n"] * 4, trainer)
        fast.add_special_tokens(list(family.special))
        fast.add_tokens([AddedToken(token, special=False, normalized=False) for token in family.text_tokens])
        if family.adds_bos:
            marks = [(family.bos, fast.token_to_id(family.bos))]
            fast.post_processor = processors.TemplateProcessing(single=f"{family.bos} $A", special_tokens=marks)
        tokenizer = PreTrainedTokenizerFast(
            tokenizer_object=fast, bos_token=family.bos, eos_token=family.eos, pad_token=family.pad
        )
        tokenizer.chat_template = (TEMPLATES / f"{name}.jinja").read_text("utf-8").removesuffix("\n")
        return tokenizer

    return make


@pytest.fixture(scope="session")
def pieces():
    """A function from token ids to the text of each."""

    def split(tokenizer, ids) -> list[str]:
        return [tokenizer.decode([token_id], clean_up_tokenization_spaces=False) for token_id in ids]

    return split
