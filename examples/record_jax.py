"""Write a store from JAX through the writing API, for which no exporter is needed.

Trains a small network on the digits that ship with cnatool, and records the outputs of its layers.
With Flax, ``capture_intermediates=True`` collects them. Needs JAX. Writes ``OUTPUT/jax.zarr``.
"""

from __future__ import annotations

import argparse
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from recipes import DIGITS, read_batches

import cnatool

SIZES = (64, 48, 32, 10)
NAMES = ("fc1", "fc2", "logits")


def main() -> None:
    """Train, record, score."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    try:
        import jax
        import jax.numpy as jnp
    except ImportError:
        print("JAX is not installed: python -m pip install jax")
        return
    options.output.mkdir(parents=True, exist_ok=True)

    def layers(weights: Any, x: Any) -> dict[str, Any]:
        """Compute the output of every linear layer, by name."""
        outputs = {}
        for name, (w, b) in zip(NAMES, weights, strict=True):
            outputs[name] = x @ w + b
            x = jax.nn.relu(outputs[name])
        return outputs

    def loss(weights: Any, x: Any, y: Any) -> Any:
        scores = jax.nn.log_softmax(layers(weights, x)["logits"])
        return -scores[jnp.arange(len(y)), y].mean()

    rng = np.random.default_rng(0)
    initial = [
        (rng.normal(0, (2 / a) ** 0.5, (a, b)).astype(np.float32), np.zeros(b, np.float32))
        for a, b in pairwise(SIZES)
    ]
    weights, gradient = initial, jax.jit(jax.grad(loss))
    data = np.load(DIGITS / "train.npz")
    x, y = data["x"].reshape(-1, 64) / np.float32(255), data["y"]
    for _ in range(40):
        for rows in np.array_split(rng.permutation(len(x)), 20):
            slopes = gradient(weights, x[rows], y[rows])
            weights = jax.tree.map(lambda value, slope: value - 0.2 * slope, weights, slopes)

    run = jax.jit(layers)
    path = options.output / "jax.zarr"
    with cnatool.create_store(
        path,
        tensors=dict.fromkeys(NAMES, "MatMul"),
        outputs=["logits"],
        weights={name: w.T for name, (w, _) in zip(NAMES, weights, strict=True)},
        initial_weights={name: w.T for name, (w, _) in zip(NAMES, initial, strict=True)},
        overwrite=True,
    ) as store:
        for split, parts in read_batches().items():
            for raw, labels in parts:
                outputs = run(weights, raw.reshape(-1, 64) / np.float32(255))
                arrays = {name: np.asarray(value) for name, value in outputs.items()}
                logits = arrays.pop("logits")
                store.append(split, inputs=raw, labels=labels, outputs=logits, activations=arrays)
    for name, split in cnatool.score(path).splits.items():
        print(f"{name}: accuracy {split.accuracy:.4f}, CNA {split.cna.value:.4f}")


if __name__ == "__main__":
    main()
