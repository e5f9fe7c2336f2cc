"""A client for chat models behind OpenAI-compatible addresses: bounded in time, size and number, and patient.

What comes back is untrusted: an answer is text or an error, never anything else.
"""

import http.client
import json
import os
import random
import ssl
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from r1kit.config.endpoint import EndpointSettings
from r1kit.errors import RecipeError, RunError

LONGEST_WAIT_S = 120.0
"""Between two attempts, whatever a server asks for with Retry-After."""
SHOWN = 160
"""Signs of a server's words in an error."""
CHUNK = 65_536
PASSING = frozenset({408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses after which another attempt may be answered."""


@dataclass(frozen=True, slots=True)
class Question:
    """Something to ask, and the name that its answer is known by."""

    key: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt brought no answer."""

    reason: str
    is_passing: bool
    """True where another attempt may succeed."""
    wait_s: float = 0.0
    """How long the server asked to wait at least."""


class ChatClient:
    """Asks a chat model, several questions at once, again where an attempt fails, up to a point."""

    def __init__(self, settings: EndpointSettings, *, seed: str = "") -> None:
        """Nothing is sent yet; raises RecipeError where the key is not in the environment. `seed` drives the jitter."""
        self._settings, self._seed = settings, seed
        self._address = urlsplit(settings.url.rstrip("/") + "/chat/completions")
        self._headers = {"Content-Type": "application/json", "Accept": "application/json"} | _authorization(settings)
        self._stopping = threading.Event()
        try:
            self._port = self._address.port
        except ValueError as error:
            raise RecipeError(f"endpoint url {settings.url!r}: {error}") from None

    def answers(self, questions: Sequence[Question]) -> Iterator[tuple[str, str]]:
        """Each question's key with its answer, as they come.

        Where one fails for good, those that are under way are waited for and given out, then RunError is raised.
        """
        self._stopping.clear()
        remaining, failed = iter(questions), list[RunError]()
        pool = ThreadPoolExecutor(max_workers=self._settings.max_concurrent)
        running: dict[Future[str], str] = {}
        try:
            while True:
                while not failed and len(running) < self._settings.max_concurrent:
                    question = next(remaining, None)
                    if question is None:
                        break
                    running[pool.submit(self.answer, question.prompt, place=question.key)] = question.key
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    key, error = running.pop(future), future.exception()
                    if error is None:
                        yield key, future.result()
                    elif isinstance(error, RunError):
                        failed.append(error)
                        self._stopping.set()
                    else:
                        raise error
        finally:
            self._stopping.set()
            pool.shutdown(wait=False, cancel_futures=True)
        if failed:
            raise failed[0]

    def answer(self, prompt: str, *, place: str) -> str:
        """The answer to one question, thinking and all; "" where it was cut at `max_tokens`.

        Raises RunError where no attempt brought one; `place` names the question to the jitter.
        """
        settings = self._settings
        body = json.dumps(
            {
                "model": settings.model,
                "messages": [{"role": "user", "content": prompt}],
                "temperature": settings.temperature,
                "max_tokens": settings.max_tokens,
                **settings.request,
            }
        ).encode()
        attempt = 0
        while isinstance(found := self._attempt(body), Failure):
            is_last = attempt == settings.max_retries or not found.is_passing
            if is_last or self._stopping.wait(self._pause(attempt, place, found)):
                times = f"{attempt + 1} attempt{'s' if attempt else ''}"
                raise RunError(
                    f"{settings.url} ({settings.model}): {found.reason}, after {times}; the answers so far are kept: "
                    "see to the endpoint, then go on with --resume"
                )
            attempt += 1
        return found

    def _pause(self, attempt: int, place: str, failure: Failure) -> float:
        """Seconds before the next attempt: doubling, with jitter, so that those who failed together come back apart."""
        jitter = random.Random(f"{self._seed}/{place}/{attempt}").uniform(0.5, 1.5)
        # Not 2**attempt as it is: many retries would overflow a float.
        doubled = self._settings.backoff_seconds * 2 ** min(attempt, 30)
        return min(LONGEST_WAIT_S, max(failure.wait_s, doubled * jitter))

    def _attempt(self, body: bytes) -> str | Failure:
        settings = self._settings
        host, timeout = self._address.hostname or "", settings.timeout_seconds
        is_secure = self._address.scheme == "https"
        connection = (
            http.client.HTTPSConnection(host, self._port, timeout=timeout)
            if is_secure
            else http.client.HTTPConnection(host, self._port, timeout=timeout)
        )
        # A socket's own timeout is for each read: whoever sends a byte now and then would never meet it.
        fence = _Fence(connection, timeout)
        try:
            with fence:
                connection.request("POST", self._address.path, body, self._headers)
                response = connection.getresponse()
                content = _read_at_most(response, settings.max_answer_bytes)
        except (OSError, http.client.HTTPException, ssl.SSLError, ValueError) as error:
            return Failure(_why(error, fence, timeout), is_passing=True)
        finally:
            connection.close()
        if fence.is_late:
            return Failure(f"no answer within {timeout:g} s", is_passing=True)
        if len(content) > settings.max_answer_bytes:
            return Failure(f"an answer above {settings.max_answer_bytes:,} bytes", is_passing=True)
        if response.status != 200:
            reason = f"HTTP {response.status}{_said(content)}"
            wait_s = _seconds(response.headers.get("Retry-After"))
            return Failure(reason, is_passing=response.status in PASSING, wait_s=wait_s)
        return read_answer(content)


class _Fence:
    """Cuts a connection at its deadline, whatever it is doing."""

    def __init__(self, connection: http.client.HTTPConnection, seconds: float) -> None:
        self.is_late = False
        self._connection = connection
        self._timer = threading.Timer(seconds, self._cut)
        self._timer.daemon = True

    def __enter__(self) -> None:
        self._timer.start()

    def __exit__(self, *raised: object) -> None:
        self._timer.cancel()

    def _cut(self) -> None:
        self.is_late = True
        sock = self._connection.sock
        if sock is not None:
            try:
                sock.shutdown(2)
            except OSError:  # it is closed already
                return


def read_answer(content: bytes) -> str | Failure:
    """The text of a chat completion; "" where it was cut, a failure where it is none."""
    try:
        found = json.loads(content)
        choice = found["choices"][0]
        text, reason = choice["message"]["content"], choice.get("finish_reason")
    except (ValueError, RecursionError):
        return Failure(f"an answer that is no JSON{_said(content)}", is_passing=True)
    except (KeyError, IndexError, TypeError, AttributeError):
        return Failure(f"an answer without choices[0].message.content{_said(content)}", is_passing=True)
    if not isinstance(text, str):
        return Failure(f"an answer whose content is no text{_said(content)}", is_passing=True)
    # Half of a surrogate pair can't be written to any file.
    return "" if reason == "length" else text.encode("utf-8", "replace").decode()


def _read_at_most(response: http.client.HTTPResponse, limit: int) -> bytes:
    """The body, or one byte more of it than the limit."""
    parts, size = [], 0
    while size <= limit:
        part = response.read(min(CHUNK, limit + 1 - size))
        if not part:
            break
        parts.append(part)
        size += len(part)
    return b"".join(parts)


def _authorization(settings: EndpointSettings) -> dict[str, str]:
    if settings.key_variable is None:
        return {}
    key = os.environ.get(settings.key_variable, "").strip()
    if not key or not key.isprintable() or not key.isascii():
        raise RecipeError(f"the environment variable {settings.key_variable} (key_variable) holds no key")
    return {"Authorization": f"Bearer {key}"}


def _why(error: Exception, fence: _Fence, timeout: float) -> str:
    if fence.is_late or isinstance(error, TimeoutError):
        return f"no answer within {timeout:g} s"
    if isinstance(error, ConnectionRefusedError):
        return "nobody listens there (connection refused)"
    if isinstance(error, http.client.RemoteDisconnected | http.client.IncompleteRead):
        return "it hung up in the middle"
    return _line(str(error)) or type(error).__name__


def _said(content: bytes) -> str:
    """The server's own words, one short line of them."""
    text = content[: 8 * SHOWN].decode("utf-8", "replace")
    message: Any = text
    try:
        found = json.loads(content)
        error = found.get("error", found) if isinstance(found, dict) else None
        message = error.get("message", text) if isinstance(error, dict) else error or text
    except (ValueError, RecursionError):
        pass
    return f": {line}" if (line := _line(message if isinstance(message, str) else text)) else ""


def _line(text: str) -> str:
    printable = "".join(sign if sign.isprintable() else " " for sign in text[: 8 * SHOWN])
    squeezed = " ".join(printable.split())
    return squeezed if len(squeezed) <= SHOWN else f"{squeezed[: SHOWN - 3]}..."


def _seconds(text: str | None) -> float:
    return float(text) if text is not None and text.isdigit() and len(text) < 7 else 0.0
