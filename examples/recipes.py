"""What the export recipes share: the digits, and the comparison of a dump with a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cnatool

DIGITS = Path(cnatool.__file__).parent / "demo" / "data" / "digits"
SPLITS = ("train", "test")


def read_batches(size: int = 256) -> dict[str, list[tuple[Any, Any]]]:
    """Read the images of the digits, (n, 8, 8) uint8, and their labels, in batches."""
    batches = {}
    for split in SPLITS:
        data = np.load(DIGITS / f"{split}.npz")
        x, y = data["x"], data["y"]
        batches[split] = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return batches


def dump_and_compare(
    model: Path,
    recorded: Path,
    *,
    convention: str = "paper",
    overrides: dict[str, object] | None = None,
) -> None:
    """Dump a model over the digits, score it, and compare it with a recording."""
    store = cnatool.dump(model, DIGITS, model.with_suffix(".zarr"), overwrite=True)
    options = {"convention": convention, "overrides": overrides or {}}
    scores = cnatool.score(store, **options)
    comparison = cnatool.compare(recorded, store, **options)
    cna = ", ".join(f"{name} {split.cna.value:.6f}" for name, split in scores.splits.items())
    print(f"{model.name}, {convention}: CNA {cna}")
    print(f"  {'the same' if comparison.same else 'not the same'}: {comparison.largest_of}")
    for note in comparison.notes:
        print(f"  note: {note}")
