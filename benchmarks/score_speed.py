"""How fast are scores of up to a million samples, and how much memory do they need?

The stores hold statistics of 8 layers, raw 28×28 inputs, labels and outputs, and no activations.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import scipy.stats
from processes import call_in_child, run_process
from timing import compare

import cnatool
from cnatool.metrics.cna import cna
from cnatool.metrics.correlation import kendall, spearman

COMMAND = Path(sys.executable).parent / "cnatool"
LAYERS = [f"fc{number}" for number in range(1, 9)]
BATCH = 10_000
# Without what `score` computes besides the coefficients.
WITHOUT = ("--set=resamples=0", "--set=area_resamples=0", "--set=permutations=0")


def record(path: Path, train: int, test: int) -> Path:
    """Record random images, sums that depend on their density, and logits."""
    rng = np.random.default_rng(0)
    # Noise for 20,000 images, of which each image takes a random share.
    noise = rng.integers(0, 256, (20_000, 28, 28), np.uint8)
    with cnatool.create_store(
        path, tensors=[*LAYERS, "logits"], outputs=["logits"], keep="statistics"
    ) as store:
        for split, rows in (("train", train), ("test", test)):
            for start in range(0, rows, BATCH):
                count = min(BATCH, rows - start)
                x = noise[rng.integers(0, len(noise), count)]
                full = rng.random((count, 1))
                x = np.where(rng.random((1, 28, 28)) < full[:, :, None], x, 0).astype(np.uint8)
                store.append(
                    split,
                    inputs=x,
                    labels=rng.integers(0, 10, count),
                    outputs=rng.normal(size=(count, 10)).astype(np.float32),
                    activations={
                        name: (depth * full + rng.normal(0, 1, (count, 4))).astype(np.float32)
                        for depth, name in enumerate(LAYERS, start=1)
                    },
                )
    return path


def print_commands(path: Path, rows: int) -> None:
    """Print time and peak memory of the commands over a store."""
    for title, words in (
        ("score", ("score", path)),
        ("score without intervals and p-values", ("score", path, *WITHOUT)),
        ("layers", ("layers", path)),
    ):
        usages = [run_process(COMMAND, *words) for _ in range(3)]
        peak = max(usage.megabytes for usage in usages)
        median = sorted(usage.seconds for usage in usages)[1]
        print(f"{title}, {rows:,} samples: {median:.2f} s, {peak:.0f} MB", flush=True)


def compare_with_scipy(rounds: int) -> None:
    """Print ratios to SciPy's coefficients, bootstrap and permutation test."""
    rng = np.random.default_rng(0)
    a = rng.normal(size=60_000)
    b = 0.6 * a + rng.normal(size=60_000)
    ours = partial(
        cna, a, b, form="pearson", window=25, interval="bootstrap", level=0.95, seed=0, stream=0
    )  # fmt: skip
    bootstrap = partial(
        scipy.stats.bootstrap,
        (a, b),
        lambda x, y, axis: scipy.stats.pearsonr(x, y, axis=axis).statistic,
        paired=True,
        n_resamples=100,
        batch=10,
        method="percentile",
        vectorized=True,
    )
    test = partial(
        scipy.stats.permutation_test,
        (a,),
        lambda x: scipy.stats.pearsonr(x, b).statistic,
        permutation_type="pairings",
        n_resamples=100,
    )
    for title, peer, call in (
        ("Spearman", partial(scipy.stats.spearmanr, a, b), partial(spearman, a, b)),
        ("Kendall", partial(scipy.stats.kendalltau, a, b), partial(kendall, a, b)),
        ("bootstrap, 100 resamples", bootstrap, partial(ours, resamples=100, permutations=0)),
        ("permutations, SciPy 100", test, partial(ours, resamples=0, permutations=100)),
    ):
        compare(f"{title}, 60,000 samples", ("SciPy", peer), ("cnatool", call), rounds)


def main() -> None:
    """Print one line per measurement."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--rows", type=int, nargs="+", default=[60_000, 1_000_000])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        for rows in options.rows:
            path = Path(name) / f"{rows}.zarr"
            call_in_child(record, path, rows, rows // 6)
            print_commands(path, rows + rows // 6)
    compare_with_scipy(options.rounds)


if __name__ == "__main__":
    main()
