"""What do 1, 2 and 4 parts at once cost beside one process, and how long does a merge take?

Dumps are commands in processes of their own, whose processor time is counted; parts run at the same
time. They keep the statistics of a ResNet-18. The parts that are merged by reference are copies of
one part of a dump, each under another number.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from networks import mlp, resnet18, write_digits
from timing import Taken, alternate, take

import cnatool

COUNTS = (1, 2, 4)
PARTS = 1000
# Rows of each part that is merged: four units of 16 rows.
ROWS = 64


def run_parts(model: Path, data: Path, folder: Path, count: int | None) -> None:
    """Dump all parts at once, each in a process; without a count, dump in one."""
    words = [sys.executable, "-m", "cnatool", "dump", model, data, "--keep", "statistics", "-q"]
    # The same for all, whatever else the machine does.
    words += ["--threads", "1", "--overwrite"]
    numbers = [None] if count is None else range(1, count + 1)
    processes = [
        subprocess.Popen(
            [
                *map(str, words),
                *([] if number is None else ["--part", f"{number}/{count}"]),
                "-o",
                str(folder / f"{number or 'whole'}.zarr"),
            ],
            stdout=subprocess.DEVNULL,
        )
        for number in numbers
    ]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise SystemExit("a dump failed")


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
    """Print the times of dumps in parts with their ratio to one process, and of merges."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=8192)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_digits(folder, options.rows)
        start = partial(run_parts, resnet18(folder / "resnet18.onnx"), data, folder)
        calls: dict[str, Callable[[], object]] = {"one process": partial(start, None)}
        calls |= {f"{count} parts at once": partial(start, count) for count in COUNTS}
        times = alternate(calls, options.rounds, lambda: None)
        for what, taken in times.items():
            ratios = [
                part.processor_seconds / whole.processor_seconds
                for part, whole in zip(taken, times["one process"], strict=True)
            ]
            print(f"{describe(what, taken)}; ratio {statistics.median(ratios):.3f}", flush=True)
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
