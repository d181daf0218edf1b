"""What does counting units while a model runs cost, beside a dump of statistics alone?

ResNet-18 over random pictures of 28², with labels; both dumps keep statistics of the layers, and
one counts their units as well. Both take turns; the goal is 1.3 times the time.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
from networks import resnet18
from timing import alternate

import cnatool

GOAL = 1.3


def main() -> None:
    """Print seconds and processor seconds of both, and the ratios within a round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model, data = resnet18(folder / "model.onnx"), folder / "data.npz"
        rng = np.random.default_rng(0)
        pictures = rng.integers(0, 256, (options.rows, 1, 28, 28), np.uint8)
        np.savez(data, x=pictures, y=rng.integers(0, 10, options.rows))
        dump = partial(
            cnatool.dump, model, data, keep="statistics", tensors="layers", overwrite=True
        )
        calls = {
            "statistics": partial(dump, folder / "statistics.zarr"),
            "units": partial(dump, folder / "units.zarr", units=True),
        }
        times = alternate(calls, options.rounds, lambda: None)
    for what in ("seconds", "processor_seconds"):
        taken = {key: [getattr(each, what) for each in times[key]] for key in calls}
        ratios = [b / a for a, b in zip(taken["statistics"], taken["units"], strict=True)]
        middle = {key: statistics.median(values) for key, values in taken.items()}
        print(
            f"ResNet-18 at 28², {options.rows:,} rows, {what.replace('_', ' ')}: statistics "
            f"{middle['statistics']:.2f}, units {middle['units']:.2f}; ratio "
            f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f}), "
            f"goal {GOAL}",
            flush=True,
        )


if __name__ == "__main__":
    main()
