"""What can be measured: known benchmarks in a folder of files, files of one's own, and generated problems."""

import difflib
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter, ValidationError

from r1kit.config.evaluation import EvalSettings
from r1kit.config.tasks import JsonlTask, TaskConfig
from r1kit.errors import DataError, RecipeError
from r1kit.evaluation.problem_rows import read_problems
from r1kit.recipe import ZeroRecipe, load_recipe
from r1kit.rewards.verifiers import find_verifier
from r1kit.tasks import FAMILIES, sample_problems
from r1kit.types import Problem

PAPER_TOKENS = 32_768
"""arXiv:2501.12948v2, supplement D.1."""
GENERATED_PROBLEMS = 256
"""As many as the demo is measured on."""
GENERATED_TOKENS = 256
FILE_TOKENS = 4096

# The first two as in the paper (supplement D.1, tables 18 and 27), the others in the same spirit.
IN_A_BOX = {
    "en": "Please reason step by step, and put your final answer within \\boxed{}.",
    "zh": "请逐步推理，并把最终答案放在 \\boxed{} 中。",
}
BY_LETTER = {"en": "Think step by step. End with a line of the form ANSWER: LETTER."}
WITH_TESTS = "{question}\nYour program must pass these tests:\n{test_list}"
AS_PROGRAM = {"en": "Put the whole program into one block that begins with ```python."}
AS_FUNCTION = {"en": "Complete this program, and put all of it into one block that begins with ```python."}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark:
    """A well-known set of problems: what its file is called, and how the paper, or its authors, measure it."""

    files: tuple[str, ...]
    """Names that its file may have, the first that is there."""
    verifier: str
    k: int
    """The paper's, or for sets that it does not use, one in proportion to their size ("4 to 64")."""
    max_new_tokens: int = PAPER_TOKENS
    instruction: Mapping[str, str] = field(default_factory=lambda: IN_A_BOX)
    """What a chat model is told after the question, by language; English where there is none."""
    pattern: str | None = None
    """What is made of the fields of a row; unset: the question alone, with its choices where it has any."""
    language: str = "en"
    options: Mapping[str, Any] = field(default_factory=dict)
    """Options of the verifier."""
    only: Mapping[str, str] = field(default_factory=dict)
    """Fields that a row must have, with this value, to belong to the test set."""


# Chat models end a word problem in a sentence with its number; on these sets everybody counts that.
SAID_LAST = {"last_expression": True}
BENCHMARKS: dict[str, Benchmark] = {
    "aime24": Benchmark(files=("aime24.jsonl",), verifier="math", k=64),
    "aime25": Benchmark(files=("aime25.jsonl",), verifier="math", k=64),
    "amc23": Benchmark(files=("amc23.jsonl",), verifier="math", k=64),
    "math500": Benchmark(files=("math500.jsonl",), verifier="math", k=16),
    "gsm8k": Benchmark(
        files=("gsm8k_test.jsonl", "gsm8k.jsonl"), verifier="math", k=4, max_new_tokens=4096, options=SAID_LAST
    ),
    "mgsm": Benchmark(files=("mgsm.jsonl",), verifier="math", k=4, max_new_tokens=4096, options=SAID_LAST),
    "cmath": Benchmark(
        files=("cmath.jsonl",), verifier="math", k=4, max_new_tokens=4096, options=SAID_LAST, language="zh"
    ),
    "gpqa": Benchmark(files=("gpqa_diamond.jsonl", "gpqa.jsonl"), verifier="choice", k=64, instruction=BY_LETTER),
    "mmlu_stem": Benchmark(files=("mmlu_stem.jsonl",), verifier="choice", k=4, instruction=BY_LETTER),
    "mmlu_pro_science": Benchmark(files=("mmlu_pro_science.jsonl",), verifier="choice", k=4, instruction=BY_LETTER),
    "humaneval": Benchmark(files=("humaneval.jsonl",), verifier="code", k=16, instruction=AS_FUNCTION),
    "mbpp": Benchmark(
        files=("mbpp.jsonl",), verifier="code", k=4, instruction=AS_PROGRAM, pattern=WITH_TESTS, only={"split": "test"}
    ),
    "code_stdin": Benchmark(files=("code_stdin.jsonl",), verifier="code", k=16, instruction=AS_PROGRAM),
    "code_functional": Benchmark(files=("code_functional.jsonl",), verifier="code", k=8, instruction=AS_PROGRAM),
    "ifeval": Benchmark(files=("ifeval.jsonl",), verifier="instruction", k=4, instruction={}),
}
GENERATED_SETS = ("nano", "nano_harder")


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """Problems to be measured on, and how they are usually measured."""

    name: str
    problems: tuple[Problem, ...]
    k: int = 1
    max_new_tokens: int
    instruction: Mapping[str, str] = field(default_factory=dict)
    origin: str
    """Which problems these are, in words."""


def find_tasks(names: Sequence[str], settings: EvalSettings, *, data: Path | None, chat: bool) -> list[Task]:
    """The tasks of these names, each question as it will be asked; `chat` says that the template is a chat model's.

    Raises RecipeError for an unknown name, DataError for files that are not there or can't be read.
    """
    tasks: list[Task] = []
    for name in names:
        task = _find(name, settings, data)
        taken = sum(task.name == other.name for other in tasks)
        task = replace(task, name=f"{task.name}-{taken + 1}") if taken else task
        for verifier in sorted({problem.verifier for problem in task.problems}):
            find_verifier(verifier)
        instruction = task.instruction if chat else {}
        if settings.instruction is not None:
            instruction = {"en": settings.instruction} if settings.instruction else {}
        problems = tuple(instructed(problem, instruction) for problem in with_own_ids(task.problems))
        tasks.append(replace(task, problems=problems, instruction=instruction))
    return tasks


def instructed(problem: Problem, instruction: Mapping[str, str]) -> Problem:
    """The problem with the instruction of its language after its last question."""
    text = instruction.get(problem.language, instruction.get("en", ""))
    if not text:
        return problem
    *before, last = problem.messages or ({"role": "user", "content": problem.prompt},)
    asked = f"{last['content']}\n{text}"
    messages = (*before, {**last, "content": asked}) if problem.messages else ()
    return replace(problem, prompt=asked, messages=messages)


def with_own_ids(problems: Iterable[Problem]) -> Iterator[Problem]:
    """The problems, those that share an id told apart: all randomness of a completion hangs on the id."""
    seen: dict[str, int] = {}
    for problem in problems:
        seen[problem.id] = seen.get(problem.id, 0) + 1
        yield problem if seen[problem.id] == 1 else replace(problem, id=f"{problem.id}#{seen[problem.id]}")


def _find(name: str, settings: EvalSettings, data: Path | None) -> Task:
    family, _, options = name.partition(":")
    if family in FAMILIES or (name in GENERATED_SETS):
        return _generated(family, options, settings)
    if name in BENCHMARKS:
        return _benchmark(name, BENCHMARKS[name], settings, data)
    path = Path(name).expanduser()
    if path.is_file() or path.suffix or len(path.parts) > 1:
        return _file(path, settings)
    known = [*BENCHMARKS, *FAMILIES, *GENERATED_SETS]
    close = difflib.get_close_matches(family, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    raise RecipeError(f"--task {name!r}: no such file, and no task of that name; {hint}")


def _generated(family: str, options: str, settings: EvalSettings) -> Task:
    """Held-out problems of a family or of the demo's mix: those that `r1 demo` with the same seed is measured on."""
    num = settings.limit or GENERATED_PROBLEMS
    problems = sample_problems(_task_configs(family, options), num, seed=f"{settings.seed}/held-out", split="held_out")
    name = f"{family}:{options}" if options else family
    origin = f"{num} held-out problems, generated with seed {settings.seed}"
    return Task(
        name=name,
        problems=tuple(problems),
        max_new_tokens=GENERATED_TOKENS,
        instruction=_usual_instruction(problems),
        origin=origin,
    )


def _task_configs(family: str, options: str) -> tuple[TaskConfig, ...]:
    if family in GENERATED_SETS:
        recipe = load_recipe(Path(str(resources.files("r1kit"))) / "recipes" / "nano" / "zero.toml")
        assert isinstance(recipe, ZeroRecipe)
        return recipe.tasks if family == "nano" else recipe.evaluation.harder
    words = [option.partition("=") for option in options.split(",") if option]
    table: dict[str, object] = {key: int(value) if value.isdecimal() else value for key, _, value in words}
    if "languages" in table:
        table["languages"] = str(table["languages"]).split("+")
    adapter: TypeAdapter[TaskConfig] = TypeAdapter(TaskConfig)
    try:
        return (adapter.validate_python({"kind": family, **table}),)
    except ValidationError as error:
        details = error.errors()[0]
        raise RecipeError(
            f"--task {family}:{options}: {'.'.join(map(str, details['loc'][1:]))}: {details['msg']}; "
            f"write it like chains:terms=8,languages=en"
        ) from None


def _benchmark(name: str, benchmark: Benchmark, settings: EvalSettings, data: Path | None) -> Task:
    if data is None:
        raise RecipeError(f"--task {name}: say with --data FOLDER where {benchmark.files[0]} lies")
    path = next((data / file for file in benchmark.files if (data / file).is_file()), None)
    if path is None:
        raise DataError(f"--task {name}: {data} holds no {' and no '.join(benchmark.files)}")
    task = JsonlTask(
        path=path,
        verifier=settings.verifier or benchmark.verifier,
        verifier_options=dict(benchmark.options),
        language=benchmark.language,
        instruction=benchmark.pattern,
    )
    problems = read_problems(task, only=benchmark.only)
    chosen, origin = _limited(problems, settings)
    return Task(
        name=name,
        problems=chosen,
        k=benchmark.k,
        max_new_tokens=benchmark.max_new_tokens,
        instruction=benchmark.instruction,
        origin=f"{path}: {origin}",
    )


def _file(path: Path, settings: EvalSettings) -> Task:
    chosen, origin = _limited(read_problems(JsonlTask(path=path, verifier=settings.verifier)), settings)
    return Task(
        name=path.stem,
        problems=chosen,
        max_new_tokens=FILE_TOKENS,
        instruction=_usual_instruction(chosen),
        origin=f"{path}: {origin}",
    )


def _usual_instruction(problems: Sequence[Problem]) -> Mapping[str, str]:
    """What a chat model must be told where no benchmark says it: to mark its answer."""
    return IN_A_BOX if all(problem.verifier == "math" for problem in problems) else {}


def _limited(problems: Sequence[Problem], settings: EvalSettings) -> tuple[tuple[Problem, ...], str]:
    """The problems that are measured, in the order of their file, and which those are."""
    total, limit = len(problems), settings.limit
    if limit is None or limit >= total:
        return tuple(problems), f"all {total:,} problems"
    if not settings.shuffle:
        return tuple(problems[:limit]), f"the first {limit:,} of {total:,} problems"
    places = sorted(random.Random(f"{settings.seed}/limit").sample(range(total), limit))
    return tuple(problems[place] for place in places), f"{limit:,} of {total:,} problems, drawn by seed {settings.seed}"
