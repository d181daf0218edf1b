"""What does a dump on a GPU cost beside plain inference there, and what are its parts worth?

Plain inference is a loop over ONNX Runtime at its own best batch, in float32 as cnatool computes.
Besides the dump it is compared with itself in the provider's own precision (TensorFloat-32 on
CUDA), and with cnatool's way of running batches: inputs and outputs bound, one batch copied while
another runs. Where the provider is missing, the script says why and ends.
"""

from __future__ import annotations

import argparse
import gzip
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from uuid import uuid4

import numpy as np
import onnxruntime as ort
from networks import convnet, mlp, resnet18, transformer, write_digits
from numpy.typing import NDArray
from timing import compare, seconds

import cnatool
from cnatool.backend.io_binding import BATCHES_IN_FLIGHT, DeviceSession
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions, Session, numeric_options, provider_name
from cnatool.errors import CnatoolError

BATCHES = (64, 256, 1024)
NETWORKS: tuple[tuple[str, Callable[[Path], Path], tuple[int, ...], int], ...] = (
    ("MLP 784-500-500-500-10", mlp, (784,), 60_000),
    ("convnet 16-32-64", convnet, (1, 28, 28), 60_000),
    ("transformer", transformer, (1, 28, 28), 20_000),
    ("ResNet-18", resnet18, (1, 28, 28), 10_240),
)


@dataclass(frozen=True)
class Case:
    """A network, its images, and the provider that runs it."""

    model: Path
    images: Path
    shape: tuple[int, ...]
    provider: str

    def read(self) -> NDArray[np.uint8]:
        """Read all images."""
        with gzip.open(self.images) as stream:
            return np.frombuffer(stream.read(), np.uint8, offset=16).reshape(-1, *self.shape)


def run_inference(case: Case, batch: int, options: dict[str, str]) -> None:
    """Run the model over the images as a user would without any tool."""
    session = ort.InferenceSession(case.model, providers=[(case.provider, options)])
    pixels = case.read()
    for start in range(0, len(pixels), batch):
        part = pixels[start : start + batch].astype(np.float32) / np.float32(255)
        session.run(None, {"x": part})


def run_batches(case: Case, batch: int, kind: type[Session], threads: int) -> None:
    """Run the model through a session of cnatool, several batches at a time."""
    graph = open_network(case.model).graph
    session = kind(graph.model, graph, RunOptions(case.provider))
    names, pixels = graph.output_names, case.read()

    def run(start: int) -> None:
        part = pixels[start : start + batch].astype(np.float32) / np.float32(255)
        session.run(names, {"x": part})

    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(run, range(0, len(pixels), batch)))


def dump_statistics(case: Case, folder: Path) -> None:
    """Dump into a new store."""
    store = folder / f"{uuid4()}.zarr"
    cnatool.dump(case.model, case.images, store, keep="statistics", provider=case.provider)


def find_reason(provider: str) -> str | None:
    """Return why nothing runs on a provider here; None if something does."""
    with tempfile.TemporaryDirectory() as name:
        graph = open_network(mlp(Path(name) / "model.onnx")).graph
        try:
            Session(graph.model, graph, RunOptions(provider_name(provider)))
        except CnatoolError as error:
            return str(error)
    return None


def measure(title: str, case: Case, folder: Path, rounds: int) -> None:
    """Print what is compared for one network."""
    options = numeric_options(case.provider)
    times = {
        batch: min(seconds(partial(run_inference, case, batch, options)) for _ in range(2))
        for batch in BATCHES
    }
    batch = min(times, key=times.__getitem__)
    plain = (f"plain at {batch}", partial(run_inference, case, batch, options))
    others: dict[str, Callable[[], object]] = {
        "dump of statistics": partial(dump_statistics, case, folder),
        "bound": partial(run_batches, case, batch, DeviceSession, 1),
        "in flight": partial(run_batches, case, batch, Session, BATCHES_IN_FLIGHT),
        "bound, in flight": partial(run_batches, case, batch, DeviceSession, BATCHES_IN_FLIGHT),
    }
    if options:
        others["provider's precision"] = partial(run_inference, case, batch, {})
    for name, call in others.items():
        compare(title, plain, (name, call), rounds)


def main() -> None:
    """Print one line per network and comparison."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--provider", default="cuda")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, help="images, to try it")
    arguments = parser.parse_args()
    reason = find_reason(arguments.provider)
    if reason is not None:
        print(f"not measured: {reason}")
        return
    provider = provider_name(arguments.provider)
    for title, write, shape, rows in NETWORKS:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            images = write_digits(folder, arguments.rows or rows)
            case = Case(write(folder / "model.onnx"), images, shape, provider)
            measure(f"{title} on {provider}", case, folder, arguments.rounds)


if __name__ == "__main__":
    main()
