"""Judging beside drawing: programs are run in processes of their own, and nobody should wait for them one by one."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from r1kit.types import Problem

JUDGED_ELSEWHERE = frozenset({"code"})
"""Verifiers that spend their time waiting for another process. All others are quicker than a change of threads."""
MAX_THREADS = 8
MAX_WAITING = 256
"""Problems that may wait to be judged, after which drawing waits for them."""

Item = TypeVar("Item")
Result = TypeVar("Result")


def is_judged_elsewhere(problem: Problem | None) -> bool:
    """True where judging an answer is mostly waiting."""
    return problem is not None and problem.verifier in JUDGED_ELSEWHERE


def in_order(
    items: Iterable[Item], work: Callable[[Item], Result], *, is_slow: Callable[[Item], bool]
) -> Iterator[Result]:
    """`work` of each item, in their order; that of slow ones goes on in threads while further items are fetched."""
    pool = ThreadPoolExecutor(max_workers=min(MAX_THREADS, os.cpu_count() or 1))
    waiting: deque[Future[Result]] = deque()
    try:
        for item in items:
            if is_slow(item):
                waiting.append(pool.submit(work, item))
            else:
                done: Future[Result] = Future()
                done.set_result(work(item))
                waiting.append(done)
            while waiting and (waiting[0].done() or len(waiting) > MAX_WAITING):
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        pool.shutdown(wait=False, cancel_futures=True)
