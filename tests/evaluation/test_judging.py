"""Slow verdicts do not hold up what is drawn, and change no order."""

import threading

import pytest

from r1kit.evaluation import judging
from r1kit.evaluation.judging import in_order


def test_results_come_in_order_though_the_first_is_done_last():
    release, begun = threading.Event(), []

    def work(item):
        begun.append(item)
        if item == 0:
            assert release.wait(20)
        return item * 10

    def items():
        yield 0
        yield 1
        yield 2
        release.set()  # all of them were fetched while the first was still being judged

    assert list(in_order(items(), work, is_slow=lambda item: True)) == [0, 10, 20]
    assert sorted(begun) == [0, 1, 2]


def test_quick_work_is_done_at_once_by_whoever_asks():
    threads = []

    def work(item):
        threads.append(threading.current_thread())
        return item

    assert list(in_order(range(5), work, is_slow=lambda item: item == 3)) == [0, 1, 2, 3, 4]
    assert [thread is threading.main_thread() for thread in threads].count(False) == 1


def test_what_waits_is_bounded(monkeypatch):
    monkeypatch.setattr(judging, "MAX_WAITING", 3)
    fetched = []
    results = in_order((fetched.append(n) or n for n in range(20)), lambda n: n, is_slow=lambda n: True)
    for count, _ in enumerate(results, start=1):
        assert len(fetched) <= count + 4


def test_an_error_of_a_verifier_is_raised_in_its_place():
    def work(item):
        if item == 2:
            raise KeyError("broken verifier")
        return item

    results = in_order(range(4), work, is_slow=lambda item: True)
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError, match="broken verifier"):
        next(results)
