"""Connecting to a Dask cluster, or starting one on this machine.

No other module imports ``distributed``, and this one only when a cluster is used.
"""

from __future__ import annotations

import importlib
import logging
import os
import warnings
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cnatool._util.cluster_workers import one_line
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

# `--dask local` and `--dask local:N`.
_LOCAL = "local"
# Processors of each worker of a local cluster with many.
_WORKER_PROCESSORS = 4
# Runs in each worker of a local cluster as it starts.
_IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# Seconds to wait for the answer of a scheduler.
CONNECT_SECONDS = 10


@contextmanager
def connect(address: str) -> Iterator[Any]:
    """Connect to a Dask scheduler, or start a cluster of worker processes on this machine.

    ``address`` is a scheduler's address, its file, or ``local``, with a number of workers as in
    ``local:4``. Yields the client.
    """
    distributed = import_distributed()
    # What goes wrong becomes one message of ours.
    logging.getLogger("distributed").setLevel(logging.CRITICAL)
    with ExitStack() as stack, warnings.catch_warnings():
        # The port of a dashboard that nobody asked for is taken.
        warnings.filterwarnings("ignore", category=UserWarning, module="distributed")
        if address == _LOCAL or address.startswith(f"{_LOCAL}:"):
            workers, threads = _size_local(address)
            cluster = stack.enter_context(
                distributed.LocalCluster(
                    n_workers=workers,
                    threads_per_worker=threads,
                    processes=True,
                    # A dump watches its memory itself.
                    memory_limit=None,
                    dashboard_address=":0",
                    silence_logs=logging.CRITICAL,
                    # A terminal sends Ctrl-C to them as well; this process ends them.
                    preload=[_IGNORE_INTERRUPTS],
                )
            )
            yield stack.enter_context(distributed.Client(cluster))
            return
        file = Path(address) if "://" not in address else None
        if file is not None and not file.is_file() and (":" not in address or os.sep in address):
            raise UsageError(
                f"`client={address!r}`: no such scheduler file. Name the address of a scheduler, "
                "as in tcp://HOST:8786, its file, or `client='local'`."
            )
        options = (
            {"scheduler_file": address}
            if file is not None and file.is_file()
            else {"address": address}
        )
        try:
            client = stack.enter_context(
                distributed.Client(**options, timeout=CONNECT_SECONDS, set_as_default=False)
            )
        except (OSError, TimeoutError, ValueError) as error:
            raise UsageError(
                f"`client={address!r}`: no Dask scheduler answers there ({one_line(error)}). "
                "Start one with `dask scheduler`, and workers with `dask worker`, or use "
                "`client='local'`."
            ) from None
        yield client


def import_distributed() -> Any:
    """Import Dask, or say how to install it."""
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise UsageError(
            "`client` needs Dask, which is not installed: pip install 'cnatool[dask]'."
        ) from None


def _size_local(address: str) -> tuple[int, int]:
    """Choose the number of workers of a local cluster, and their threads.

    A process runs several batches side by side, so that more processes pay off only where one is
    busy reading and writing.
    """
    processors = (
        len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    )
    processors = processors or 1
    _, _, text = address.partition(":")
    if not text:
        workers = max(min(2, processors), processors // _WORKER_PROCESSORS)
    elif text.isdecimal() and 1 <= int(text) <= 8 * processors:
        workers = int(text)
    else:
        raise UsageError(f"`client={address!r}`: 1 to {8 * processors} workers, as in local:2.")
    return workers, max(1, processors // workers)
