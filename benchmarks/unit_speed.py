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
from collections.abc import Callable, Iterator, Sequence
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


def measure_floor() -> Iterator[str]:
    """Yield rows of a table: bare passes of NumPy over values in the cache, the best of nine."""
    rng = np.random.default_rng(0)
    values = np.maximum(rng.standard_normal((2, 64, 784), np.float32), 0)
    centred, squares = np.empty((2, *values.shape), np.float32)
    bits, (keys, places) = np.empty(values.shape, np.uint32), np.zeros((2, *values.shape), np.intp)
    zero, width = np.empty(values.shape, bool), 33_488
    table, first = np.zeros(64 * width, np.uint32), np.arange(64)[:, None] * width
    passes: dict[str, Callable[[], object]] = {
        "the largest values": lambda: np.maximum.reduce(values, axis=2),
        "the least values": lambda: np.minimum.reduce(values, axis=2),
        "sums in float64": lambda: np.add.reduce(values, axis=2, dtype=np.float64),
        "differences": lambda: np.subtract(values, np.float32(0.4), out=centred),
        "squares": lambda: np.multiply(centred, centred, out=squares),
        "sums of squares": lambda: np.add.reduce(squares, axis=2),
        "cubes": lambda: np.multiply(squares, centred, out=squares),
        "sums of cubes": lambda: np.add.reduce(squares, axis=2),
        "zeros": lambda: np.equal(values, 0, out=zero),
        "leading bits": lambda: np.right_shift(values.view(np.uint32), 17, out=bits),
        "the same as indices": lambda: np.copyto(keys, bits),
        "rows of the table": lambda: np.add(keys, first, out=places),
        "counts": lambda: np.add.at(table, places.reshape(-1), np.uint32(1)),
    }
    taken = alternate(passes, 9, lambda: None)
    best = {name: min(each.seconds for each in taken[name]) / values.size * 1e9 for name in passes}
    for name, nanoseconds in {**best, "all": sum(best.values())}.items():
        yield f"| {name} | {nanoseconds:.2f} |"


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--floor", action="store_true", help="measure bare passes of NumPy alone")
    options = parser.parse_args()
    if options.floor:
        print("| pass | ns a value |\n|---|---:|", *measure_floor(), sep="\n")
        return
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
