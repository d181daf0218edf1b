"""What do 1, 2 and 4 parts or Dask workers cost beside one process, and how long is a merge?

Dumps and scores are commands in processes of their own, whose processor time is counted; parts run
at the same time, and Dask workers are started and ended by the command. Dumps keep the statistics
of a ResNet-18. What is scored is a store of colour images, of which α takes nearly all the time.
The parts that are merged by reference are copies of one part of a dump, each under another number.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from networks import mlp, resnet18, write_digits
from timing import Taken, alternate, take

import cnatool
from cnatool._util.text import count_text

COUNTS = (1, 2, 4)
PARTS = 1000
# Rows of each part that is merged: four units of 16 rows.
ROWS = 64
# Images that are written at a time.
BLOCK = 256


def dump(model: Path, data: Path, store: Path, *words: str) -> list[str]:
    """Return the command of a dump."""
    fixed = ["dump", str(model), str(data), "-o", str(store), "--keep", "statistics", "-q"]
    # The same number of threads for all, whatever else the machine does.
    return [*fixed, "--threads", "1", "--overwrite", *words]


def run(*commands: list[str]) -> None:
    """Run commands of cnatool at once, each in a process."""
    processes = [
        subprocess.Popen([sys.executable, "-m", "cnatool", *words], stdout=subprocess.DEVNULL)
        for words in commands
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a command failed")


def dumps(model: Path, data: Path, folder: Path, cluster: bool) -> dict[str, Callable[[], None]]:
    """Return what is compared: one process, parts at once, and Dask workers."""
    calls = {"one process": partial(run, dump(model, data, folder / "whole.zarr"))}
    for count in COUNTS:
        numbers = range(1, count + 1)
        calls[f"{count_text(count, 'part')} at once"] = partial(
            run,
            *(
                dump(model, data, folder / f"{number}.zarr", "--part", f"{number}/{count}")
                for number in numbers
            ),
        )
    for count in COUNTS if cluster else ():
        words = "--dask", f"local:{count}"
        calls[count_text(count, "Dask worker")] = partial(
            run, dump(model, data, folder / "cluster.zarr", *words)
        )
    return calls


def scores(folder: Path, rows: int, cluster: bool) -> dict[str, Callable[[], None]]:
    """Write a store of images, and return what scores it."""
    store = folder / "images.zarr"
    draw = np.random.default_rng(0)
    shape = (3, 224, 224)
    names = ["first", "second", "logits"]
    with cnatool.create_store(store, tensors=names, outputs=["logits"], keep="full") as writer:
        for _ in range(0, rows, BLOCK):
            values = [draw.random((BLOCK, 10), np.float32) for _ in names]
            writer.append(
                "train",
                inputs=draw.integers(0, 256, (BLOCK, *shape), np.uint8),
                labels=draw.integers(0, 10, BLOCK),
                outputs=values[-1],
                activations=dict(zip(names[:-1], values, strict=False)),
            )
    words = ["score", str(store), "--set", "include_output=true"]
    calls = {"one process": partial(run, words)}
    for count in COUNTS if cluster else ():
        calls[count_text(count, "Dask worker")] = partial(run, [*words, "--dask", f"local:{count}"])
    return calls


def compare(calls: dict[str, Callable[[], None]], rounds: int) -> None:
    """Time calls in turn, and print their times and their ratios to the first."""
    times = alternate(calls, rounds, lambda: None)
    first = next(iter(times.values()))
    for what, taken in times.items():
        pairs = list(zip(taken, first, strict=True))
        used = statistics.median(a.processor_seconds / b.processor_seconds for a, b in pairs)
        clock = statistics.median(a.seconds / b.seconds for a, b in pairs)
        print(f"{describe(what, taken)}; ratios {used:.3f} and {clock:.3f}", flush=True)


def make_parts(folder: Path) -> list[Path]:
    """Make parts of one dump from its first, which all have its rows."""
    data = write_digits(folder, ROWS * PARTS)
    model = mlp(folder / "mlp.onnx")
    first = folder / "parts/1.zarr"
    first.parent.mkdir()
    cnatool.dump(model, data, first, part=(1, PARTS), batch_size=16, threads=1, keep="statistics")
    paths = [first]
    for number in range(2, PARTS + 1):
        paths.append(first.with_name(f"{number}.zarr"))
        shutil.copytree(first, paths[-1])
        root = paths[-1] / "zarr.json"
        metadata = json.loads(root.read_text())
        part = metadata["attributes"]["cnatool"]["part"]
        part["number"] = number
        part["first"] = dict.fromkeys(part["first"], ROWS * (number - 1))
        del metadata["attributes"]["cnatool_crc32c"]
        root.write_text(json.dumps(metadata))
    return paths


def describe(name: str, times: list[Taken]) -> str:
    """Describe the medians of several rounds."""
    processor = statistics.median(each.processor_seconds for each in times)
    clock = statistics.median(each.seconds for each in times)
    return f"{name}: {processor:.2f} s of processor time, {clock:.2f} s"


def main() -> None:
    """Print the times of dumps and scores with their ratios to one process, and of merges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--images", type=int, default=16384)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--quick", action="store_true", help="few rows, one round")
    options = parser.parse_args()
    if options.quick:
        options.rows, options.images, options.rounds = 1024, 4096, 1
    cluster = importlib.util.find_spec("distributed") is not None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_digits(folder, options.rows)
        print(f"dump of {options.rows} rows")
        compare(dumps(resnet18(folder / "resnet18.onnx"), data, folder, cluster), options.rounds)
    with tempfile.TemporaryDirectory() as name:
        print(f"score of {options.images} images")
        compare(scores(Path(name), options.images, cluster), options.rounds)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        paths = make_parts(folder)
        whole = folder / "whole.zarr"
        merged = [
            take(partial(cnatool.merge, paths, whole, overwrite=True))
            for _ in range(options.rounds)
        ]
        print(describe(f"merge of {PARTS} parts", merged), flush=True)
        opened = [take(partial(cnatool.open, whole)) for _ in range(options.rounds)]
        print(describe(f"opening the store of {PARTS} parts", opened), flush=True)
        [split] = cnatool.open(whole).splits.values()
        read = take(lambda: split.statistics()[:])
        print(describe(f"reading a statistic of {PARTS} parts", [read]))


if __name__ == "__main__":
    main()
