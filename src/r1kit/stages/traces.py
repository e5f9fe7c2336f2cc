"""Traces: what fine-tuning reads. Rows of our own, and those of others in the forms that they come in."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from r1kit.errors import DataError
from r1kit.languages.detection import language_of
from r1kit.models.conversation import as_messages, written
from r1kit.tasks.choices import choice_prompt
from r1kit.tasks.jsonl import read_jsonl
from r1kit.types import Problem

DOMAINS = {
    **dict.fromkeys(("chains", "sums", "arithmetic", "pairs", "math"), "math"),
    **dict.fromkeys(("countdown", "expression", "ordering", "logic"), "logic"),
    **dict.fromkeys(("instruction", "json", "general"), "general"),
    "code": "code",
    "choice": "stem",
}
"""The row of the paper's table 5 that a verifier's problems count in, where the problem names none; others: math."""
QUESTIONS = ("question", "problem", "prompt", "instruction")
"""Names that the question has in traces of others: the first that a row has."""
LISTED = 3
"""Bad rows that an error names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """One example for fine-tuning, and where it is from."""

    prompt: str | list[dict[str, str]]
    completion: str
    id: str
    family: str
    language: str
    domain: str
    source: str

    @property
    def rounds(self) -> int:
        """Questions in its conversation."""
        return 1 if isinstance(self.prompt, str) else sum(turn["role"] == "user" for turn in self.prompt)

    def row(self) -> dict[str, Any]:
        """As it is written down."""
        return asdict(self)


def trace_of(problem: Problem, completion: str, *, id_: str, source: str) -> Trace:
    """A completion of a problem as a trace."""
    return Trace(
        prompt=[dict(message) for message in problem.messages] or problem.prompt,
        completion=completion,
        id=id_,
        family=str(problem.meta.get("family", problem.verifier)),
        language=problem.language,
        domain=str(problem.meta.get("domain", DOMAINS.get(problem.verifier, "math"))),
        source=source,
    )


def read_general(path: Path) -> list[Trace]:
    """The examples of a file as traces of the domain `general`, each once.

    Raises DataError where it can't be read, holds no example, or holds rows that are none.
    """
    table = read_jsonl(path)
    traces: list[Trace] = []
    bad = list(table.bad)
    for place, row in table.rows:
        try:
            prompt, completion = example_of_row(row)
        except DataError as error:
            bad.append(f"{place}: {error}")
            continue
        traces.append(_general_trace(row, prompt, completion, f"{path.stem}/{len(traces)}", str(path.name)))
    if bad:
        more = f" (and {len(bad) - LISTED} more)" if len(bad) > LISTED else ""
        raise DataError(f"{path}: {'; '.join(bad[:LISTED])}{more}")
    if not traces:
        raise DataError(f"{path}: holds no general example; name another file with general.path")
    return list({repr((trace.prompt, trace.completion)): trace for trace in traces}.values())


def mixed(reasoning: Sequence[Trace], general: Sequence[Trace], ratio: float, *, seed: str) -> list[Trace]:
    """All reasoning traces with one general one for every `ratio` of them, or with all that there are; shuffled."""
    wanted = min(len(general), max(1, round(len(reasoning) / ratio))) if general else 0
    rng = random.Random(seed)
    traces = [*reasoning, *rng.sample(general, wanted)]
    rng.shuffle(traces)
    return traces


def example_of_row(row: Mapping[str, Any]) -> tuple[str | list[dict[str, str]], str]:
    """Prompt and completion of a row; raises DataError where it has neither of the known forms.

    `messages` that end with the assistant; `prompt` and `completion`; a question with a `response` that holds its
    thinking in tags, or with `reasoning` beside it. Choices are shown with the question.
    """
    if "messages" in row:
        return _of_messages(row["messages"])
    if "completion" in row:
        prompt, completion = row.get("prompt"), row["completion"]
        if not isinstance(prompt, str | list) or not isinstance(completion, str):
            raise DataError("`prompt` must be a string or a list of messages, and `completion` a string")
        return prompt, completion
    return _of_response(row)


def _of_messages(messages: Any) -> tuple[list[dict[str, str]], str]:
    if not isinstance(messages, list):
        raise DataError("`messages` must be a list")
    turns = as_messages(messages)
    if turns[-1]["role"] != "assistant":
        raise DataError("`messages` must end with the assistant")
    return turns[:-1], written(turns[-1])


def _of_response(row: Mapping[str, Any]) -> tuple[str, str]:
    """R1's own form, as its API returns it: `question`, `reasoning`, `response`."""
    name = next((name for name in QUESTIONS if row.get(name)), None)
    if name is None or "response" not in row:
        has = ", ".join(map(str, row)) or "nothing"
        raise DataError(
            "not a row with `prompt` and `completion`, `messages`, or `question`, `reasoning` and `response`; "
            f"it has {has[:120]}"
        )
    question, response, reasoning = row[name], row["response"], row.get("reasoning")
    if not isinstance(question, str) or not isinstance(response, str) or not isinstance(reasoning, str | None):
        raise DataError(f"`{name}`, `response`, and `reasoning` if there is one, must be strings")
    if not response.strip():
        raise DataError("`response` is empty")
    choices = row.get("choices")
    if choices is not None:
        if not isinstance(choices, list):
            raise DataError("`choices` must be a list")
        question = choice_prompt(question, [str(choice) for choice in choices])
    turn = {"role": "assistant", "content": response}
    return question, written(turn if reasoning is None else turn | {"reasoning_content": reasoning})


def _general_trace(
    row: Mapping[str, Any], prompt: str | list[dict[str, str]], completion: str, id_: str, source: str
) -> Trace:
    asked = prompt if isinstance(prompt, str) else prompt[-1]["content"]
    return Trace(
        prompt=prompt,
        completion=completion,
        id=str(row.get("id", id_)),
        family=str(row.get("family", "general")),
        language=str(row.get("language") or language_of(asked)),
        domain="general",
        source=str(row.get("source", source)),
    )
