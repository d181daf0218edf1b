"""The side of `campaigns.processes` that runs in other processes."""

from __future__ import annotations

import atexit
import faulthandler
import importlib
import json
import os
import resource
import signal
import socket
import sys
import threading
import traceback
from pathlib import Path
from typing import Any

from support.fork_server import take_environment

from campaigns.troubles import befall
from cnatool.cli import signals


def serve(connection: socket.socket, other: socket.socket, environment: dict[str, str]) -> None:
    """Fork a process for each request that comes on a socket, and say how each ended.

    The other end is not used here: while it is open, the socket does not end.
    """
    other.close()
    take_environment(environment)
    # What it starts ends with it, wherever it was forked from.
    os.setsid()
    # Forks have these handlers from their first moment.
    signals.handle(signals.leave)
    lines = connection.makefile("rw")
    for line in lines:
        asked = json.loads(line)
        answer: int | None
        if "run" in asked:
            answer = os.fork()
            if not answer:
                lines.detach()
                connection.close()
                _run_and_leave(asked["run"])
        else:
            done, status = os.waitpid(asked["poll"], os.WNOHANG)
            answer = os.waitstatus_to_exitcode(status) if done else None
        print(json.dumps(answer), file=lines, flush=True)
    os.killpg(0, signal.SIGKILL)


def _run_and_leave(request: dict[str, Any]) -> None:
    """Run what a request says, and end without taking down the interpreter, which takes long."""
    code: object = 0
    try:
        _run(request)
    except SystemExit as stop:
        code = stop.code
    except BaseException:
        traceback.print_exc()
        code = 1
    signals.ignore()
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads, as an exit does
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code if isinstance(code, int) else int(code is not None))


def run_request(text: str) -> None:
    """Run what a request in JSON says, in this process."""
    _run(json.loads(text))


def _run(request: dict[str, Any]) -> None:
    said = Path(request["said"])
    for number, ending in ((1, "out"), (2, "err")):
        descriptor = os.open(f"{said}.{ending}", os.O_CREAT | os.O_WRONLY | os.O_APPEND)
        os.dup2(descriptor, number)
        os.close(descriptor)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    faulthandler.enable()
    faulthandler.register(signal.SIGUSR1)
    os.chdir(request["cwd"])
    _commit_often()
    if request["limit"] is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (request["limit"],) * 2)
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    befall(request["trouble"], f"{said}.count")
    if request["call"]:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        module, name = request["call"].split(":")
        getattr(importlib.import_module(module), name)(*request["words"])
        return
    from cnatool.cli import main

    sys.argv = ["cnatool", *request["words"]]
    main()


def _commit_often() -> None:
    """Make chunks, blocks and commits small."""
    from support.dumps import make_small

    make_small()
