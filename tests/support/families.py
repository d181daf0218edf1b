"""Families of small networks over random pictures, dumped into a folder of stores."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cnatool
from support.networks import mlp, saved

SIZES = ((64, 20, 16, 12, 10), (64, 12, 12, 10))


def make_pictures(folder: Path) -> Path:
    """Write splits of pictures of all complexities; give their folder."""
    rng = np.random.default_rng(2)
    folder.mkdir(exist_ok=True)
    for name, rows in (("train", 80), ("test", 60)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8) // rng.integers(1, 99, (rows, 1, 1))
        np.savez(folder / f"{name}.npz", x=x.astype(np.uint8), y=rng.integers(0, 10, rows))
    return folder


def dump_family(folder: Path, seeds: int = 4) -> list[Path]:
    """Dump networks of two shapes and some seeds, with tags; give the stores."""
    data = make_pictures(folder / "data")
    stores = folder / "stores"
    stores.mkdir()
    for shape, sizes in enumerate(SIZES):
        for seed in range(seeds):
            model = folder / f"shape{shape}-{seed}.onnx"
            saved(mlp(sizes, seed=seed), model)
            cnatool.dump(
                model,
                data,
                stores / f"{model.stem}.zarr",
                keep="statistics",
                tags={"shape": str(shape), "seed": str(seed), "run": f"{shape}-{seed // 2}"},
            )
    return sorted(stores.iterdir())
