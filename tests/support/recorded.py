"""A small recorded store, and the arrays that went into it."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

import cnatool


class Recorded(NamedTuple):
    """One split: raw inputs x, labels y, logits o, and the sums of each hidden layer."""

    x: np.ndarray
    y: np.ndarray
    o: np.ndarray
    z: np.ndarray


def write_levels(folder: Path, rows: dict[str, int]) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Write pictures of random numbers of levels, and labels, as one file for each split."""
    rng = np.random.default_rng(2)
    folder.mkdir()
    found = {}
    for name, count in rows.items():
        levels = rng.integers(2, 257, (count, 1, 1))
        x = (rng.integers(0, levels, (count, 8, 8)) * 255 // (levels - 1)).astype(np.uint8)
        found[name] = x, rng.integers(0, 5, count)
        np.savez(folder / f"{name}.npz", x=x, y=found[name][1])
    return found


def record_network(
    path: Path, rows: dict[str, int], *, keep: Literal["full", "statistics"] = "full"
) -> dict[str, Recorded]:
    """Record three hidden layers that follow the input's entropy, and logits that mostly do."""
    rng = np.random.default_rng(11)
    found = {}
    names = ["fc1", "fc2", "fc3", "logits"]
    with cnatool.create_store(path, tensors=names, outputs=["logits"], keep=keep) as store:
        for split, count in rows.items():
            levels = rng.integers(1, 257, count)
            x = np.stack([rng.integers(0, most, (6, 5)) for most in levels]).astype(np.uint8)
            y = rng.integers(0, 4, count)
            o = rng.normal(size=(count, 4)) + 1.5 * (y[:, None] == np.arange(4))
            strength = np.log(levels)[:, None]
            layers = [
                (d * strength / 7 + rng.normal(0, 1, (count, 7))).astype(np.float32)
                for d in (1, 3, 4)
            ]
            store.append(
                split,
                inputs=x,
                labels=y,
                outputs=o.astype(np.float32),
                activations=dict(zip(names[:3], layers, strict=True)),
            )
            z = np.stack([layer.astype(np.float64).sum(axis=1) for layer in layers], axis=1)
            found[split] = Recorded(x, y, o.astype(np.float32), z)
    return found
