"""How many requests and bytes does each command take on a store in a bucket?

The server is moto's, on this machine, behind a relay that counts bytes. Times would be the
server's, so none are printed. Needs `cnatool[cloud-test]`.
"""

from __future__ import annotations

import argparse
import os
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from networks import convnet, write_digits
from processes import call_in_child

from cnatool._util.urls import parse_path
from cnatool.records.layout import StoreRows
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.writer import StoreWriter

BUCKET = "bucket"
COMMAND = Path(sys.executable).parent / "cnatool"
ACCESS = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
}
ROWS = 1000  # of the store of many tensors
_LINE = re.compile(r'"(?:\x1b\[\d+m)*([A-Z]+) /\S* HTTP')


class Relay:
    """Passes connections on to the server, and counts the bytes of both directions."""

    def __init__(self, port: int) -> None:
        self._target = port
        self.sent = self.received = 0
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._socket.getsockname()[1])
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            client, _ = self._socket.accept()
            server = socket.create_connection(("127.0.0.1", self._target))
            for source, target, name in ((client, server, "sent"), (server, client, "received")):
                words = (source, target, name)
                threading.Thread(target=self._pass_on, args=words, daemon=True).start()

    def _pass_on(self, source: socket.socket, target: socket.socket, name: str) -> None:
        try:
            while data := source.recv(1 << 16):
                setattr(self, name, getattr(self, name) + len(data))
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # the other side closed first


class Server:
    """A running server of S3."""

    def __init__(self, relay: Relay, log: Path) -> None:
        self._relay = relay
        self._log = log

    @contextmanager
    def measure(self, what: str) -> Iterator[None]:
        """Print the requests and bytes of what happens in the context."""
        lines = len(self._log.read_text().splitlines())
        sent, received = self._relay.sent, self._relay.received
        yield
        made = Counter(_LINE.findall("\n".join(self._log.read_text().splitlines()[lines:])))
        kinds = ", ".join(f"{count:,} {kind}" for kind, count in sorted(made.items()))
        print(
            f"{what}: {kinds}; {(self._relay.sent - sent) / 1e6:,.2f} MB up, "
            f"{(self._relay.received - received) / 1e6:,.2f} MB down",
            flush=True,
        )


@contextmanager
def run_server(folder: Path) -> Iterator[Server]:
    """Run the server with one bucket, and let commands find it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = int(probe.getsockname()[1])
    log = folder / "requests.log"
    words = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as file, subprocess.Popen(words, stdout=file, stderr=file) as process:
        try:
            while True:
                try:
                    socket.create_connection(("127.0.0.1", port), 1).close()
                    break
                except OSError:
                    if process.poll() is not None:
                        raise SystemExit(log.read_text()) from None
                    time.sleep(0.1)
            relay = Relay(port)
            url = f"http://127.0.0.1:{relay.port}"
            os.environ.update(ACCESS, AWS_ENDPOINT_URL=url)
            bucket = urllib.request.Request(f"{url}/{BUCKET}", method="PUT")
            urllib.request.urlopen(bucket, timeout=60).close()
            yield Server(relay, log)
        finally:
            process.kill()


def run(*words: object) -> None:
    """Run the command; exit if it fails."""
    done = subprocess.run([COMMAND, *map(str, words)], capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)


def write_wide(store: str, tensors: int) -> None:
    """Write a store of many small tensors."""
    described = StoreRecord(
        schema="cnatool.store/1",
        created_by="benchmark",
        inputs=(ArrayRecord("x", "uint8", (8, 8)),),
        outputs=(),
        tensors=tuple(
            TensorRecord(i, f"t{i}", "Relu", "other", "float32", (16,), 0, "full", None, "float32")
            for i in range(tensors)
        ),
        layers=(),
        statistics=("sum",),
        splits={},
    )
    rng = np.random.default_rng(0)
    values = rng.normal(size=(ROWS, 16)).astype(np.float32)
    writer = StoreWriter(parse_path(store), described)
    split = writer.split("train", ROWS, source="made up", labels=False)
    split.append(
        StoreRows(
            ids=list(map(str, range(ROWS))),
            inputs=[rng.integers(0, 256, (ROWS, 8, 8), np.uint8)],
            labels=None,
            outputs=[],
            activations=dict.fromkeys(range(tensors), values),
            statistics={"sum": np.repeat(values.sum(1, np.float64)[:, None], tensors, axis=1)},
        )
    )
    split.finish()
    writer.close()


def main() -> None:
    """Print one line for each command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tensors", type=int, default=4000, help="of the store of many")
    parser.add_argument("--rows", type=int, default=20_000, help="of the dump")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, run_server(Path(name)) as server:
        folder = Path(name)
        wide, store = f"s3://{BUCKET}/wide.zarr", f"s3://{BUCKET}/store.zarr"
        print(f"A store of {options.tensors:,} tensors and {ROWS:,} rows")
        with server.measure("write"):
            write_wide(wide, options.tensors)
        with server.measure("inspect"):
            run("inspect", wide)
        with server.measure("1,000 rows of one tensor"):
            code = f"import cnatool; cnatool.open({wide!r}).splits['train'].activations('t7')[:]"
            subprocess.run([sys.executable, "-c", code], check=True)
        model = call_in_child(convnet, folder / "convnet.onnx")
        (folder / "data").mkdir()
        data = call_in_child(write_digits, folder / "data", options.rows)
        print(f"A dump of a convnet over {options.rows:,} digits, all tensors whole")
        with server.measure("dump"):
            run("dump", model, data, "-q", "-o", store)
        for command in ("inspect", "score", "layers", "verify"):
            with server.measure(command):
                run(command, store)
        with server.measure("compare with itself"):
            run("compare", store, store)
        with server.measure("convert to a disk"):
            run("convert", store, folder / "copy.zarr", "-q")


if __name__ == "__main__":
    main()
