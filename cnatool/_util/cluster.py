"""Tasks on a Dask cluster, one at a time on each worker; a lost worker's task runs on another."""

from __future__ import annotations

import pickle
import time
import traceback
import uuid
import warnings
from collections import deque
from concurrent.futures import CancelledError
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

from cnatool._util.cluster_client import CONNECT_SECONDS, import_distributed
from cnatool._util.cluster_workers import (
    check_nothing,
    describe_worker,
    find_fault,
    is_silent,
    one_line,
)
from cnatool._util.text import count_text, time_text
from cnatool._version import __version__
from cnatool.errors import BackendError, CnatoolError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
    from pathlib import Path

    from cnatool._util.cluster_workers import Probe

# Seconds between two looks at tasks, and at the list of workers.
_LOOK_SECONDS = 0.05
_WORKERS_SECONDS = 0.5
# Workers that a task may lose without getting further.
_MOST_LOST = 3
# Seconds between two attempts of a task that has to wait, and in all.
_WAIT_SECONDS = 2.0
_PATIENCE_SECONDS = 600.0
# What no worker has. Tasks that need it never run, but a cluster that adapts counts them.
_DEMAND = "cnatool-waiting"
_MOST_DEMAND = 100
# Seconds without any worker before work is given up.
_DESERTED_SECONDS = 600.0


@dataclass(slots=True, eq=False)
class Task:
    """Work for one worker at a time.

    Attributes
    ----------
    name : str
        Its name in messages.
    begin : callable
        Returns the arguments of the next attempt; nothing of an earlier one counts from then on.
    measure : callable
        Returns how far it is; what an attempt adds to it is not lost with its worker.
    """

    name: str
    begin: Callable[[], tuple[Any, ...]]
    measure: Callable[[], int] = lambda: 0
    _reached: int = field(default=-1, init=False)
    _lost: int = field(default=0, init=False)
    _refused: float | None = field(default=None, init=False)

    def lose(self, worker: str) -> None:
        """Count a lost worker; raise BackendError after several at the same place."""
        reached = self.measure()
        self._lost = 1 if reached > self._reached else self._lost + 1
        self._reached = max(reached, self._reached)
        if self._lost > _MOST_LOST:
            raise BackendError(
                f"{self.name} lost {self._lost} workers without getting further, the last of them "
                f"{worker}. Their logs say why; where memory ran out, `batch_size=N` takes less."
            )

    def wait(self, reason: CnatoolError) -> None:
        """Count an attempt that has to be made later; raise its reason after a while."""
        now = time.monotonic()
        self._refused = now if self._refused is None else self._refused
        if now - self._refused > _PATIENCE_SECONDS:
            raise reason


class Later(NamedTuple):
    """Result of a task that cannot run now."""

    reason: CnatoolError


class _Outcome(NamedTuple):
    """What a task returned or raised, and the warnings meanwhile."""

    value: Any
    error: Exception | None
    warnings: list[tuple[str, type[Warning], str, int]]


class Cluster:
    """The workers of a Dask cluster that can be used.

    Parameters
    ----------
    client : distributed.Client
        Its client.
    paths : sequence of Path
        Files and folders that every worker needs.
    probe : Probe, optional
        Shows that every worker writes to the same place as this process.
    check : callable
        Runs on every worker; raises a CnatoolError if that cannot read what it needs.
    again : str
        What the user runs after a failure of the cluster.
    note : callable
        Receives notes for the user.
    """

    def __init__(
        self,
        client: Any,
        note: Callable[[str], None],
        *,
        paths: Sequence[Path] = (),
        probe: Probe | None = None,
        check: Callable[[], None] = check_nothing,
        again: str = "the same command",
    ) -> None:
        import_distributed()
        if not hasattr(client, "submit") or getattr(client, "asynchronous", False):
            raise UsageError(f"`client={client!r}`: not a synchronous distributed.Client.")
        self._client = client
        self._note = note
        self._paths = [str(path) for path in paths]
        self._probe = probe
        self._check_access = check
        self._again = again
        self._usable: dict[str, bool] = {}
        self._deserted: float | None = None
        self._demand: list[Any] = []
        self._warned: set[tuple[str, type[Warning], str, int]] = set()
        if not self._list():
            note("the cluster has no worker yet; waiting for the first")
            with self._demanding():
                self._demand_workers(1)
                while not self._list():
                    time.sleep(_WORKERS_SECONDS)
        self.workers = self._list()
        self._check([*self.workers], first=True)

    @property
    def threads(self) -> int:
        """Threads of the worker with the fewest."""
        return min(self.workers.values())

    def _list(self) -> dict[str, int]:
        """Ask the scheduler for its workers, by address, and their threads."""
        try:
            return dict(self._client.nthreads())
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise self._scheduler_gone(error) from None

    def _check(self, workers: list[str], *, first: bool = False) -> None:
        """Check workers; the first ones have to be usable, others may be left out."""
        if self._probe is not None:
            self._probe.place()
        try:
            found = self._client.run(
                describe_worker,
                self._paths,
                self._probe,
                self._check_access,
                workers=workers,
                on_error="return",
            )
        except (OSError, TimeoutError, RuntimeError, ValueError) as error:
            raise self._scheduler_gone(error) from None
        finally:
            if self._probe is not None:
                self._probe.remove()
        for worker in workers:
            # A worker that left in the meantime is in no hurry.
            reason = None if worker not in found else find_fault(worker, found[worker])
            # One that does not answer is probably on its way out.
            if reason is not None and first and not is_silent(found[worker]):
                raise UsageError(reason)
            if reason is not None:
                self._note(f"not used: {reason}")
            self._usable[worker] = reason is None

    def call(self, function: Callable[..., Any], *arguments: Any, name: str) -> Any:
        """Call a function on one worker; return its value or raise its error."""
        return next(self.run(function, [Task(name, lambda: arguments)]))[1]

    def run(
        self,
        function: Callable[..., Any],
        tasks: Sequence[Task],
        tick: Callable[[], None] = lambda: None,
    ) -> Generator[tuple[Task, Any]]:
        """Run tasks, one at a time on each worker, and yield each with its value when it is done.

        The first error of a task is raised. A task whose worker leaves the cluster begins again on
        another one. ``tick`` is called many times in a second. Closing the generator cancels what
        runs, as far as that is possible.
        """
        waiting = deque((task, 0.0) for task in tasks)
        running: dict[str, tuple[Task, Any]] = {}
        looked = -_WORKERS_SECONDS
        with self._demanding(), self._cancelling(running):
            while waiting or running:
                now = time.monotonic()
                if now - looked >= _WORKERS_SECONDS:
                    looked = now
                    self._look()
                    self._demand_workers(len(waiting))
                for worker in [name for name in self.workers if name not in running]:
                    if waiting and waiting[0][1] <= now and self._usable.get(worker):
                        task, _ = waiting.popleft()
                        running[worker] = task, self._submit(worker, function, task)
                for worker, (task, future) in list(running.items()):
                    done = future.status != "pending"
                    if not done and worker in self.workers:
                        continue
                    del running[worker]
                    outcome = self._receive(future) if done else None
                    future.release()
                    if outcome is None:
                        self._note(f"{task.name}: worker {worker} is lost; another goes on with it")
                        task.lose(worker)
                        waiting.append((task, now))
                    elif isinstance(outcome.value, Later):
                        task.wait(outcome.value.reason)
                        waiting.append((task, now + _WAIT_SECONDS))
                    elif outcome.error is not None:
                        raise outcome.error
                    else:
                        yield task, outcome.value
                tick()
                if running or waiting:
                    time.sleep(_LOOK_SECONDS)

    @contextmanager
    def _cancelling(self, running: Mapping[str, tuple[Task, Any]]) -> Iterator[None]:
        """Cancel in the end what still runs."""
        try:
            yield
        finally:
            with suppress(Exception):
                self._client.cancel([future for _, future in running.values()], force=True)

    def _demand_workers(self, count: int) -> None:
        """Let a cluster that adapts see how many tasks wait: each worker is given one at a time."""
        count = min(count, _MOST_DEMAND)
        extra, self._demand = self._demand[count:], self._demand[:count]
        if extra:
            self._client.cancel(extra, force=True)
        while len(self._demand) < count:
            key = f"cnatool-{uuid.uuid4().hex}"
            self._demand.append(
                self._client.submit(int, resources={_DEMAND: 1}, key=key, pure=False)
            )

    @contextmanager
    def _demanding(self) -> Iterator[None]:
        """Demand no more workers in the end."""
        try:
            yield
        finally:
            with suppress(Exception):
                self._demand_workers(0)

    def _look(self) -> None:
        """Update the workers; check those that joined."""
        self.workers = self._list()
        joined = [worker for worker in self.workers if worker not in self._usable]
        if joined:
            self._check(joined)
        now = time.monotonic()
        if any(map(self._usable.get, self.workers)):
            self._deserted = None
        elif self._deserted is None:
            self._deserted = now
            self._note("the cluster has no worker that can be used; waiting for one")
        elif now - self._deserted > _DESERTED_SECONDS:
            raise BackendError(
                f"the cluster has had no worker for {time_text(_DESERTED_SECONDS)}. Start some, "
                f"and then {self._again}."
            )

    def _submit(self, worker: str, function: Callable[..., Any], task: Task) -> Any:
        return self._client.submit(
            _call,
            function,
            task.begin(),
            workers=[worker],
            allow_other_workers=False,
            key=f"cnatool-{uuid.uuid4().hex}",
            pure=False,
        )

    def _receive(self, future: Any) -> _Outcome | None:
        """Receive what a task returned; None if its worker is lost."""
        try:
            outcome: _Outcome = future.result(timeout=CONNECT_SECONDS)
        except (import_distributed().KilledWorker, CancelledError):
            # Who restarts the workers of a cluster cancels what runs on them.
            return None
        except CnatoolError:
            raise
        except Exception as error:
            if self._client.status != "running":
                raise self._scheduler_gone(error) from None
            if isinstance(error, OSError | TimeoutError):
                # Its worker left before the result was fetched.
                return None
            raise BackendError(
                f"the cluster cannot run tasks of cnatool ({one_line(error)[:200]}). Scheduler, "
                f"workers and this process need the same cnatool, which is {__version__} here."
            ) from error
        for warning in outcome.warnings:
            if warning not in self._warned:
                self._warned.add(warning)
                text, category, file, line = warning
                warnings.warn_explicit(text, category, file, line)
        return outcome

    def _scheduler_gone(self, error: Exception) -> BackendError:
        return BackendError(
            f"the Dask scheduler does not answer any more ({one_line(error)}). Start the cluster "
            f"again, and then {self._again}."
        )

    @contextmanager
    def receive(self, topic: str, handler: Callable[[Any], None]) -> Iterator[None]:
        """Pass what tasks `report` under a topic to a handler, in another thread."""
        self._client.subscribe_topic(topic, lambda event: handler(event[1]))
        try:
            yield
        finally:
            with suppress(Exception):
                self._client.unsubscribe_topic(topic)


def report(topic: str, message: Any) -> None:
    """Report to the client of the task that runs in this thread."""
    # What is reported is progress: the work does not depend on it.
    with suppress(Exception):
        import_distributed().get_worker().log_event(topic, message)


def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> _Outcome:
    """Call a function on a worker; return its error, which would otherwise be logged there."""
    value, failure = None, None
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("default")
        try:
            value = function(*arguments)
        except Exception as error:
            failure = make_portable(error)
    messages = [(str(each.message), each.category, each.filename, each.lineno) for each in caught]
    return _Outcome(value, failure, [each for each in messages if _is_for_users(each[1])])


def make_portable(error: Exception) -> Exception:
    """Return an error like this one that can be sent to another process, with its traceback."""
    public = [kind for kind in type(error).__mro__ if kind.__module__ == CnatoolError.__module__]
    if public:
        portable: Exception = public[0](*error.args)
    else:
        portable = error.with_traceback(None)
        portable.__cause__ = portable.__context__ = None
        try:
            pickle.loads(pickle.dumps(portable))
        except Exception:
            portable = RuntimeError(f"{type(error).__name__}: {error}")
    portable.add_note("".join(traceback.format_exception(error)))
    return portable


def _is_for_users(category: type[Warning]) -> bool:
    """Whether a warning is shown by default."""
    return not issubclass(
        category, DeprecationWarning | PendingDeprecationWarning | ImportWarning | ResourceWarning
    )


def describe_workers(cluster: Cluster) -> str:
    """Describe the size of a cluster."""
    threads = {*cluster.workers.values()}
    many = (
        f"{min(threads)} to {max(threads)} threads"
        if len(threads) > 1
        else (count_text(min(threads), "thread"))
    )
    return f"{count_text(len(cluster.workers), 'worker')} of {many}"
