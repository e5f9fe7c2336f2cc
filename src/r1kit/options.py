"""Options that several commands share: a class of them, flattened into a command's own.

    @app.command()
    @takes(DrawOptions)
    def sample(model: str, options: DrawOptions) -> None: ...

Every option is unset unless it is given: the settings classes in `config/` hold the defaults, and check the values.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal, get_type_hints

import typer


@dataclass(frozen=True, kw_only=True)
class DrawOptions:
    """How completions are drawn."""

    k: Annotated[int | None, typer.Option("--k", min=1, help="Completions a problem. (the benchmark's, else 1)")] = None
    temperature: Annotated[float | None, typer.Option(min=0, help="0 is greedy. (0.6, the paper's)")] = None
    top_p: Annotated[float | None, typer.Option(min=0, max=1, help="Nucleus sampling. (0.95, the paper's)")] = None
    top_k: Annotated[int | None, typer.Option(min=0, help="The k likeliest tokens; 0: all. (0)")] = None
    max_new_tokens: Annotated[
        int | None, typer.Option(min=1, help="Where completions are cut. (as it was trained, else the benchmark's)")
    ] = None
    stop: Annotated[list[str] | None, typer.Option(help="A string that ends a completion; may be repeated.")] = None
    seed: Annotated[int | None, typer.Option(help="Everything random is derived from it. (0)")] = None
    template: Annotated[
        Literal["nano", "r1_zero", "chat"] | None,
        typer.Option(help="How a question becomes a prompt. (as it was trained, else chat, else r1_zero)"),
    ] = None
    system: Annotated[str | None, typer.Option(help="A system message, for chat models.")] = None
    prefill: Annotated[str | None, typer.Option(help="The first words of every answer, such as <think>.")] = None
    bos: Annotated[bool | None, typer.Option("--bos/--no-bos", help="Begin prompts with BOS. (as it is usual)")] = None
    template_option: Annotated[
        list[str] | None, typer.Option(help="KEY=VALUE for the chat template; may be repeated.")
    ] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"] | None, typer.Option(help="Precision of matrix products. (auto)")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option(help="Where the network lives. (auto)")
    ] = None
    revision: Annotated[str | None, typer.Option(help="Branch, tag or commit of a hub id.")] = None
    batch_size: Annotated[int | None, typer.Option(min=1, help="Completions drawn at once. (as memory allows)")] = None

    def given(self) -> dict[str, Any]:
        """What was set, by name."""
        return given(self)


@dataclass(frozen=True, kw_only=True)
class EvalOptions(DrawOptions):
    """How completions are drawn, and of which problems."""

    limit: Annotated[int | None, typer.Option(min=1, help="Only the first so many problems of each task.")] = None
    shuffle: Annotated[bool | None, typer.Option("--shuffle", help="Draw those of --limit by the seed.")] = None
    instruction: Annotated[
        str | None, typer.Option(help="Text after each question. (the benchmark's, for chat models)")
    ] = None
    reward_model: Annotated[
        str | None, typer.Option(help="Choose by the scores of this model: best of k, weighted votes.")
    ] = None
    verifier: Annotated[str | None, typer.Option(help="For problems that name none.")] = None


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    """The size of a benchmark's work."""

    model: Annotated[str | None, typer.Option(help="A folder, run, GGUF file, hub id, or nano. (nano)")] = None
    num_problems: Annotated[int | None, typer.Option(min=1, help="Distinct prompts. (8)")] = None
    group_size: Annotated[int | None, typer.Option(min=2, help="Completions a prompt. (8)")] = None
    max_new_tokens: Annotated[int | None, typer.Option(min=2, help="Tokens of a completion. (96)")] = None
    repeats: Annotated[int | None, typer.Option(min=1, help="Measured runs, of which the median counts. (3)")] = None
    num_threads: Annotated[int | None, typer.Option(min=0, help="Processor threads; 0: all cores. (0)")] = None
    dtype: Annotated[
        Literal["auto", "float32", "bfloat16"] | None, typer.Option(help="Precision of matrix products. (auto)")
    ] = None
    device: Annotated[
        Literal["auto", "cpu", "cuda", "mps"] | None, typer.Option(help="Where the network lives. (auto)")
    ] = None
    max_tokens_per_microbatch: Annotated[int | None, typer.Option(min=64, help="As in a recipe. (2048)")] = None

    def given(self) -> dict[str, Any]:
        """What was set, by name."""
        return given(self)


def given(options: Any) -> dict[str, Any]:
    """What was set of some options, by name."""
    found = {field.name: getattr(options, field.name) for field in fields(options)}
    return {name: value for name, value in found.items() if value is not None and value != []}


def takes(options_class: type[Any]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """A command whose parameter `options` becomes one command-line option for each field of the class."""
    hints = get_type_hints(options_class, include_extras=True)
    flat = [
        inspect.Parameter(
            field.name, inspect.Parameter.KEYWORD_ONLY, default=field.default, annotation=hints[field.name]
        )
        for field in fields(options_class)
    ]

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        signature = inspect.signature(command, eval_str=True)
        own = [parameter for name, parameter in signature.parameters.items() if name != "options"]

        def run(**words: Any) -> None:
            options = options_class(**{field.name: words.pop(field.name) for field in fields(options_class)})
            command(**words, options=options)

        run.__name__, run.__doc__ = command.__name__, command.__doc__
        run.__signature__ = signature.replace(  # type: ignore[attr-defined]
            parameters=[parameter.replace(kind=inspect.Parameter.KEYWORD_ONLY) for parameter in own] + flat
        )
        return run

    return decorate
