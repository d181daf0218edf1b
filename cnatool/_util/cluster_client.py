"""Connecting to a Dask cluster, or starting one on this machine.

No other module imports ``distributed``, and this one only when a cluster is used.
"""

from __future__ import annotations

import asyncio
import importlib
import json
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
# What logs a lost scheduler; the second and the third have levels of their own.
_LOGGERS = "distributed", "distributed.client", "tornado.application", "asyncio"
# Processors of each worker of a local cluster with many.
_WORKER_PROCESSORS = 4
# Runs in each worker of a local cluster as it starts.
_IGNORE_INTERRUPTS = "import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)"
# A scheduler's file is far shorter.
_FILE_CHARACTERS = 1 << 20
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
    for name in _LOGGERS:
        logging.getLogger(name).setLevel(logging.CRITICAL)
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
        yield stack.enter_context(_connect_to_scheduler(distributed, address))


def _connect_to_scheduler(distributed: Any, address: str) -> Any:
    """Make the client of a scheduler, by its address or its file."""
    file = Path(address) if "://" not in address else None
    if file is not None and file.is_file():
        url = _read_address(file, address)
    elif file is not None and (":" not in address or os.sep in address):
        raise UsageError(
            f"`client={address!r}`: no such scheduler file. Name the address of a scheduler, "
            "as in tcp://HOST:8786, its file, or `client='local'`."
        )
    else:
        url = address
    try:
        security = _load_security(distributed, url)
        # A client waits without end for an answer of what is no scheduler.
        asyncio.run(asyncio.wait_for(_identify(distributed, url, security), CONNECT_SECONDS))
        return distributed.Client(
            url, security=security, timeout=CONNECT_SECONDS, set_as_default=False
        )
    # What answers may be no scheduler, and what it sends can raise anything in Dask.
    except Exception as error:
        reason = (
            f"no answer within {CONNECT_SECONDS} seconds"
            if isinstance(error, TimeoutError)
            else one_line(error)
        )
        raise UsageError(
            f"`client={address!r}`: no Dask scheduler answers there ({reason}). Start one with "
            "`dask scheduler`, and workers with `dask worker`, or use `client='local'`."
        ) from None


def _read_address(file: Path, address: str) -> str:
    """Read the address in a scheduler's file."""
    try:
        with file.open(encoding="utf-8") as stream:
            # It may be any file, of any size.
            found = json.loads(stream.read(_FILE_CHARACTERS))["address"]
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        found = None
    if not isinstance(found, str):
        raise UsageError(
            f"`client={address!r}`: this is not the file of a scheduler. Name the file that "
            "`dask scheduler --scheduler-file FILE` writes, or the scheduler's address, as in "
            "tcp://HOST:8786."
        )
    return found


def _load_security(distributed: Any, address: str) -> Any:
    """Return the certificates that Dask is configured with, as a client would."""
    loader = importlib.import_module("dask").config.get("distributed.client.security-loader")
    found = distributed.utils.import_term(loader)({"address": address}) if loader else None
    return found or distributed.Security()


async def _identify(distributed: Any, address: str, security: Any) -> None:
    """Raise an exception unless a scheduler answers."""
    arguments = security.get_connection_args("client")
    async with distributed.rpc(address, connection_args=arguments) as scheduler:
        identity = await scheduler.identity()
    if identity["type"] != "Scheduler":
        raise ValueError(f"it is a {identity['type']}")


def import_distributed() -> Any:
    """Import Dask, or say how to install it."""
    try:
        return importlib.import_module("distributed")
    except ImportError:
        raise UsageError(
            "`client` needs Dask, which is not installed: pip install 'cnatool[dask]', or in a "
            "clone pip install -e '.[dask]'."
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
        raise UsageError(
            f"`client={address!r}`: local:N needs a number of workers from 1 to {8 * processors}, "
            "as in local:2."
        )
    return workers, max(1, processors // workers)
