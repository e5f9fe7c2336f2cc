"""Rejection sampling: which completions are drawn, what is kept of them, and in what form they are written down."""

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, model_validator

from r1kit.config.endpoint import EndpointSettings
from r1kit.config.model import ModelSettings
from r1kit.config.rollouts import SamplingSettings, TemplateSettings
from r1kit.config.settings import Settings
from r1kit.config.tasks import TaskConfig


class PlainRoute(Settings):
    """The question under the recipe's template, as in training."""

    kind: Literal["plain"] = "plain"
    samples: int = Field(default=4, ge=1)
    """Completions a problem."""
    instruction: str = ""
    """Stands after each question instead of the template's, such as a wish for a detailed answer that is verified."""


class WorkedExample(Settings):
    """A question with a completion that reads well: thinking, then a summary."""

    question: str = Field(min_length=1)
    completion: str = Field(min_length=1)
    language: str | None = Field(default=None, pattern="^[a-z]{2,3}$")
    """Shown before questions of this language alone. Unset: before all."""


class FewShotRoute(Settings):
    """The question after worked examples, which the model imitates (arXiv:2501.12948v1, section 2.3.1)."""

    kind: Literal["few_shot"]
    samples: int = Field(default=4, ge=1)
    """Completions a problem."""
    examples: tuple[WorkedExample, ...] = Field(min_length=1)


RouteConfig = Annotated[PlainRoute | FewShotRoute, Field(discriminator="kind")]


class FilterSettings(Settings):
    """What a completion must be to be kept. The paper names the filters, not their thresholds (V2 B.3.2, B.3.3)."""

    form: Literal["think", "any"] = "think"
    """`think`: a think block, then something after it; `any`: a text without tags counts as thinking, too."""
    min_thinking_chars: int = Field(default=0, ge=0)
    """Shorter thinking is dropped: a lucky guess teaches nothing."""
    min_language_share: float = Field(default=0.95, ge=0, le=1)
    """Words of the question's language over all words of the thinking."""
    language_by: Literal["auto", "script", "identifier"] = "auto"
    """As for the language reward: by script, English and French are one language; `auto` tells them apart where the
    extra `[language]` is installed."""
    mixed_languages: Literal["drop", "translate"] = "drop"
    """Completions below that share are dropped, or handed to the rewriting with the wish for one language."""
    max_repeated_share: float = Field(default=0.2, ge=0, le=1)
    """Tokens in runs that stood before, over all tokens."""
    repetition_ngram: int = Field(default=20, ge=2)
    """Tokens of such a run."""
    max_paragraph_chars: int = Field(default=2000, ge=0)
    """A longer paragraph in the thinking is dropped; 0: none is."""
    code_blocks: Literal["drop", "keep"] = "drop"
    """What to do about thinking with fenced code in it."""
    max_per_problem: int = Field(default=2, ge=1)
    """M: completions of one problem that are kept."""
    balance: float = Field(default=2.0, ge=0)
    """No difficulty of a family holds more than so many times the mean of all; 0: whatever comes. Problems without a
    difficulty go by how often they were solved."""

    @model_validator(mode="after")
    def _balance_is_possible(self) -> "FilterSettings":
        if 0 < self.balance < 1:
            raise ValueError(f"balance is {self.balance}: below 1 even equal shares would be cut; use 1 or more, or 0")
        return self


class NoRewriting(Settings):
    """Completions are written down as they were drawn."""

    kind: Literal["none"] = "none"


class TemplateRewriting(Settings):
    """The thinking tidied, then a sentence for the user with the answer in it: what needs no model."""

    kind: Literal["template"]
    opening: dict[str, str] = Field(default_factory=dict)
    """First words of the thinking by language, written where they are not there yet."""
    summary: dict[str, str] = Field(
        default_factory=lambda: {"en": "The answer is {answer}.", "zh": "答案是{answer}。"}, min_length=1
    )
    """The sentence by language (ISO 639-1), with `{answer}` in it; problems of other languages are dropped."""
    answer: Literal["tags", "boxed", "plain"] = "tags"
    """How the answer stands in it: `<answer>23</answer>`, `\\boxed{23}`, or bare."""

    @model_validator(mode="after")
    def _sentences_hold_the_answer(self) -> "TemplateRewriting":
        for language, sentence in self.summary.items():
            if sentence.count("{answer}") != 1:
                raise ValueError(f"summary.{language} must hold {{answer}} once, where the answer goes")
        return self


class ModelRewriting(Settings):
    """A model writes the summary, and puts mixed thinking into one language (V2 B.3.2)."""

    kind: Literal["model"]
    model: ModelSettings = ModelSettings()
    template: TemplateSettings = TemplateSettings(kind="chat")
    sampling: SamplingSettings = SamplingSettings(max_new_tokens=1024, temperature=0.0)
    answer: Literal["tags", "boxed", "plain"] = "boxed"
    """How the summary is asked to mark the answer."""


class EndpointRewriting(Settings):
    """The same by a model behind an address."""

    kind: Literal["endpoint"]
    endpoint: EndpointSettings
    answer: Literal["tags", "boxed", "plain"] = "boxed"
    """How the summary is asked to mark the answer."""


RewritingConfig = Annotated[
    NoRewriting | TemplateRewriting | ModelRewriting | EndpointRewriting, Field(discriminator="kind")
]


class RuleJudge(Settings):
    """Right where the reference stands in the final text, word for word: for worlds whose answers are short."""

    kind: Literal["rule"]
    instead_of: tuple[str, ...] = ()
    """Verifiers whose `wrong` is judged again; `unknown` always is."""
    max_words: int = Field(default=60, ge=1)
    """A longer text is wrong: it may hold the answer among many others."""


class EndpointJudge(Settings):
    """A model is shown question, reference and answer (V2 B.3.3)."""

    kind: Literal["endpoint"]
    endpoint: EndpointSettings
    instead_of: tuple[str, ...] = ()
    """Verifiers whose `wrong` is judged again, such as `exact` for answers in free words; `unknown` always is."""


JudgeConfig = Annotated[RuleJudge | EndpointJudge, Field(discriminator="kind")]


class GeneralSettings(Settings):
    """What is mixed in besides reasoning: writing, facts, courtesy (V2 B.3.3, table 5)."""

    path: Path
    """JSON Lines with `prompt` and `completion`, or a form of traces of your own."""
    ratio: float = Field(default=3.0, gt=0)
    """Reasoning completions to each general one; the paper: 600,000 to 200,000."""


class DrawRunSettings(Settings):
    """Resources."""

    max_sequences: int = Field(default=256, ge=1)
    """Completions that the embedded engine draws at once."""
    num_threads: int = Field(default=0, ge=0)
    """Processor threads; 0: as many as there are cores. Results are the same to the bit only for the same number."""


def _with_kind(section: Any) -> Any:
    return {"kind": "none"} | section if isinstance(section, dict) else section


class RejectionRecipe(Settings):
    """Traces for fine-tuning: completions of a model, kept where they are right and read well, rewritten, mixed."""

    kind: Literal["rejection"]
    seed: int = 0
    """Everything random is derived from it."""
    num_problems: int = Field(default=1024, ge=1)
    """Problems that are drawn from the tasks, each once."""
    model: ModelSettings = ModelSettings()
    """What is drawn from: R1-Zero for a cold start, the reasoning model for the paper's third stage."""
    template: TemplateSettings = TemplateSettings()
    tasks: tuple[TaskConfig, ...] = Field(min_length=1)
    sampling: SamplingSettings = SamplingSettings()
    """The paper draws the cold start at temperature 1 (V2 B.3.2)."""
    routes: tuple[RouteConfig, ...] = Field(default=(PlainRoute(),), min_length=1)
    """Ways to ask, all of which are gone for every problem."""
    judge: JudgeConfig | None = None
    """Who grades what rules can't."""
    filters: FilterSettings = FilterSettings()
    rewriting: Annotated[RewritingConfig, BeforeValidator(_with_kind)] = NoRewriting()
    general: GeneralSettings | None = None
    run: DrawRunSettings = DrawRunSettings()

    @model_validator(mode="after")
    def _fits_together(self) -> "RejectionRecipe":
        if self.sampling.temperature == 0 and any(route.samples > 1 for route in self.routes):
            raise ValueError("sampling.temperature is 0: all samples of a problem would be the same; set samples = 1")
        if self.filters.mixed_languages == "translate" and self.rewriting.kind == "none":
            raise ValueError("filters.mixed_languages is 'translate', but rewriting.kind is 'none': nobody translates")
        if self.filters.form == "any" and self.rewriting.kind == "none":
            raise ValueError("filters.form is 'any', but rewriting.kind is 'none': nobody puts the thinking in tags")
        return self
