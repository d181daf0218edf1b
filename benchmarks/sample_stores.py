"""Stores of made-up samples: statistics of layers, raw inputs, labels and outputs."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import cnatool

BATCH = 16_384
CLASSES = 10


def write_sample_store(
    train: int, test: int, layers: int, shape: tuple[int, ...], path: Path, seed: int = 0
) -> Path:
    """Write a store whose sums depend on how much of an input is not zero.

    Inputs are unsigned bytes of a shape; no whole activation is stored.
    """
    rng = np.random.default_rng(seed)
    names = [f"fc{number}" for number in range(1, layers + 1)]
    # Each input is some of the noise, cut off after a share of it.
    noise = rng.integers(0, 256, (4_096, *shape), np.uint8).reshape(4_096, -1)
    place = np.arange(noise.shape[1])
    with cnatool.create_store(
        path,
        tensors=dict.fromkeys([*names, "logits"], "Linear"),
        outputs=["logits"],
        keep="statistics",
        shapes=dict.fromkeys(names, (64,)),
    ) as store:
        for split, rows in (("train", train), ("test", test)):
            for start in range(0, rows, BATCH):
                count = min(BATCH, rows - start)
                share = rng.random((count, 1))
                inputs = noise[rng.integers(0, len(noise), count)]
                inputs *= place < share * place.size
                sums = rng.normal(0, 2, (count, layers)) + share * np.arange(1, layers + 1)
                logits = rng.normal(size=(count, CLASSES)).astype(np.float32)
                by_tensor = dict(zip(names, sums.T, strict=True))
                by_tensor["logits"] = logits.sum(axis=1, dtype=np.float64)
                store.append(
                    split,
                    inputs=inputs.reshape(count, *shape),
                    labels=rng.integers(0, CLASSES, count),
                    outputs=logits,
                    statistics={"sum": by_tensor},
                )
    return path
