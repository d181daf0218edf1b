"""Small stores, and changing what a store says of itself as a foreign writer could have."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from cnatool.store.records import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.tree import Codec
from cnatool.store.writer import StoreWriter

__all__ = ["ROWS", "changed_attribute", "write_store"]

ROWS = 70


@contextmanager
def changed_attribute(store: Path) -> Iterator[dict[str, Any]]:
    """Give a Zarr store's attribute to change; its checksum goes, as it does not fit any more."""
    path = store / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"].pop("cnatool_crc32c", None)
    yield content["attributes"]["cnatool"]
    path.write_text(json.dumps(content))


def write_store(path: Path, codec: Codec = "lz4") -> dict[str, np.ndarray]:
    """Write a store with arrays of many types; give its arrays by key."""
    rng = np.random.default_rng(0)
    types = ("float32", "float16", "int64", "bool", "uint8", "int16")
    values = [rng.integers(0, 5, (ROWS, 3, i + 1)).astype(dtype) for i, dtype in enumerate(types)]
    record = StoreRecord(
        schema="cnatool.store/1",
        created_by="test",
        inputs=(ArrayRecord("x", "uint8", (8, 8)),),
        outputs=(ArrayRecord("out", "float32", (4,)),),
        tensors=tuple(
            TensorRecord(i, f"t{i}", "Relu", "other", dtype, (3, i + 1), 0, "full", None, dtype)
            for i, dtype in enumerate(types)
        ),
        layers=(),
        statistics=("sum",),
        splits={},
        tags={"epoch": "12", "seed": "34"},
    )
    writer = StoreWriter(path, record, codec)
    split = writer.split("train", ROWS, source="made", labels=True, classes=("a", "b"))
    data = {
        "ids": np.array([f"sample/{i}" for i in range(ROWS)], object),
        "labels": rng.integers(0, 2, ROWS),
        "inputs/0": rng.integers(0, 256, (ROWS, 8, 8), np.uint8),
        "outputs/0": rng.normal(size=(ROWS, 4)).astype(np.float32),
        "statistics/sum": rng.normal(size=(ROWS, len(types))),
        **{f"activations/{i}": value for i, value in enumerate(values)},
    }
    split.append(
        ids=data["ids"].tolist(),
        inputs=[data["inputs/0"]],
        labels=data["labels"],
        outputs=[data["outputs/0"]],
        activations=dict(enumerate(values)),
        statistics={"sum": data["statistics/sum"]},
    )
    split.finish()
    return data
