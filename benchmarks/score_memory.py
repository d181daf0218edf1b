"""How many bytes of memory does each command take for each sample of a store?

Whole processes over stores of statistics with two numbers of samples: the difference in memory,
divided by the difference in samples. Linux only.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from processes import call_in_child, run_process
from sample_stores import write_sample_store

_INPUT = (64,)
_NO_RESAMPLES = ("--set", "resamples=0", "--set", "area_resamples=0", "--set", "permutations=0")


def list_commands(folder: Path, store: Path, other: Path) -> dict[str, list[object]]:
    """Return the arguments of each command."""
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
    """Print one line per command."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, nargs=2, default=[200_000, 1_000_000])
    parser.add_argument("--layers", type=int, default=10)
    parser.add_argument("--only", nargs="*", default=None, help="names of commands")
    parser.add_argument("--folder", type=Path, help="where stores are kept")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = options.folder or Path(name)
        folder.mkdir(exist_ok=True)
        stores = {}
        for rows in options.rows:
            stores[rows] = [folder / f"{rows}-{options.layers}-{seed}.zarr" for seed in (0, 1)]
            for seed, path in enumerate(stores[rows]):
                if not path.exists():
                    half = rows // 2
                    call_in_child(
                        write_sample_store, half, half, options.layers, _INPUT, path, seed
                    )
        for title in list_commands(folder, folder, folder):
            if options.only and title not in options.only:
                continue
            usages = []
            for rows in options.rows:
                words = list_commands(folder, *stores[rows])[title]
                usages.append(run_process(sys.executable, "-m", "cnatool", *words, accept=(0, 1)))
            difference = usages[1].megabytes - usages[0].megabytes
            slope = 1e6 * difference / (options.rows[1] - options.rows[0])
            each = " ".join(f"{u.megabytes:6.0f} MB {u.seconds:6.1f} s" for u in usages)
            print(f"{title:30} {each}  {slope:6.0f} bytes per sample", flush=True)


if __name__ == "__main__":
    main()
