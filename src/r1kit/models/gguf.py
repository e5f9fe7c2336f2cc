"""GGUF files, converted once into a folder that `transformers` loads as it is.

The weights are dequantised to float32: training needs all the bits of its small steps.
"""

import copy
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase

from r1kit.errors import ModelError

_CONTRACTIONS_AND_WORDS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_REST = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# Where texts are cut before merges apply, by the name that the file gives. `transformers` ignores that name and cuts as
# GPT-2 does, so that texts would silently become other tokens than those that the model was trained on.
SPLIT_PATTERNS = {
    "llama-bpe": _CONTRACTIONS_AND_WORDS + r"\p{N}{1,3}" + _REST,
    "qwen2": _CONTRACTIONS_AND_WORDS + r"\p{N}" + _REST,
    "deepseek-r1-qwen": _CONTRACTIONS_AND_WORDS + r"\p{N}" + _REST,
}


def converted_folder(path: Path) -> Path:
    """The Hugging Face folder of a GGUF file, under the user's cache; made at the first call for this very file.

    Raises ModelError where the file can't be read, or holds a network or tokenizer that can't be converted faithfully.
    """
    stat = path.stat()
    content = f"{path.resolve()}/{stat.st_size}/{stat.st_mtime_ns}"
    name = f"{path.stem}-{hashlib.sha256(content.encode()).hexdigest()[:12]}"
    folder = Path.home() / ".cache" / "r1kit" / "gguf" / name
    if not folder.is_dir():
        convert(path, folder)
    return folder


def convert(path: Path, folder: Path) -> None:
    """Write the network, tokenizer and chat template of a GGUF file into a new folder, all or nothing."""
    fields = _header(path)
    architecture = str(fields.get("general.architecture"))
    _refuse_unknown(path, architecture)
    try:
        model = _plain(AutoModelForCausalLM.from_pretrained(path.parent, gguf_file=path.name, dtype=torch.float32))
        tokenizer = AutoTokenizer.from_pretrained(path.parent, gguf_file=path.name)
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{path}: cannot be converted: {(str(error) or type(error).__name__).splitlines()[0]}"
        ) from error
    _restore_splitting(path, tokenizer, fields)
    # What other programs read to know where a text begins and ends; r1kit itself asks the tokenizer.
    for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
        setattr(model.config, name, getattr(tokenizer, name))
        setattr(model.generation_config, name, getattr(tokenizer, name))
    temporary = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    model.save_pretrained(temporary)
    tokenizer.save_pretrained(temporary)
    _drop_foreign_tokens(temporary / "tokenizer.json", model.get_input_embeddings().num_embeddings)
    temporary.rename(folder)


def _header(path: Path) -> dict[str, Any]:
    """The key-value pairs of the file's header that we read."""
    try:
        import accelerate  # noqa: F401  (transformers asks for it, but only after a minute's work)
        from gguf import GGUFReader
    except ImportError as error:
        raise ModelError(f"{path}: GGUF files need the extra: pip install 'r1kit[gguf]' ({error})") from error
    wanted = ("general.architecture", "tokenizer.ggml.model", "tokenizer.ggml.pre")
    try:
        reader = GGUFReader(path)
        return {name: reader.fields[name].contents() for name in wanted if name in reader.fields}
    except (OSError, ValueError, IndexError, KeyError, OverflowError) as error:
        raise ModelError(f"{path}: not a GGUF file, or a damaged one: {error}") from error


def _refuse_unknown(path: Path, architecture: str) -> None:
    from transformers.modeling_gguf_pytorch_utils import GGUF_SUPPORTED_ARCHITECTURES

    if architecture not in GGUF_SUPPORTED_ARCHITECTURES:
        known = ", ".join(sorted(set(GGUF_SUPPORTED_ARCHITECTURES) - {"general", "tokenizer"}))
        raise ModelError(f"{path}: GGUF architecture {architecture!r} cannot be converted; known: {known}")


def _plain(quantized: PreTrainedModel) -> PreTrainedModel:
    """The same network without the mark of having been quantized, with which it could not be saved."""
    config = copy.deepcopy(quantized.config)
    if hasattr(config, "quantization_config"):
        del config.quantization_config
    with torch.device("meta"):
        model = type(quantized)(config)
    model.load_state_dict(quantized.state_dict(), assign=True)
    model.tie_weights()
    return model


def _restore_splitting(path: Path, tokenizer: PreTrainedTokenizerBase, fields: dict[str, Any]) -> None:
    """Cut texts into words as the file says; raise ModelError for a way that is not known here."""
    if fields.get("tokenizer.ggml.model") != "gpt2":  # a SentencePiece model has no such step
        return
    name = fields.get("tokenizer.ggml.pre", "default")
    if name in ("gpt-2", "default"):
        return
    byte_level = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=name == "smollm")
    first: pre_tokenizers.PreTokenizer
    if name == "smollm":
        first = pre_tokenizers.Digits(individual_digits=True)
    elif name in SPLIT_PATTERNS:
        first = pre_tokenizers.Split(Regex(SPLIT_PATTERNS[name]), behavior="isolated")
    else:
        known = ", ".join(["default", "gpt-2", "smollm", *SPLIT_PATTERNS])
        raise ModelError(f"{path}: its tokenizer splits texts by {name!r}, which is not known here; known: {known}")
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence([first, byte_level])


def _drop_foreign_tokens(path: Path, num_embeddings: int) -> None:
    """Take out the tokens that transformers adds to some vocabularies, and for which the network has no embedding."""
    content = json.loads(path.read_text("utf-8"))
    content["added_tokens"] = [token for token in content["added_tokens"] if token["id"] < num_embeddings]
    path.write_text(json.dumps(content, ensure_ascii=False, indent=2), "utf-8")
