"""How `r1 eval` and `r1 sample` draw completions; what is not set is decided by the model, or by the benchmark."""

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from pydantic import Field, ValidationError

from r1kit.config.settings import Settings
from r1kit.errors import RecipeError


class DrawSettings(Settings):
    """How completions are drawn. The defaults of the numbers are the paper's (arXiv:2501.12948v2, supplement D.1)."""

    k: int | None = Field(default=None, ge=1)
    """Completions a problem; unset: the benchmark's own, else 1."""
    temperature: float = Field(default=0.6, ge=0)
    """0 is greedy."""
    top_p: float = Field(default=0.95, gt=0, le=1)
    """Draw from the smallest set of tokens with this much probability."""
    top_k: int = Field(default=0, ge=0)
    """Draw from the k likeliest tokens; 0: from all."""
    max_new_tokens: int | None = Field(default=None, ge=1)
    """A completion is cut after so many tokens; unset: what the model was trained with by r1kit, else the benchmark's
    own (paper: 32,768), as far as the model has positions."""
    stop: tuple[str, ...] | None = None
    """Strings that end a completion, and stay in it; unset: what the model was trained with by r1kit, else none."""
    seed: int = 0
    """Everything random is derived from it."""
    template: Literal["nano", "r1_zero", "chat"] | None = None
    """How a question becomes a prompt; unset: as the model was trained by r1kit, else `chat` where its tokenizer has a
    chat template, else `r1_zero`."""
    system: str | None = None
    """What a system message says; `chat` only. Unset: as the model was trained by r1kit, else none."""
    prefill: str | None = None
    """The first words of every answer, which then stand in the prompt (for DeepSeek-R1's own models, `<think>`)."""
    bos: bool | None = None
    """Whether prompts begin with the BOS token; unset: as the template, or the tokenizer, has it."""
    template_option: tuple[str, ...] | None = None
    """What the tokenizer's chat template is told besides, each `key=value`, such as `enable_thinking=true`."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of the matrix products."""
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Where the network lives."""
    revision: str | None = None
    """Branch, tag or commit of a hub id."""
    batch_size: int | None = Field(default=None, ge=1)
    """Completions that are drawn at once; unset: as many as memory holds, up to what is of use."""


class EvalSettings(DrawSettings):
    """What is measured, besides how completions are drawn."""

    limit: int | None = Field(default=None, ge=1)
    """So many problems of each task: the first, or with `shuffle`, drawn by the seed. For generated ones, how many."""
    shuffle: bool = False
    """Draw the problems of `limit` instead of taking the first."""
    instruction: str | None = None
    """Text after each question; unset: the benchmark's own in the chat template, none in others; empty: none."""
    reward_model: str | None = None
    """The folder of a reward model whose scores choose among a problem's completions, besides the majority."""
    verifier: str | None = None
    """The verifier of problems that name none; unset: the benchmark's own, or what the file's fields say."""


SettingsT = TypeVar("SettingsT", bound=Settings)


def settings_from_options(kind: type[SettingsT], given: Mapping[str, Any]) -> SettingsT:
    """The settings that command-line options make; raise RecipeError for the first that can't be used."""
    try:
        return kind.model_validate(dict(given))
    except ValidationError as error:
        details = error.errors()[0]
        option = "--" + str(details["loc"][0]).replace("_", "-")
        raise RecipeError(f"{option} {details['input']}: {details['msg']}") from None
