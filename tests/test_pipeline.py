from __future__ import annotations

import threading
import time

import pytest

from cnatool.pipeline import InOrder, prefetched


def test_prefetched_gives_everything_in_order_from_another_thread() -> None:
    threads = set()

    def items():
        for i in range(50):
            threads.add(threading.current_thread())
            yield i

    assert list(prefetched(items())) == list(range(50))
    assert threading.current_thread() not in threads
    assert len(threads) == 1


def test_prefetched_reads_no_further_than_two_ahead() -> None:
    made = []

    def items():
        for i in range(50):
            made.append(i)
            yield i

    stream = prefetched(items())
    next(stream)
    time.sleep(0.05)
    assert len(made) <= 4
    stream.close()


def test_prefetched_raises_in_its_place() -> None:
    def items():
        yield 1
        yield 2
        raise ValueError("third")

    stream = prefetched(items())
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="third"):
        next(stream)


def test_calls_run_in_order() -> None:
    done = []
    with InOrder() as writing:
        for i in range(20):
            writing.submit(lambda i=i: done.append(i))
    assert done == list(range(20))


def test_after_a_failure_no_call_runs() -> None:
    done = []

    def fail() -> None:
        raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"), InOrder() as writing:  # noqa: PT012
        writing.submit(fail)
        writing.submit(lambda: done.append(1))
        writing.submit(lambda: done.append(2))
    assert done == []


def test_leaving_with_an_exception_keeps_that_exception() -> None:
    with pytest.raises(KeyError, match="mine"), InOrder() as writing:  # noqa: PT012
        writing.submit(lambda: time.sleep(0.01))
        raise KeyError("mine")
