"""What does a dump on a GPU cost beside plain inference there, and what are its parts worth?

Plain inference is a loop over ONNX Runtime at its own best batch, in float32 as cnatool computes.
Besides the dump it is compared with itself in the provider's own precision (TensorFloat-32 on
CUDA), and with cnatool's way of running batches: inputs and outputs bound, one batch copied while
another runs. Where the provider is missing, the script says why and ends.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import loops
import networks
from cases import Case, open_case
from timing import compare, find_fastest
from working_folder import WorkingFolder

import cnatool
from cnatool.backend.io_binding import BATCHES_IN_FLIGHT, DeviceSession
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions, Session, numeric_options, provider_name
from cnatool.errors import CnatoolError

# Larger than on a CPU.
BATCHES = (64, 256, 1024)
ROWS = {"mlp": 60_000, "convnet": 60_000, "transformer": 20_000, "resnet18": 10_240}


def run_batches(case: Case, batch: int, kind: type[Session], provider: str, in_flight: int) -> None:
    """Run the model through a session of cnatool, several batches at a time."""
    graph = open_network(case.model).graph
    session = kind(graph.model, graph, RunOptions(provider))

    def run(values: loops.Floats) -> None:
        session.run(graph.output_names, {"x": values})

    with ThreadPoolExecutor(in_flight) as pool:
        list(pool.map(run, loops.read_batches(case, batch)))


def dump_statistics(case: Case, provider: str, folder: WorkingFolder) -> None:
    """Dump into a new store."""
    store = folder.new_path(".zarr")
    cnatool.dump(case.model, case.images, store, keep="statistics", provider=provider)


def find_reason(provider: str) -> str | None:
    """Return why nothing runs on a provider here; None if something does."""
    with tempfile.TemporaryDirectory() as name:
        graph = open_network(networks.mlp(Path(name) / "model.onnx")).graph
        try:
            Session(graph.model, graph, RunOptions(provider_name(provider)))
        except CnatoolError as error:
            return str(error)
    return None


def measure(case: Case, provider: str, folder: WorkingFolder, rounds: int) -> None:
    """Print what is compared for one network."""
    providers = [(provider, numeric_options(provider))]
    batch = find_fastest(lambda size: loops.run_inference(case, size, providers=providers), BATCHES)
    plain = (
        f"plain at {batch}",
        partial(loops.run_inference, case, batch, providers=providers),
    )
    calls: dict[str, Callable[[], object]] = {
        "dump of statistics": partial(dump_statistics, case, provider, folder)
    }
    for name, kind, in_flight in (
        ("bound", DeviceSession, 1),
        ("in flight", Session, BATCHES_IN_FLIGHT),
        ("bound, in flight", DeviceSession, BATCHES_IN_FLIGHT),
    ):
        calls[name] = partial(run_batches, case, batch, kind, provider, in_flight)
    if numeric_options(provider):
        calls["provider's precision"] = partial(
            loops.run_inference, case, batch, providers=[provider]
        )
    for name, call in calls.items():
        compare(f"{case.title} on {provider}", plain, (name, call), rounds)


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
    with tempfile.TemporaryDirectory() as name:
        folder = WorkingFolder(Path(name) / "output")
        folder.path.mkdir()
        for network, rows in ROWS.items():
            case = open_case(network, arguments.rows or rows, Path(name))
            measure(case, provider, folder, arguments.rounds)
            folder.clear()


if __name__ == "__main__":
    main()
