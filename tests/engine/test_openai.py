"""The client against servers that err: each failure is retried, bounded, and ends in one line."""

import json
import socket
import threading
import time

import pytest

from r1kit.config.endpoint import EndpointSettings
from r1kit.engine.openai import ChatClient, Failure, Question, read_answer
from r1kit.errors import RecipeError, RunError


def said(text, **more):
    return json.dumps({"choices": [{"message": {"content": text}, **more}]}).encode()


def client_of(url, **settings):
    known = {"backoff_seconds": 0.01, "max_retries": 2, "timeout_seconds": 5.0}
    return ChatClient(EndpointSettings(url=url, model="judge", **known | settings), seed="0")


def test_a_question_is_sent_as_a_chat_and_its_answer_comes_back(serve, monkeypatch):
    monkeypatch.setenv("JUDGE_KEY", "secret")
    server = serve(lambda handler, number, body: handler.say("四 \U0001f600"))
    client = client_of(server.url, key_variable="JUDGE_KEY", request={"seed": 3}, max_tokens=7)
    assert client.answer("What is 2 + 2?", place="1") == "四 \U0001f600"
    path, headers = server.headers[0]
    assert path == "/v1/chat/completions"
    assert headers["Authorization"] == "Bearer secret"
    assert server.requests[0] == {
        "model": "judge",
        "messages": [{"role": "user", "content": "What is 2 + 2?"}],
        "temperature": 0.0,
        "max_tokens": 7,
        "seed": 3,
    }


def test_passing_failures_are_tried_again(serve):
    def script(handler, number, body):
        if number == 0:
            handler.send(b'{"error": {"message": "overloaded"}}', 500)
        elif number == 1:
            handler.send(b"<html>busy</html>")
        else:
            handler.say("four")

    server = serve(script)
    assert client_of(server.url).answer("?", place="1") == "four"
    assert len(server.requests) == 3


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        (lambda h, n, b: h.send(b'{"error": {"message": "out of\\n memory"}}', 500), "HTTP 500: out of memory"),
        (lambda h, n, b: h.send(b"\xff\xfe<html>"), "no JSON"),
        (lambda h, n, b: h.send(b"[" * 1500), "no JSON"),
        (lambda h, n, b: h.send(b""), "no JSON"),
        (lambda h, n, b: h.send(b"[1]"), "without choices"),
        (lambda h, n, b: h.send(b'{"choices": []}'), "without choices"),
        (lambda h, n, b: h.say(None), "no text"),
        (lambda h, n, b: h.say("x" * 5000), "above 2,000 bytes"),
        (lambda h, n, b: h.connection.close(), "hung up|reset|closed"),
        (lambda h, n, b: h.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{"), "no JSON"),
        (lambda h, n, b: h.wfile.write(b"\x00\x01\x02 nonsense\r\n\r\n"), "attempts"),
    ],
)
def test_what_is_no_answer_ends_in_one_line_after_all_attempts(serve, script, expected):
    server = serve(script)
    with pytest.raises(RunError, match=expected) as raised:
        client_of(server.url, max_answer_bytes=2000).answer("?", place="1")
    assert "after 3 attempts" in str(raised.value) and "--resume" in str(raised.value)
    assert "\n" not in str(raised.value) and len(str(raised.value)) < 500
    assert len(server.requests) == 3


@pytest.mark.parametrize("status", [400, 401, 404, 301])
def test_a_request_that_can_never_be_answered_is_sent_once(serve, status):
    server = serve(lambda handler, number, body: handler.send(b'{"error": "no such model"}', status))
    with pytest.raises(RunError, match=f"HTTP {status}: no such model, after 1 attempt;"):
        client_of(server.url).answer("?", place="1")
    assert len(server.requests) == 1


def drip(handler, number, body):
    """A header now, a byte every now and then: each read succeeds, the answer never ends."""
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
    for _ in range(200):
        handler.wfile.write(b" ")
        handler.wfile.flush()
        time.sleep(0.05)


@pytest.mark.parametrize("script", [lambda h, n, b: time.sleep(3), drip])
def test_a_server_that_hangs_costs_no_more_than_its_time(serve, script):
    server = serve(script)
    started = time.perf_counter()
    with pytest.raises(RunError, match=r"no answer within 0\.3 s, after 3 attempts"):
        client_of(server.url, timeout_seconds=0.3).answer("?", place="1")
    assert 0.9 <= time.perf_counter() - started < 2.5


def test_nobody_listening_is_said():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(RunError, match=r"connection refused.*after 3 attempts"):
        client_of(f"http://127.0.0.1:{port}/v1").answer("?", place="1")


def test_waits_double_with_a_jitter_that_is_seeded_and_heed_the_server(monkeypatch):
    client = client_of("http://localhost/v1", backoff_seconds=1.0)
    waits = [client._pause(attempt, "1", Failure("busy", is_passing=True)) for attempt in range(5)]
    assert all(0.5 * 2**attempt <= found <= 1.5 * 2**attempt for attempt, found in enumerate(waits))
    assert waits == [client._pause(attempt, "1", Failure("busy", is_passing=True)) for attempt in range(5)]
    assert waits[0] != client._pause(0, "2", Failure("busy", is_passing=True))
    assert client._pause(0, "1", Failure("busy", is_passing=True, wait_s=30.0)) == 30.0
    assert client._pause(5000, "1", Failure("busy", is_passing=True, wait_s=9e9)) == 120.0


def test_many_questions_are_asked_at_once_but_not_too_many(serve):
    running, most, lock = [], [], threading.Lock()

    def script(handler, number, body):
        with lock:
            running.append(number)
            most.append(len(running))
        time.sleep(0.02)
        with lock:
            running.remove(number)
        handler.say(body["messages"][0]["content"].upper())

    questions = [Question(str(number), f"question {number}") for number in range(24)]
    found = dict(client_of(serve(script).url, max_concurrent=4).answers(questions))
    assert found == {str(number): f"QUESTION {number}" for number in range(24)}
    assert 2 <= max(most) <= 4


def test_answers_before_a_failure_are_given_out(serve):
    def script(handler, number, body):
        if body["messages"][0]["content"] == "5":
            handler.send(b"down", 503)
        else:
            time.sleep(0.02)
            handler.say("fine")

    server = serve(script)
    found = []
    with pytest.raises(RunError, match="HTTP 503: down"):
        for key, _ in client_of(server.url, max_concurrent=2).answers([Question(str(n), str(n)) for n in range(200)]):
            found.append(key)
    assert {"0", "1", "2", "3", "4"} <= set(found)
    assert len(found) < 100


def test_an_answer_that_was_cut_is_none():
    assert read_answer(said("The answer is", finish_reason="length")) == ""
    assert read_answer(said("The answer is 4.", finish_reason="stop")) == "The answer is 4."


def test_depth_is_no_way_to_bring_the_client_down():
    found = read_answer(b"[" * 500_000)
    assert isinstance(found, Failure) and "no JSON" in found.reason


def test_half_a_surrogate_pair_becomes_a_sign_that_can_be_written():
    assert read_answer(b'{"choices": [{"message": {"content": "a\\ud800b"}}]}') == "a?b"


def test_a_missing_key_and_a_bad_port_are_refused_before_anything_is_sent(monkeypatch):
    monkeypatch.delenv("JUDGE_KEY", raising=False)
    with pytest.raises(RecipeError, match="JUDGE_KEY"):
        client_of("http://localhost/v1", key_variable="JUDGE_KEY")
    with pytest.raises(RecipeError, match=r"[Pp]ort"):
        client_of("http://localhost:99999999/v1")
