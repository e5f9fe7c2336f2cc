"""The inside of a worker process: it answers calls of one function until its pipe ends or a limit kills it.

Started as `python -c`, so that nothing of the program that started it is imported again. Requests and replies are JSON
with their length before them. The kernel ends the process at its limit of processor time, even where Python can't.
"""

import json
import os
import pkgutil
import resource
import signal
import sys
from collections.abc import Callable
from typing import Any, BinaryIO

from r1kit.errors import R1Error

HEADER_BYTES = 4
READY = b"r"
STARTED = b"s"
DONE = b"d"
FAILED = b"f"
_ITS_OWN_FAULTS = (
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    R1Error,
    RuntimeError,
    SyntaxError,
    TypeError,
    ValueError,
)
_MAX_FAULT_CHARS = 300


def serve() -> None:
    """Answer calls of `sys.argv[1]`, a function's dotted name, within the limits of `sys.argv[2]`."""
    limits = json.loads(sys.argv[2])
    requests, replies = _private_streams()
    function = pkgutil.resolve_name(sys.argv[1])
    if preload := limits.get("preload"):
        pkgutil.resolve_name(preload)()
    _limit_memory(limits["memory_bytes"])
    _write(replies, READY, b"")
    while request := read_frame(requests):
        _write(replies, STARTED, json.dumps(_processor_seconds()).encode())
        signal.setitimer(signal.ITIMER_PROF, limits["cpu_s"])  # its default action ends the process
        kind, body = _answer(function, request)
        signal.setitimer(signal.ITIMER_PROF, 0)
        _write(replies, kind, body)


def _answer(function: Callable[..., Any], request: bytes) -> tuple[bytes, bytes]:
    try:
        return DONE, json.dumps(function(*json.loads(request))).encode()
    except MemoryError:
        os._exit(os.EX_TEMPFAIL)  # what is left of the process can't be trusted
    except _ITS_OWN_FAULTS as error:
        return FAILED, f"{type(error).__name__}: {error}"[:_MAX_FAULT_CHARS].encode(errors="replace")


def _private_streams() -> tuple[BinaryIO, BinaryIO]:
    """The pipes to the parent under new numbers; standard input and output become nothing."""
    requests, replies = os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb")
    nothing = os.open(os.devnull, os.O_RDWR)
    for number in (0, 1):
        os.dup2(nothing, number)
    os.close(nothing)
    return requests, replies


def _limit_memory(num_bytes: int) -> None:
    for limit, size in ((resource.RLIMIT_AS, num_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        _, ceiling = resource.getrlimit(limit)
        if ceiling == resource.RLIM_INFINITY or size <= ceiling:
            try:
                resource.setrlimit(limit, (size, ceiling))
            except (OSError, ValueError):  # macOS refuses limits on address space
                continue


def _processor_seconds() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def read_frame(stream: BinaryIO) -> bytes:
    """The next body; empty at the end of the stream."""
    header = stream.read(HEADER_BYTES)
    return stream.read(int.from_bytes(header, "big")) if len(header) == HEADER_BYTES else b""


def _write(stream: BinaryIO, kind: bytes, body: bytes) -> None:
    stream.write(kind + len(body).to_bytes(HEADER_BYTES, "big") + body)
    stream.flush()
