"""Models and tokenizers from disk or the hub, checked before anything is built on them."""

from pathlib import Path

import torch
from safetensors import SafetensorError
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils.logging import disable_progress_bar

from r1kit.config.model import ModelSettings
from r1kit.errors import ModelError
from r1kit.models import nano
from r1kit.models.gguf import converted_folder
from r1kit.models.placement import place
from r1kit.models.policy import Policy

# Its bars for the loading and writing of each file would break into our own progress display.
disable_progress_bar()

# What a model folder is made of; other formats of the same weights stay on the hub.
HUB_FILES = ["*.json", "*.safetensors", "*.jinja", "*.model", "*.txt"]


def resolve_folder(path: str, revision: str | None = None) -> Path:
    """The folder that a recipe's `model.path` means; raise ModelError where it holds no model.

    `nano`, a model folder, a run's folder (its `final/`, else its last checkpoint), a GGUF file (converted into the
    user's cache), or a hub id (downloaded into the hub's cache).
    """
    folder = nano.shipped_folder() if path == "nano" else Path(path).expanduser()
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
            f"model.path {path!r}: no such folder or file (`nano` names the model that ships with r1kit, "
            "owner/name one of the Hugging Face hub)"
        )
    missing = [name for name in ("config.json", "tokenizer.json") if not (folder / name).is_file()]
    if missing or not list(folder.glob("*.safetensors")):
        lacks = ", ".join(missing or ["*.safetensors"])
        raise ModelError(f"{folder}: not a model folder: it has no {lacks}")
    return folder


def load_model(folder: Path, dtype: torch.dtype) -> PreTrainedModel:
    """The network of a folder, every weight from its files; raise ModelError where one is missing or does not fit."""
    try:
        model, found = AutoModelForCausalLM.from_pretrained(
            folder, dtype=dtype, local_files_only=True, output_loading_info=True
        )
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {_first_line(error)}") from error
    # transformers fills what is missing with random numbers and only says so.
    for key in ("missing_keys", "mismatched_keys", "unexpected_keys"):
        if found[key]:
            raise ModelError(
                f"{folder}: its weights do not fit its config.json: {key} {sorted(map(str, found[key]))[0]}"
            )
    return model


def load_policy(settings: ModelSettings, *, trains: bool = False) -> Policy:
    """The model and tokenizer that the settings name, where and in the precision that they say.

    A policy that `trains` keeps float32 weights, of which each forward pass makes copies in the precision of the
    matrix products: in bfloat16 a step of a millionth of a weight would be lost.
    """
    folder = resolve_folder(settings.path, settings.revision)
    tokenizer = load_tokenizer(folder)
    placement = place(settings, _num_parameters(folder))
    model = load_model(folder, torch.float32 if trains else placement.dtype)
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        raise ModelError(
            f"{folder}: the tokenizer has {len(tokenizer)} entries, "
            f"but the model only {model.get_input_embeddings().num_embeddings} embeddings"
        )
    return Policy(model.to(placement.device), tokenizer, compute_dtype=placement.dtype)


def load_tokenizer(folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer of a model folder; raise ModelError where it is damaged or could never end a completion."""
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ModelError(f"{folder}: its tokenizer cannot be loaded: {_first_line(error)}") from error
    if tokenizer.eos_token_id is None:
        raise ModelError(f"{folder}: its tokenizer has no end-of-sequence token, so completions could never end")
    return tokenizer


def _num_parameters(folder: Path) -> int:
    """Parameters of a folder's network, counted without its weights."""
    try:
        with torch.device("meta"):
            return AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).num_parameters()
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ModelError(
            f"{folder}: its config.json describes no causal language model: {_first_line(error)}"
        ) from error


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
            f"model.path {path!r}: no such folder, and the Hugging Face hub cannot be reached: {_first_line(error)}"
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
