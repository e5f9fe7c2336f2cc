"""The nano models: their tokenizer and their networks, all made from nothing, and where the shipped ones lie."""

import re
from collections.abc import Iterable
from importlib import resources
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel, PreTrainedTokenizerFast

from r1kit.config.model import ArchitectureSettings

END_OF_TEXT = "<|endoftext|>"
PADDING = "<|pad|>"
# What the corpus lays end to end: the prompt of the `nano` chat template, then the completion.
NANO_DOCUMENT = "User: {question}\nAssistant:{completion}"
TAGS = ("<think>", "</think>", "<answer>", "</answer>")


SHIPPED = ("nano", "nano-student-llama", "nano-student-qwen2")
"""Models that come with the package: the base, and half-size students that have read a tenth of what it has."""


def shipped_folder(name: str = "nano") -> Path:
    """The folder of a model that comes with the package, one of SHIPPED."""
    return Path(str(resources.files("r1kit.assets"))) / name


def make_tokenizer(texts: Iterable[str], vocab_size: int) -> PreTrainedTokenizerFast:
    """A byte-level BPE tokenizer trained on `texts`: every digit stands alone, every tag is one token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Digits(individual_digits=True),
            pre_tokenizers.Split(Regex(r" ?[^\s\d]+|\s+"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - len(TAGS),
        special_tokens=[END_OF_TEXT, PADDING],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    # Tags are cut out first: a merge across one could never be used, since tags are split off before merging.
    pieces = (piece for text in texts for piece in re.split("|".join(TAGS), text))
    tokenizer.train_from_iterator(pieces, trainer)
    tokenizer.add_tokens(list(TAGS))
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=END_OF_TEXT,
        pad_token=PADDING,
        clean_up_tokenization_spaces=False,
    )


def make_model(shape: ArchitectureSettings, tokenizer: PreTrainedTokenizerFast, *, seed: int) -> PreTrainedModel:
    """A randomly initialised network of the given shape, its embeddings tied, the same for the same seed."""
    config = AutoConfig.for_model(
        shape.kind,
        vocab_size=len(tokenizer),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.num_layers,
        num_attention_heads=shape.num_heads,
        num_key_value_heads=shape.num_key_value_heads,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.max_position_embeddings,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(config, dtype=torch.float32)
