"""What a framework says of its own layers, compared with the layers that a store lists."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import cnatool
from cnatool.store.store import Store


@dataclass(frozen=True)
class Truth:
    """One layer as its framework computes it.

    ``linear`` is the result of the linear operator with its bias, ``preactivation`` what enters
    the nonlinearity or the sum; both with the samples first.
    """

    name: str
    linear: np.ndarray
    preactivation: np.ndarray
    path: int
    output: bool = False
    shortcut: bool = False


def dumped(model: Path, x: np.ndarray, folder: Path) -> Store:
    """Dump a model over one array of samples, as they are."""
    folder.mkdir(exist_ok=True)
    np.save(folder / "x.npy", x)
    return cnatool.dump(model, folder / "x.npy", folder / "store.zarr")


def assert_layers(store: Store, truths: Sequence[Truth], *, error: float = 0.0) -> None:
    """Compare number, order, flags, depths and the values of both rules' tensors.

    ``error`` is how far quantised values may be off, as a part of the deviation of the true ones.
    """
    found = store.layers
    assert len(found) == len(truths), [(r.operator, r.preactivation) for r in found]
    (split,) = store.splits.values()
    for record, truth in zip(found, truths, strict=True):
        for rule in ("linear", "preactivation"):
            stored = split.activations(getattr(record, rule))[:]
            expected = getattr(truth, rule)
            if stored.shape != expected.shape and expected.ndim == 4:
                # An exporter may put the channels first, and moves them back where it likes.
                expected = np.moveaxis(expected, -1, 1)
            assert stored.shape == expected.shape, (truth.name, rule)
            if error:
                off = np.sqrt(np.mean((stored - expected) ** 2)) / expected.std()
                assert off < error, (truth.name, rule, off)
            else:
                atol = 1e-5 * np.abs(expected).max()
                np.testing.assert_allclose(
                    stored, expected, rtol=1e-3, atol=atol, err_msg=f"{truth.name} {rule}"
                )
    for flag in ("output", "shortcut"):
        names = [t.name for t, r in zip(truths, found, strict=True) if getattr(r, flag)]
        assert names == [t.name for t in truths if getattr(t, flag)], flag
    assert [record.path for record in found] == [truth.path for truth in truths]
