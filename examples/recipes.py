"""What the export recipes share: the digits, and a dump beside a recording."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import cnatool

DIGITS = Path(cnatool.__file__).parent / "demo" / "data" / "digits"
SPLITS = ("train", "test")


def batches(size: int = 256) -> dict[str, list[tuple[Any, Any]]]:
    """Give the digits' pictures, (n, 8, 8) uint8, and labels, a batch at a time."""
    found = {}
    for split in SPLITS:
        data = np.load(DIGITS / f"{split}.npz")
        x, y = data["x"], data["y"]
        found[split] = [(x[i : i + size], y[i : i + size]) for i in range(0, len(x), size)]
    return found


def dump_and_compare(
    model: Path,
    recorded: Path,
    *,
    convention: str = "paper",
    overrides: dict[str, object] | None = None,
) -> None:
    """Dump a model over the digits beside it, score it, and say whether it is faithful."""
    store = cnatool.dump(model, DIGITS, model.with_suffix(".zarr"), overwrite=True)
    given = {"convention": convention, "overrides": overrides or {}}
    scores = cnatool.score(store, **given)
    found = cnatool.compare(recorded, store, **given)
    cna = ", ".join(f"{name} {split.cna.value:.6f}" for name, split in scores.splits.items())
    print(f"{model.name}, {convention}: CNA {cna}")
    print(f"  {'the same' if found.same else 'not the same'}: {found.largest_of}")
    for note in found.notes:
        print(f"  note: {note}")
