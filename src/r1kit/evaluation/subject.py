"""The model that is measured: loaded, with its template, and with what it was trained with where that is known."""

import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from r1kit.config.evaluation import DrawSettings
from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import RewardSettings, TemplateSettings
from r1kit.engine.native.engine import NativeEngine
from r1kit.engine.rollouts import Sampler, problem_prompt
from r1kit.errors import RecipeError
from r1kit.models import nano
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.loading import load_policy, resolve_folder
from r1kit.models.policy import Policy
from r1kit.types import Problem, SamplingSpec

LARGEST_BATCH = {"small": 256, "cpu": 64, "gpu": 256}
"""Completions at once beyond which nothing gets faster: for networks below 20 million parameters, and for others."""
SMALL_NETWORK = 20_000_000
MEMORY_SHARE = 0.5
"""Of the memory that is free, the keys and values of running completions may take so much."""
PROBED = 16
"""Numbers of each weight that go into a fingerprint."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """A loaded model, and how it is asked."""

    name: str
    """As the user named it."""
    folder: Path
    policy: Policy
    template: ChatTemplate
    template_settings: TemplateSettings
    trained_with: Mapping[str, Any]
    """The `sampling` section of the recipe that r1kit trained it with; empty for other models."""

    @property
    def positions(self) -> int | None:
        """Tokens of prompt and completion together that the network was made for; None where it does not say."""
        return getattr(self.policy.model.config, "max_position_embeddings", None)

    def prompt_token_ids(self, problem: Problem) -> tuple[int, ...]:
        """What the model reads of a problem."""
        return problem_prompt(self.template, problem)

    def stop(self, settings: DrawSettings) -> tuple[str, ...]:
        """Strings that end a completion."""
        return tuple(self.trained_with.get("stop", ()) if settings.stop is None else settings.stop)

    def described(self) -> dict[str, Any]:
        """What must be the same for a half-finished evaluation to go on."""
        return {
            "weights": fingerprint(self.policy),
            "dtype": _name(self.policy.compute_dtype),
            "template": self.template_settings.model_dump(),
            "stop_token_ids": list(self.template.stop_token_ids),
        }

    def __str__(self) -> str:
        """One line for the console."""
        return (
            f"{self.folder} ({self.policy.num_parameters() / 1e6:,.1f} million parameters, "
            f"{_name(self.policy.compute_dtype)} on {self.policy.device.type}), template {self.template.kind}"
        )


def load_subject(name: str, settings: DrawSettings) -> Subject:
    """The model of that name, in evaluation's precision, under the template that fits it."""
    folder = resolve_folder(name, settings.revision)
    policy = load_policy(
        ModelSettings(path=name, revision=settings.revision, dtype=settings.dtype, device=settings.device)
    )
    recipe = recipe_of(folder)
    template_settings = choose_template(name, recipe, policy, settings)
    template = ChatTemplate.of(policy, template_settings)
    template.lint("What is 1 + 1?")
    return Subject(
        name=name,
        folder=folder,
        policy=policy,
        template=template,
        template_settings=template_settings,
        trained_with=recipe.get("sampling", {}),
    )


def make_sampler(subject: Subject, settings: DrawSettings, *, max_new_tokens: int, slots: int) -> Sampler:
    """The embedded engine over the model, drawing as the settings say."""
    return Sampler(
        engine=NativeEngine(subject.policy, max_sequences=slots),
        template=subject.template,
        sampling=subject.template.with_stops(
            SamplingSpec(
                max_new_tokens=max_new_tokens,
                temperature=settings.temperature,
                top_p=settings.top_p,
                top_k=settings.top_k,
                stop=subject.stop(settings),
                stop_token_ids=tuple(subject.trained_with.get("stop_token_ids", ())),
            )
        ),
        rewards=RewardSettings(),
    )


def token_limit(subject: Subject, settings: DrawSettings, *, usual: int, longest_prompt: int) -> int:
    """`max_new_tokens`: what was asked for, else what the model was trained with, else the usual, if positions allow.

    Raises RecipeError where what was asked for, or the longest prompt, does not fit into the model's positions.
    """
    room = subject.positions - longest_prompt if subject.positions is not None else None
    if room is not None and room < 1:
        raise RecipeError(
            f"prompts have up to {longest_prompt} tokens, but the model has {subject.positions} positions"
        )
    if settings.max_new_tokens is not None:
        if room is not None and settings.max_new_tokens > room:
            raise RecipeError(
                f"--max-new-tokens is {settings.max_new_tokens} and prompts have up to {longest_prompt} tokens, but "
                f"the model has {subject.positions} positions; lower it to {room} or less"
            )
        return settings.max_new_tokens
    wanted = int(subject.trained_with.get("max_new_tokens", usual))
    return wanted if room is None else min(wanted, room)


def choose_slots(subject: Subject, settings: DrawSettings, *, tokens_per_slot: int) -> int:
    """Completions to draw at once: as asked for, else as many as free memory holds keys and values of."""
    if settings.batch_size is not None:
        return settings.batch_size
    is_small = subject.policy.num_parameters() < SMALL_NETWORK
    largest = LARGEST_BATCH["small" if is_small else "cpu" if subject.policy.device.type == "cpu" else "gpu"]
    held = tokens_per_slot * cache_bytes_per_token(subject.policy)
    return max(1, min(largest, int(MEMORY_SHARE * free_bytes(subject.policy.device)) // held))


def cache_bytes_per_token(policy: Policy) -> int:
    """Keys and values of one position in all layers."""
    config = policy.model.config
    heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return 2 * config.num_hidden_layers * heads * width * torch.finfo(policy.compute_dtype).bits // 8


def free_bytes(device: torch.device) -> int:
    """Memory that could be taken now: a GPU's own, or what the machine, or the container, has left."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    left = []
    meminfo = Path("/proc/meminfo")
    if meminfo.is_file():
        found = dict(line.split(":") for line in meminfo.read_text().splitlines() if ":" in line)
        left.append(int(found["MemAvailable"].split()[0]) * 1024)
    container = Path("/sys/fs/cgroup")
    if (container / "memory.max").is_file() and (container / "memory.current").is_file():
        limit = (container / "memory.max").read_text().strip()
        if limit.isdigit():
            left.append(int(limit) - int((container / "memory.current").read_text()))
    return max(2**28, min(left, default=4 * 2**30))


def recipe_of(folder: Path) -> dict[str, Any]:
    """The recipe of the run that a model folder lies in (`final/` or `checkpoints/step-N/`); empty for others."""
    for place in (folder.parent / "recipe.json", folder.parent.parent / "recipe.json"):
        if place.is_file():
            try:
                return dict(json.loads(place.read_text("utf-8"))["recipe"])
            except (ValueError, KeyError, TypeError):
                return {}
    return {}


def fingerprint(policy: Policy) -> str:
    """A digest that changes with the weights and the chat template: some numbers of every tensor."""
    digest = hashlib.sha256(str(getattr(policy.tokenizer, "chat_template", None)).encode())
    for name, weight in policy.model.named_parameters():
        flat = weight.detach().reshape(-1)
        places = torch.arange(PROBED, device=flat.device) * (flat.numel() - 1) // (PROBED - 1)
        digest.update(f"{name}{tuple(weight.shape)}{flat[places].float().tolist()}".encode())
    return digest.hexdigest()[:16]


def longest(prompts: Sequence[tuple[int, ...]]) -> int:
    """Tokens of the longest prompt."""
    return max(map(len, prompts))


def choose_template(name: str, recipe: Mapping[str, Any], policy: Policy, settings: DrawSettings) -> TemplateSettings:
    """The template that was asked for, else the one that the model was trained with, else what suits its tokenizer.

    Raises RecipeError for options that this template does not have.
    """
    if settings.template is not None:
        table: dict[str, Any] = {"kind": settings.template}
    elif "template" in recipe:
        table = dict(recipe["template"])
    elif name in nano.SHIPPED or recipe.get("kind") == "pretrain":
        table = {"kind": "nano"}
    else:
        table = {"kind": "chat" if policy.tokenizer.chat_template else "r1_zero"}
    given = {name: getattr(settings, name) for name in ("system", "prefill", "bos")}
    table |= {name: value for name, value in given.items() if value is not None}
    if settings.template_option:
        table["options"] = dict(map(_template_option, settings.template_option))
    try:
        return TemplateSettings.model_validate(table)
    except ValidationError as error:
        details = error.errors()[0]
        raise RecipeError(f"template {table['kind']!r}: {details['msg'].removeprefix('Value error, ')}") from None


def _template_option(text: str) -> tuple[str, Any]:
    """`enable_thinking=true` as a name and a value of TOML; what is none is text."""
    name, separator, value = text.partition("=")
    if not separator or not name.strip():
        raise RecipeError(f"--template-option {text!r} is not of the form KEY=VALUE")
    try:
        return name.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return name.strip(), value


def _name(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
