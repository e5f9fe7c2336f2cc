"""Models and tokenizers from disk or the hub, checked before anything is built on them."""

import json
import os
from pathlib import Path
from typing import Any

import torch
import transformers
from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoModelForCausalLM,
    AutoTokenizer,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PreTrainedTokenizerFast,
)
from transformers.utils.logging import disable_progress_bar, set_verbosity_error

from r1kit.config.model import ModelSettings
from r1kit.config.peft import PeftSettings
from r1kit.errors import ModelError
from r1kit.models import nano
from r1kit.models.adapter_files import CONFIG, is_adapter, merge
from r1kit.models.gguf import converted_folder
from r1kit.models.lora import make_adapters
from r1kit.models.placement import place
from r1kit.models.policy import Policy

# Its bars for the loading and writing of each file would break into our own progress display.
disable_progress_bar()
# What it warns of when it loads a model is an error here, and said in one line.
if "TRANSFORMERS_VERBOSITY" not in os.environ:
    set_verbosity_error()

# What a model folder is made of; other formats of the same weights stay on the hub.
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]
GENERAL_TOKENIZERS = ("TokenizersBackend", "PreTrainedTokenizerFast")
AGAIN = "copy or download the model again"
LEAST_FILLED = 0.5
"""Networks have a few embeddings more than their tokenizer has entries (at most 3 % in those that are known here); with
less than this share filled, the tokenizer is another model's."""


def resolve_folder(path: str, revision: str | None = None) -> Path:
    """The folder that a recipe's `model.path` means; raise ModelError where it holds no model.

    `nano` or another model of the package, a model folder, a run's folder (its `final/`, else its last checkpoint), a
    GGUF file (converted into the user's cache), or a hub id (downloaded into the hub's cache). It may hold adapters
    alone, of which the base is found when they are loaded.
    """
    folder = nano.shipped_folder(path) if path in nano.SHIPPED else Path(path).expanduser()
    if folder.is_file():
        if folder.suffix.lower() != ".gguf":
            raise ModelError(f"model.path {path!r} is a file, but not a GGUF file; name the model's folder")
        folder = converted_folder(folder)
    elif folder.is_dir():
        folder = _model_in_run(folder) or folder
    elif _looks_like_hub_id(path):
        folder = _download(path, revision)
    else:
        raise ModelError(
            f"model.path {path!r}: no such folder or file ({', '.join(nano.SHIPPED)} name models that ship "
            "with r1kit, owner/name one of the Hugging Face hub)"
        )
    if is_adapter(folder):
        return folder
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        lacks = ", ".join(missing or ["*.safetensors"])
        raise ModelError(f"{folder}: not a model folder, nor a run's: it has no {lacks}")
    return folder


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The language model of a folder, every weight from its files; raise ModelError where one is missing or no fit.

    Adapters are merged into their base.
    """
    if is_adapter(folder):
        model = load_model(base_folder(folder), dtype)
        merge(model, folder, read_object(folder / CONFIG))
        return model
    return load_network(AutoModelForCausalLM, folder, dtype)


def base_folder(folder: Path) -> Path:
    """The folder of the network to which a folder's adapters belong; raise ModelError where there is none."""
    found = read_object(folder / CONFIG)
    base = found.get("base_model_name_or_path")
    if not isinstance(base, str) or not base:
        raise ModelError(f"{folder / CONFIG}: base_model_name_or_path names no model; write the base's path there")
    try:
        return resolve_folder(base, found.get("revision"))
    except ModelError as error:
        raise ModelError(f"{folder / CONFIG}: base_model_name_or_path: {error}") from error


def load_network(
    kind: Any, folder: Path, dtype: torch.dtype, *, heads: tuple[str, ...] = (), **settings: Any
) -> PreTrainedModel:
    """The network of a folder as one of the Auto classes, `settings` changed in its config.

    Every weight is from the files but those of `heads` (beginnings of names), which may be missing or too many there.
    Raises ModelError where another one is missing or does not fit.
    """
    read_object(folder / "config.json")
    if is_adapter(folder):
        raise ModelError(f"{folder}: it holds adapters alone, not a network; export it first: r1 export {folder} OUT")
    try:
        # Weights of another shape are let through, to be named below: the library's own error does not.
        model, found = kind.from_pretrained(
            folder,
            dtype=dtype,
            local_files_only=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            **settings,
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: its weights cannot be loaded: {_first_line(error)}; {AGAIN}") from error
    # transformers fills what is missing with random numbers and only says so.
    for key in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        names = [name for name in map(_key_name, found[key]) if not (heads and name.startswith(heads))]
        if names:
            raise ModelError(
                f"{folder}: its weights do not fit its config.json: {key} {min(names)}; both must be of one model"
            )
    return model


def load_policy(
    settings: ModelSettings, *, trains: bool = False, peft: PeftSettings | None = None, seed: int = 0
) -> Policy:
    """The model and tokenizer that the settings name, where and in the precision that they say.

    A policy that `trains` keeps float32 weights, of which each forward pass makes copies in the precision of the
    matrix products: in bfloat16 a step of a millionth of a weight would be lost. With `peft` new adapters train, made
    by the seed, and the network keeps its files' own precision.
    """
    folder = resolve_folder(settings.path, settings.revision)
    placement = place(settings, num_parameters_of(folder))
    is_exact = peft is not None and placement.dtype == torch.bfloat16 and _is_bfloat16(folder)
    model, tokenizer = load_both(folder, torch.float32 if trains and not is_exact else placement.dtype)
    model = model.to(placement.device)
    adapters = None
    if peft is not None:
        is_of_hub = not Path(settings.path).expanduser().exists() and settings.path not in nano.SHIPPED
        base = settings.path if is_of_hub else str(folder.resolve())
        adapters = make_adapters(model, peft, seed=seed, base=base, revision=settings.revision)
    return Policy(model, tokenizer, compute_dtype=placement.dtype, adapters=adapters)


def _is_bfloat16(folder: Path) -> bool:
    """Whether a folder's weights are bfloat16, so that loading them as such loses nothing."""
    config = read_object(folder / "config.json")
    return not is_adapter(folder) and (config.get("dtype") or config.get("torch_dtype")) == "bfloat16"


def load_both(folder: Path, dtype: torch.dtype) -> tuple[PreTrainedModel, PreTrainedTokenizerBase]:
    """The network and the tokenizer of a folder; raise ModelError where either is damaged, or they do not belong."""
    tokenizer = load_tokenizer(folder)
    model = load_model(folder, dtype)
    refuse_foreign_tokenizer(folder, len(tokenizer), model.get_input_embeddings().num_embeddings)
    return model, tokenizer


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; raise ModelError where it is damaged or could never end a completion."""
    if is_adapter(folder) and not (folder / "tokenizer.json").is_file():
        folder = base_folder(folder)
    try:
        tokenizer = _tokenizer_class(folder).from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        for name in ("tokenizer.json", "tokenizer_config.json"):
            read_object(folder / name)
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {_first_line(error)}; {AGAIN}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no end-of-sequence token, so completions could never end")
    return tokenizer


def _tokenizer_class(folder: Path) -> Any:
    """What reads the tokenizer of a folder.

    Where tokenizer_config.json names no class but the general one, tokenizer.json is all there is to it. AutoTokenizer
    would go by the kind of the network instead, and cut text as Qwen2's own models do for any network of Qwen2 type.
    """
    named = str(read_object(folder / "tokenizer_config.json").get("tokenizer_class"))
    return PreTrainedTokenizerFast if named in GENERAL_TOKENIZERS else AutoTokenizer


def num_parameters_of(folder: Path) -> int:
    """Parameters of a folder's network, counted without its weights."""
    if is_adapter(folder):
        return num_parameters_of(base_folder(folder))
    kind = read_object(folder / "config.json").get("model_type")
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).num_parameters()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        known = (
            f"a {kind!r}, which transformers {transformers.__version__} knows as none" if kind else "without model_type"
        )
        raise ModelError(
            f"{folder}: its config.json describes no causal language model: it is {known} ({_first_line(error)[:120]})"
        ) from error


def read_object(path: Path) -> dict[str, Any]:
    """A JSON object on disk, empty where there is no file; raise ModelError where it is damaged."""
    try:
        found = json.loads(path.read_bytes()) if path.is_file() else {}
    except json.JSONDecodeError as error:
        where = f"{error.msg} at line {error.lineno}, column {error.colno}"
        raise ModelError(f"{path}: not valid JSON: {where}; {AGAIN}") from None
    except (OSError, UnicodeDecodeError, RecursionError) as error:
        raise ModelError(f"{path}: cannot be read: {_first_line(error)}; {AGAIN}") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path}: not a JSON object; {AGAIN}")
    return found


def _key_name(key: Any) -> str:
    """A weight's name; of mismatched ones, with both shapes."""
    if isinstance(key, str):
        return key
    name, on_disk, expected = key
    return f"{name} is {list(on_disk)}, not {list(expected)}"


def refuse_foreign_tokenizer(folder: Path, num_entries: int, num_embeddings: int) -> None:
    """Raise ModelError for a tokenizer that was made for other weights."""
    if num_entries > num_embeddings:
        raise ModelError(
            f"{folder}: the tokenizer has {num_entries} entries, but the model only {num_embeddings} embeddings; "
            "take the tokenizer that belongs to these weights"
        )
    if num_entries < LEAST_FILLED * num_embeddings:
        raise ModelError(
            f"{folder}: the tokenizer has {num_entries} entries, but the model {num_embeddings} embeddings: it is "
            "another model's; take the one that belongs to these weights"
        )


def _model_in_run(folder: Path) -> Path | None:
    """The newest model of a run's folder; None where it is no run's."""
    if (folder / "config.json").is_file() or not (folder / "recipe.json").is_file():
        return None
    if (folder / "final").is_dir():
        return folder / "final"
    latest = folder / "checkpoints" / "latest"
    if latest.is_file():
        return folder / "checkpoints" / latest.read_text().strip()
    raise ModelError(f"{folder}: this run has no checkpoint yet")


def _looks_like_hub_id(path: str) -> bool:
    owner, slash, name = path.partition("/")
    return bool(slash and owner and name) and "/" not in name and not path.startswith((".", "~", "/"))


def _download(path: str, revision: str | None) -> Path:
    from huggingface_hub import errors, snapshot_download

    try:
        return Path(snapshot_download(path, revision=revision, allow_patterns=HUB_FILES))
    except errors.GatedRepoError as error:
        raise ModelError(
            f"model.path {path!r}: this model is gated: accept its terms on its page, then run: hf auth login"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise ModelError(f"model.path {path!r}: the hub has no revision {revision!r} of it") from error
    except errors.RepositoryNotFoundError as error:
        raise ModelError(
            f"model.path {path!r}: no such folder here, and no such model on the Hugging Face hub (or a private one: "
            "run: hf auth login)"
        ) from error
    # ValueError: not a valid id. OSError: every failure of the network, and no copy in the hub's cache.
    except (OSError, ValueError) as error:
        raise ModelError(
            f"model.path {path!r}: no such folder, and the Hugging Face hub cannot be reached: {_first_line(error)}; "
            "go online, or name a folder"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
