"""Ways to ask for one and the same problem: plainly, with another instruction, or after worked examples."""

from collections.abc import Sequence
from dataclasses import replace

from r1kit.config.rejection import FewShotRoute, RouteConfig, WorkedExample
from r1kit.engine.rollouts import PromptOf, Sampler, problem_prompt
from r1kit.models.chat_template import ChatTemplate
from r1kit.models.conversation import as_messages
from r1kit.types import Problem

BEFORE_EXAMPLES = "Here is what good answers look like."
AFTER_EXAMPLES = "Answer the next question in the same way."


def on_route(sampler: Sampler, route: RouteConfig) -> Sampler:
    """The sampler, asking in that way."""
    if isinstance(route, FewShotRoute):
        return replace(sampler, prompt_of=after_examples(route.examples))
    if route.instruction:
        return replace(sampler, template=replace(sampler.template, instruction=route.instruction))
    return sampler


def route_names(routes: Sequence[RouteConfig]) -> list[str]:
    """A name of its own for each: its kind, and its place among those of the same kind."""
    kinds = [route.kind for route in routes]
    return [
        kind if kinds.count(kind) == 1 else f"{kind}-{kinds[: place + 1].count(kind)}"
        for place, kind in enumerate(kinds)
    ]


def after_examples(examples: Sequence[WorkedExample]) -> PromptOf:
    """Prompts in which worked examples come first: those of the question's language, and those of none.

    To a plain template they are documents of their own, as in pretraining. In a chat they are part of the question:
    many templates would take the thinking out of earlier turns.
    """

    def prompt_of(template: ChatTemplate, problem: Problem) -> tuple[int, ...]:
        chosen = [example for example in examples if example.language in (None, problem.language)]
        if not chosen:
            return problem_prompt(template, problem)
        if template.kind == "chat":
            return template.prompt_token_ids(_shown(chosen, problem))
        documents = [template.example_token_ids(example.question, example.completion) for example in chosen]
        before = tuple(token_id for pair in documents for part in pair for token_id in part)
        return before + problem_prompt(template, problem)

    return prompt_of


def _shown(examples: Sequence[WorkedExample], problem: Problem) -> list[dict[str, str]]:
    """The problem's conversation, its last question after the examples."""
    messages = as_messages(list(problem.messages) or problem.prompt)
    shown = [f"Question: {example.question}\n\nAnswer: {example.completion}" for example in examples]
    text = "\n\n".join([BEFORE_EXAMPLES, *shown, AFTER_EXAMPLES, messages[-1]["content"]])
    return [*messages[:-1], messages[-1] | {"content": text}]
