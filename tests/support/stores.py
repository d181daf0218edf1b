"""A small store of every kind of array, its rows, and a check of what comes back."""

from __future__ import annotations

import numpy as np

from cnatool.store.reader import Split
from cnatool.store.records import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store.writer import SplitWriter


def record() -> StoreRecord:
    tensors = (
        TensorRecord(0, "a/b:0", "Gemm", "layer", "float32", (5,), 0, "full", None, "float16"),
        TensorRecord(1, "a/b", "Relu", "activation", "float32", (2, 3), 0, "full", None, "float32"),
        TensorRecord(2, "out", "Gemm", "output", "float32", (4,), 0, "full", 0, None),
        TensorRecord(3, "thin", "Relu", "other", "float32", (9,), 0, "statistics"),
    )
    return StoreRecord(
        schema="cnatool.store/1",
        created_by="test",
        inputs=(ArrayRecord("x", "uint8", (8, 8)),),
        outputs=(ArrayRecord("out", "float32", (4,)),),
        tensors=tensors,
        layers=(),
        statistics=("sum",),
        splits={},
    )


def arrays(rows: int, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    return {
        "ids": np.array([f"sample/{i}" for i in range(rows)], object),
        "inputs": rng.integers(0, 256, (rows, 8, 8), np.uint8),
        "labels": rng.integers(0, 4, rows),
        "outputs": rng.normal(size=(rows, 4)).astype(np.float32),
        "a": rng.normal(size=(rows, 5)).astype(np.float16),
        "b": rng.normal(size=(rows, 2, 3)).astype(np.float32),
        "sums": rng.normal(size=(rows, 4)),
    }


def append(split: SplitWriter, data: dict[str, np.ndarray], start: int, stop: int) -> None:
    part = slice(start, stop)
    split.append(
        ids=list(data["ids"][part]),
        inputs=[data["inputs"][part]],
        labels=data["labels"][part],
        outputs=[data["outputs"][part]],
        activations={0: data["a"][part], 1: data["b"][part]},
        statistics={"sum": data["sums"][part]},
    )


def check_rows(split: Split, data: dict[str, np.ndarray]) -> None:
    """Compare every committed row, of a split committed from its start on."""
    rows = len(split)
    np.testing.assert_array_equal(split.ids[:], data["ids"][:rows])
    np.testing.assert_array_equal(split.labels[:], data["labels"][:rows])
    np.testing.assert_array_equal(split.inputs()[:], data["inputs"][:rows])
    np.testing.assert_array_equal(split.outputs()[:], data["outputs"][:rows])
    np.testing.assert_array_equal(split.activations("a/b:0")[:], data["a"][:rows])
    np.testing.assert_array_equal(split.activations("a/b")[:], data["b"][:rows])
    np.testing.assert_array_equal(split.statistics()[:], data["sums"][:rows])
