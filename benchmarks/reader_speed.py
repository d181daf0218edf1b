"""How fast are batches in random order, beside reading the same rows in order, and how mixed?

A store has one tensor, the output of a ReLU for smooth fields, as rows of 64 KiB or as 32 times as
many of 2 KiB. Its labels are those of classes that lie one after the other, as in a folder of
pictures by class: the hardest case. Reading in order is `StoredArray.blocks`, which reads ahead and
decodes on several threads, and takes turns with the batches. Rates are those on the clock; a ratio
of processor times follows, which other work on the machine disturbs less. All files are in the
operating system's cache. Linux only.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr
from store_speed import BATCH, describe_store, make_fields
from timing import alternate

from cnatool import Split
from cnatool.records.choices import Codec
from cnatool.records.layout import StoreRows
from cnatool.store.reader import open_store
from cnatool.store.writer import StoreWriter

NAME = "relu0"
CLASSES = 10
# Shapes of a row, and samples in a batch.
SHAPES: dict[str, tuple[int, ...]] = {"64 KiB": (64, 16, 16), "2 KiB": (512,)}
SIZES = {"64 KiB": 128, "2 KiB": 4096}
FORMS: dict[str, tuple[str, Codec]] = {
    "Zarr, lz4": ("lz4.zarr", "lz4"),
    "Zarr, zstd": ("zstd.zarr", "zstd"),
    "Zarr, none": ("none.zarr", "none"),
    "HDF5, none": ("none.h5", "none"),
    "HDF5, gzip": ("gzip.h5", "gzip"),
}
MIB = 1 << 20


def write(path: Path, rows: int, shape: tuple[int, ...], codec: Codec) -> None:
    """Write a store with rows in the order of their classes."""
    store = StoreWriter(path, describe_store(1, shape), codec)
    split = store.split("train", rows, source="made", labels=True)
    fields = make_fields(BATCH, 0).reshape(-1, *shape)
    for start in range(0, rows, len(fields)):
        part = fields[: rows - start]
        numbers = np.arange(start, start + len(part))
        split.append(
            StoreRows(
                ids=list(map(str, numbers)),
                inputs=[np.zeros((len(part), 1), np.uint8)],
                labels=numbers * CLASSES // rows,
                outputs=[np.zeros((len(part), 1), np.float32)],
                activations={0: part},
                statistics={},
            )
        )
    split.finish()


def read_in_order(split: Split) -> None:
    """Read all rows as they are stored."""
    for _ in split.activations(NAME).blocks():
        pass


def read_batches(split: Split, size: int, buffer_bytes: int, *, shuffle: bool = True) -> None:
    """Read all rows in batches."""
    options = {"size": size, "buffer_bytes": buffer_bytes}
    for _ in split.batches(NAME, shuffle=shuffle, **options):
        pass


def measure_rates(path: Path, size: int, buffers: list[int], rounds: int) -> list[str]:
    """Return the cells of a row of the table of rates."""
    split = open_store(path).splits["train"]
    calls: dict[str, Callable[[], object]] = {"in order": partial(read_in_order, split)}
    for buffer in buffers:
        calls[f"{buffer} MiB"] = partial(read_batches, split, size, buffer * MIB)
    calls["no shuffle"] = partial(read_batches, split, size, buffers[0] * MIB, shuffle=False)
    read_in_order(split)
    times = alternate(calls, rounds, lambda: None)
    array = split.activations(NAME)
    rate = len(array) * array.row_bytes / 1e6
    first = times["in order"]
    cells = [f"{rate / statistics.median(taken.seconds for taken in first):.0f} MB/s"]
    for name in list(calls)[1:]:
        pairs = list(zip(first, times[name], strict=True))
        ratios = [a.seconds / b.seconds for a, b in pairs]
        used = statistics.median(a.processor_seconds / b.processor_seconds for a, b in pairs)
        cells.append(
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}); {used:.2f}"
        )
    return cells


def measure_mixing(path: Path, size: int, buffer: int) -> list[str]:
    """Return the cells of a row of the table of mixing."""
    split = open_store(path).splits["train"]
    # The order alone, without reading the rows.
    order = split.batches(NAME, size=size, buffer_bytes=buffer * MIB)._order
    rows = np.concatenate(
        [
            np.concatenate([np.arange(*piece) for piece in window.pieces])[window.order]
            for window in order.windows(0, len(split))
        ]
    )
    blocks = rows // order.block
    parts = [slice(at, at + size) for at in range(0, len(rows) - size + 1, size)]
    inside = [len(np.unique(blocks[part])) for part in parts]
    together = [np.mean(blocks[part][1:] == blocks[part][:-1]) for part in parts]
    labels = rows * CLASSES // len(rows)
    counts = np.array([np.bincount(labels[part], minlength=CLASSES) for part in parts])
    expected = size / CLASSES
    spread = counts.std() / np.sqrt(expected * (1 - 1 / CLASSES))
    correlation = spearmanr(np.arange(len(rows)), rows).statistic
    return [
        f"{-(-len(rows) // order.block)}",
        f"{min(order.window, len(rows)) / order.block:.0f}",
        f"{correlation:+.3f}",
        f"{np.median(inside):.0f}",
        f"{np.mean(together):.1%}",
        f"{spread:.2f}",
    ]


def main() -> None:
    """Print a table of rates, and one of how well batches are mixed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--megabytes", type=int, default=512, help="of the tensor, uncompressed")
    parser.add_argument("--buffer", type=int, nargs="+", default=[128, 32], help="MiB")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--forms", nargs="+", choices=FORMS, default=list(FORMS))
    parser.add_argument("--folder", type=Path, help="default: a temporary folder")
    options = parser.parse_args()
    print(f"load at the beginning: {os.getloadavg()[0]:.1f}\n")
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        paths: dict[tuple[str, str], Path] = {}
        forms = {form: FORMS[form] for form in options.forms}
        shapes = {title: SHAPES[title] for title in options.shapes}
        for (title, shape), (form, (file, codec)) in product(shapes.items(), forms.items()):
            rows = options.megabytes * 1_000_000 // (4 * int(np.prod(shape)))
            paths[title, form] = Path(name) / f"{len(shape)}-{file}"
            write(paths[title, form], rows, shape, codec)
        ratios = " | ".join(f"{buffer} MiB" for buffer in options.buffer)
        print(f"| row | store | batch | in order | {ratios} | not shuffled |")
        print("|---" * (5 + len(options.buffer)) + "|")
        for (title, form), path in paths.items():
            size = SIZES[title]
            cells = measure_rates(path, size, options.buffer, options.rounds)
            print(f"| {title} | {form} | {size} | {' | '.join(cells)} |", flush=True)
        print(
            "\n| row | batch | buffer | blocks | in a window | rank correlation | "
            "blocks in a batch | neighbours of one block | spread of classes |"
        )
        print("|---" * 9 + "|")
        for title, buffer in product(shapes, options.buffer):
            size = SIZES[title]
            cells = measure_mixing(paths[title, options.forms[0]], size, buffer)
            print(f"| {title} | {size} | {buffer} MiB | {' | '.join(cells)} |")
    print(f"\nload at the end: {os.getloadavg()[0]:.1f}")


if __name__ == "__main__":
    main()
