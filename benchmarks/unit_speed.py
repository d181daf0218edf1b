"""How fast are the units of a store counted, beside reading its arrays?

The store has a map (64, 28, 28), 256 features of 64 tokens, and a vector of 1,024, all float32
behind a ReLU, and labels. `cnatool.units` gives moments, quantiles, class selectivity and the
samples that excite each unit most. The tool's own reader, and zarr alone, read the same arrays; all
three take them from the operating system's cache, in turn.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import zarr
from timing import alternate

import cnatool

SHAPES = {"map": (64, 28, 28), "tokens": (64, 256), "vector": (1024,)}
BATCH = 128
GOAL = 0.6


def write_store(path: Path, rows: int) -> None:
    """Write a store of random activations."""
    rng = np.random.default_rng(0)
    with cnatool.create_store(path, tensors=list(SHAPES)) as store:
        for start in range(0, rows, BATCH):
            count = min(BATCH, rows - start)
            store.append(
                "test",
                inputs=np.zeros((count, 1), np.float32),
                outputs=np.zeros((count, 1), np.float32),
                activations={
                    name: np.maximum(rng.standard_normal((count, *shape), np.float32), 0)
                    for name, shape in SHAPES.items()
                },
                labels=rng.integers(0, 10, count),
            )


def read_with_cnatool(path: Path, names: Sequence[str]) -> None:
    """Read arrays with the tool's own reader."""
    split = cnatool.open(path).splits["test"]
    for name in names:
        for _ in split.activations(name).blocks():
            pass


def read_with_zarr(path: Path, names: Sequence[str]) -> None:
    """Read arrays with zarr alone, as many rows at a time."""
    store = cnatool.open(path)
    group = zarr.open_group(path, mode="r")
    for name in names:
        rows = store.splits["test"].activations(name).block_rows
        array = group[f"splits/test/activations/{store.tensor(name).number}"]
        for start in range(0, array.shape[0], rows):
            array[start : start + rows]


def measure(path: Path, names: Sequence[str], rows: int, rounds: int) -> str:
    """Return a row of the table: ns a value, and the ratios of rates within a round."""
    calls: dict[str, Callable[[], object]] = {
        "units": lambda: cnatool.units(path, tensors=names),
        "cnatool": lambda: read_with_cnatool(path, names),
        "zarr": lambda: read_with_zarr(path, names),
    }
    times = alternate(calls, rounds, lambda: None)
    values = rows * sum(math.prod(SHAPES[name]) for name in names)
    cells = []
    for what in ("processor_seconds", "seconds"):
        taken = {name: [getattr(each, what) for each in times[name]] for name in calls}
        cells += [f"{statistics.median(taken[name]) / values * 1e9:.1f}" for name in calls]
        for peer in ("cnatool", "zarr"):
            ratios = [b / a for a, b in zip(taken["units"], taken[peer], strict=True)]
            cells.append(f"{statistics.median(ratios):.2f}")
    return f"| {', '.join(names)} | {' | '.join(cells)} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "store.zarr"
        write_store(path, options.rows)
        heads = [
            f"{what}: units, ns a value | cnatool reads | zarr reads | of cnatool | of zarr"
            for what in ("processor time", "duration")
        ]
        print(f"| tensors | {' | '.join(heads)} |")
        print(f"|---|{'---:|' * 10}")
        for names in [[name] for name in SHAPES] + [list(SHAPES)]:
            print(measure(path, names, options.rows, options.rounds), flush=True)
    print(f"goal: counting at {GOAL} or more of the rate of reading, in processor time")


if __name__ == "__main__":
    main()
