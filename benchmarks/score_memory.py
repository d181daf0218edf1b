"""How many bytes of memory does each command take for each sample of a store?

Whole processes over stores of statistics with two numbers of samples: what the second takes beyond
the first, divided by the samples that it has more. Linux only: a child's peak resident memory comes
from the operating system.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np

_BATCH = 8192
_CLASSES = 10
_LEVELS = 64  # values in one input
_NO_RESAMPLES = ("--set", "resamples=0", "--set", "area_resamples=0", "--set", "permutations=0")


class Taken(NamedTuple):
    """What a command took."""

    megabytes: float
    seconds: float


def write_store(path: Path, rows: int, layers: int, seed: int) -> Path:
    """Write a store of statistics with ``rows`` samples, half of them train and half test."""
    import cnatool

    names = [f"layer{number}" for number in range(layers)]
    rng = np.random.default_rng(seed)
    with cnatool.create_store(
        path,
        tensors=dict.fromkeys([*names, "logits"], "Linear"),
        outputs=["logits"],
        keep="statistics",
        shapes=dict.fromkeys(names, (64,)),
        overwrite=True,
    ) as store:
        for split in ("train", "test"):
            for start in range(0, rows // 2, _BATCH):
                count = min(_BATCH, rows // 2 - start)
                spread = rng.integers(8, 256, (count, 1))
                sums = rng.normal(size=(count, layers)) * 3 + spread * np.linspace(0, 1, layers)
                logits = rng.normal(size=(count, _CLASSES)).astype(np.float32)
                store.append(
                    split,
                    inputs=(rng.random((count, _LEVELS)) * spread).astype(np.uint8),
                    labels=rng.integers(0, _CLASSES, count),
                    outputs=logits,
                    statistics={
                        "sum": {
                            **dict(zip(names, sums.T, strict=True)),
                            "logits": logits.sum(axis=1, dtype=np.float64),
                        }
                    },
                )
    return path


def apart(path: Path, rows: int, layers: int, seed: int = 0) -> Path:
    """Write a store in another process: a child's peak begins as that of its parent."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(write_store, path, rows, layers, seed).result()


def run(*words: object, accepted: tuple[int, ...] = (0,)) -> Taken:
    """Run a command, and give its peak resident memory and its time."""
    start = time.perf_counter()
    command = [sys.executable, "-m", "cnatool", *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in accepted:
        raise SystemExit(f"{' '.join(command)} failed: {said.decode()}")
    return Taken(usage.ru_maxrss / 1000, time.perf_counter() - start)


def commands(folder: Path, store: Path, other: Path) -> dict[str, list[object]]:
    """Name the commands, each with its arguments."""
    return {
        "inspect": ["inspect", store],
        "verify": ["verify", store],
        "convert": ["convert", store, folder / "copy.h5", "--overwrite", "-q"],
        "layers": ["layers", store],
        "score, no resamples": ["score", store, *_NO_RESAMPLES],
        "score": ["score", store],
        "score, area_resamples=100": ["score", store, "--set", "area_resamples=100"],
        "score --samples FILE.csv": [
            "score", store, *_NO_RESAMPLES, "--samples", folder / "samples.csv",
        ],
        "score --samples FILE.parquet": [
            "score", store, *_NO_RESAMPLES, "--samples", folder / "samples.parquet",
        ],
        "compare": ["compare", store, other],
        "study": ["study", store, other, "-o", folder / "study"],
        "trajectory": ["trajectory", store, other],
        "landscape": ["landscape", store, other, store, "-o", folder / "landscape"],
        "plot": ["plot", store, "-o", folder / "plot.svg"],
    }  # fmt: skip


def main() -> None:
    """Print a line a command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[200_000, 1_000_000])
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=None, help="names of commands")
    parser.add_argument("--folder", type=Path, help="where stores go, and stay")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = given.folder or Path(name)
        folder.mkdir(exist_ok=True)
        stores = {}
        for rows in given.rows:
            stores[rows] = [folder / f"{rows}-{given.layers}-{seed}.zarr" for seed in (0, 1)]
            for seed, path in enumerate(stores[rows]):
                if not path.exists():
                    apart(path, rows, given.layers, seed)
        for title in commands(folder, folder, folder):
            if given.only and title not in given.only:
                continue
            taken = [
                run(*commands(folder, *stores[rows])[title], accepted=(0, 1)) for rows in given.rows
            ]
            more = taken[1].megabytes - taken[0].megabytes
            slope = 1e6 * more / (given.rows[1] - given.rows[0])
            each = " ".join(f"{one.megabytes:6.0f} MB {one.seconds:6.1f} s" for one in taken)
            print(f"{title:30} {each}  {slope:6.0f} bytes a sample", flush=True)


if __name__ == "__main__":
    main()
