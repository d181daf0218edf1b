"""Connecting to what is no scheduler: one message, and nothing after it."""

from __future__ import annotations

import gc
import http.server
import json
import logging
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.command import python

from cnatool._util.cluster_client import connect
from cnatool.errors import UsageError

clusters = pytest.importorskip("support.clusters", reason="Dask is not installed")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cnatool._util.cluster_client.CONNECT_SECONDS", 0.25)


@pytest.fixture
def web_server() -> Iterator[str]:
    """The address of a web server."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def refuse(address: object) -> str:
    with pytest.raises(UsageError) as caught, connect(str(address)):
        pass
    # What a client leaves behind would fail here.
    gc.collect()
    return str(caught.value)


def test_what_is_no_scheduler_is_as_if_nothing_listened(web_server: str) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        nothing = f"tcp://127.0.0.1:{closed.getsockname()[1]}"
        expected = refuse(nothing).replace(nothing, "")
    assert "no Dask scheduler answers there (no answer within 0.25 seconds). Start one" in expected
    for address in (f"tcp://{web_server}", web_server):
        assert refuse(address).replace(address, "") == expected


def test_server_that_answers_at_once_is_no_scheduler() -> None:
    def answer(listener: socket.socket) -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.6\r\n" * 1000)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=answer, args=(listener,))
        thread.start()
        message = refuse(f"tcp://127.0.0.1:{listener.getsockname()[1]}")
        thread.join()
    assert "no Dask scheduler answers there" in message


@pytest.mark.parametrize("address", ["http://127.0.0.1:1", "tls://127.0.0.1:1", "host:name"])
def test_address_that_is_none_is_refused(address: str) -> None:
    message = refuse(address)
    assert f"`client='{address}'`: no Dask scheduler answers there" in message
    assert "\n" not in message


@pytest.mark.parametrize(
    "content",
    [b"[tool]\n", b"\x89HDF\r\n", b"", b"{}", b"[1]", b"8", b'{"address": 8}', b"[" * 100_000],
)
def test_file_that_is_no_scheduler_file_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "file"
    file.write_bytes(content)
    message = refuse(file)
    assert f"{file}'`: this is not the file of a scheduler. Name the file that" in message


def test_file_of_a_scheduler_that_ended_is_named(tmp_path: Path) -> None:
    file = tmp_path / "scheduler.json"
    file.write_text(json.dumps({"type": "Scheduler", "address": "tcp://127.0.0.1:9"}))
    assert f"{file}'`: no Dask scheduler answers there" in refuse(file)


def test_nothing_follows_the_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    code = f"""
from cnatool._util import cluster_client
from cnatool.errors import UsageError
cluster_client.CONNECT_SECONDS = 0.25
for address in ("http://127.0.0.1:9", "tcp://127.0.0.1:9", {str(tmp_path / "file")!r}):
    try:
        with cluster_client.connect(address):
            pass
    except UsageError:
        print("refused")
"""
    assert python(f"import sys; sys.stderr = sys.stdout\n{code}") == "refused\n" * 3


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_scheduler_is_found_by_its_address_and_a_worker_is_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("cnatool._util.cluster_client.CONNECT_SECONDS", 60)
    with clusters.local_client(1) as client:
        address: Any = client.scheduler.address
        for name in (address, address.removeprefix("tcp://")):
            with connect(name) as other:
                assert other.submit(os.getpid).result() != os.getpid()
        (worker,) = client.nthreads()
        assert "no Dask scheduler answers there (it is a Worker)" in refuse(worker)


def test_libraries_log_no_lost_scheduler(monkeypatch: pytest.MonkeyPatch) -> None:
    names = "distributed", "distributed.client", "tornado.application", "asyncio"
    for name in names:
        monkeypatch.setattr(logging.getLogger(name), "level", logging.WARNING)
    with pytest.raises(UsageError), connect("none.json"):
        pass
    assert not any(logging.getLogger(name).isEnabledFor(logging.ERROR) for name in names)
