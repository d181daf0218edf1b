from __future__ import annotations

import threading
import time

import pytest

from cnatool._util.threads import map_ordered, prefetch


def test_prefetched_gives_everything_in_order_from_another_thread() -> None:
    threads = set()

    def items():
        for i in range(50):
            threads.add(threading.current_thread())
            yield i

    assert list(prefetch(items())) == list(range(50))
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_prefetched_reads_no_further_than_two_ahead() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    stream = prefetch(items())
    next(stream)
    time.sleep(0.05)
    assert len(made) <= 4
    stream.close()


def test_prefetched_raises_in_its_place() -> None:
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    stream = prefetch(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)


def test_computed_gives_results_in_order_whatever_is_done_first() -> None:
    def slow(i: int) -> int:
        time.sleep(0.004 if i % 3 == 0 else 0)
        return i * i

    assert list(map_ordered(slow, range(40), 3)) == [i * i for i in range(40)]


def test_computed_runs_as_many_at_a_time_as_there_are_workers() -> None:
    together = threading.Barrier(3, timeout=600)
    assert list(map_ordered(lambda _: together.wait() >= 0, range(9), 3)) == [True] * 9


def test_computed_reads_only_a_few_ahead() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    results = map_ordered(lambda i: i, items(), 2)
    next(results)
    time.sleep(0.05)
    assert len(made) <= 5
    results.close()


def test_computed_raises_in_its_place_and_runs_nothing_after() -> None:
    ran = []

    def call(i: int) -> int:
        ran.append(i)
        if i == 3:
            raise ValueError("fourth")
        return i

    results = map_ordered(call, range(1000), 2)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="fourth"):
        next(results)
    assert len(ran) < 20


def test_computed_raises_what_its_items_raise() -> None:
    def items():
        yield 1
        raise OSError("gone")

    results = map_ordered(lambda i: i, items(), 2)
    assert next(results) == 1
    with pytest.raises(OSError, match="gone"):
        next(results)


def test_closing_waits_for_what_runs() -> None:
    running = threading.Event()
    ended = []

    def call(i: int) -> int:
        running.set()
        time.sleep(0.02)
        ended.append(i)
        return i

    results = map_ordered(call, range(100), 1)
    next(results)
    results.close()
    count = len(ended)
    time.sleep(0.05)
    assert len(ended) == count < 100
