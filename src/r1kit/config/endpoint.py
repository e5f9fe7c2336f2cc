"""A chat model behind an OpenAI-compatible address: vLLM, SGLang, llama.cpp, DeepSeek's API and the like."""

from pydantic import Field

from r1kit.config.settings import Settings


class EndpointSettings(Settings):
    """Where it is, how it is asked, and how long it may take."""

    url: str = Field(pattern="^https?://[^ /]+[^ ]*$")
    """Up to the version, such as `http://localhost:8000/v1`."""
    model: str = Field(min_length=1)
    """The name that the server knows it by."""
    key_variable: str | None = None
    """The environment variable that holds the key; the key itself is never written down."""
    temperature: float = Field(default=0.0, ge=0)
    max_tokens: int = Field(default=4096, ge=1)
    """The longest answer, thinking included."""
    request: dict[str, bool | int | float | str] = Field(default_factory=dict)
    """Further fields of every request, such as `seed = 1`."""
    timeout_seconds: float = Field(default=120.0, gt=0)
    """For one answer, from connecting to its last byte."""
    max_answer_bytes: int = Field(default=4_000_000, ge=1000)
    """A longer answer is refused."""
    max_retries: int = Field(default=5, ge=0)
    """Further attempts at one answer, after which the run stops."""
    backoff_seconds: float = Field(default=1.0, ge=0)
    """The wait before the first of them; each further one is twice as long, give or take a half."""
    max_concurrent: int = Field(default=8, ge=1, le=256)
    """Answers that are waited for at once."""
