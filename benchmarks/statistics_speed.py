"""What does each way of computing statistics cost beside plain ONNX Runtime inference?

The same batches run through the model alone, through the model that a dump runs, and through that
model with one part switched off. All take turns within a round; times are processor time on one
thread, ratios those to inference in the same round.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from unittest import mock

import numpy as np
from light_networks import write_light_network
from networks import convnet, mlp, resnet18, transformer
from timing import seconds

from cnatool.backend.inputs import Samples
from cnatool.backend.network import open_network
from cnatool.backend.select import select_outputs, select_tensors
from cnatool.backend.session import RunOptions, Session
from cnatool.backend.statistics.channel_sums import ChannelSums
from cnatool.backend.statistics.checked import build_exposed_model
from cnatool.backend.statistics.reductions import MeasuredTensor

RUN = RunOptions(threads=1)
# Title, network, shape of a sample, batch, and batches of one measurement.
NETWORKS: tuple[tuple[str, Callable[[Path], Path], tuple[int, ...], int, int], ...] = (
    ("MLP 784-500-500-500-10", mlp, (784,), 256, 24),
    ("convnet 16-32-64", convnet, (1, 28, 28), 32, 24),
    ("ResNet-18", resnet18, (1, 28, 28), 8, 2),
    ("transformer, 4 blocks of 128", transformer, (1, 28, 28), 32, 6),
    ("ResNet-50", partial(write_light_network, "resnet50"), (3, 224, 224), 4, 1),
    ("DenseNet-121", partial(write_light_network, "densenet121"), (3, 224, 224), 4, 1),
)


def ways() -> Iterator[tuple[str, AbstractContextManager[object], bool]]:
    """Yield a title, a patch for building the model, and whether it returns tensors whole."""
    yield "as it is", nullcontext(), False
    direct = mock.patch.object(ChannelSums, "find", return_value=None)
    yield "every sum of the tensor itself", direct, False
    exact = mock.patch.object(MeasuredTensor, "in_parts", new=False)
    yield "float64 throughout", exact, False
    yield "NumPy on whole tensors", nullcontext(), True


def measure(
    path: Path, shape: tuple[int, ...], tensors: str, batch: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield a title and a call: inference first, then a run with each way of statistics."""
    network = open_network(path)
    name = network.inputs[0].name
    values = np.random.default_rng(0).random((batch, *shape), np.float32)
    feeds = {name: values}
    session = Session(network.graph.model, network.graph, RUN)
    yield "inference", partial(session.run, network.graph.output_names, feeds)
    samples = Samples({name: values[:3]})
    probed = network.probe(samples, bound=None, run=RUN, statistics=("sum",))
    outputs = select_outputs(network, probed.tensors)
    for title, patch, whole in ways():
        kept = select_tensors(
            network,
            probed.tensors,
            [tensors],
            keep="full" if whole else "statistics",
            dtype=None,
        )
        with patch:
            model = build_exposed_model(network, probed, kept, outputs, ("sum",), RUN)
        yield title, partial(model.run, [feeds], batch)


def main() -> None:
    """Print a line for each network and way."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", default="", help="networks with this in their title")
    parser.add_argument("--tensors", default="all")
    options = parser.parse_args()
    for title, write, shape, batch, batches in NETWORKS:
        if options.only not in title:
            continue
        with tempfile.TemporaryDirectory() as folder:
            path = write(Path(folder) / "model.onnx")
            calls = dict(measure(path, shape, options.tensors, batch))
            times: dict[str, list[float]] = {way: [] for way in calls}
            for round_ in range(options.rounds + 1):
                for way, call in calls.items():
                    spent = sum(seconds(call, time.process_time) for _ in range(batches))
                    if round_:
                        times[way].append(spent)
        for way, taken in times.items():
            ratios = [a / b for a, b in zip(taken, times["inference"], strict=True)]
            print(
                f"{title}, sums of {options.tensors}: {way} {statistics.median(taken):.3f} s, "
                f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                flush=True,
            )


if __name__ == "__main__":
    main()
