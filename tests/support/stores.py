"""Small stores, and changing what a store says of itself as a foreign writer could have."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from cnatool.records.choices import Codec
from cnatool.records.layout import StoreRows
from cnatool.records.store import ArrayRecord, StoreRecord, TensorRecord
from cnatool.store import writer
from cnatool.store.chunk import Chunk
from cnatool.store.store import Split
from cnatool.store.writer import SplitWriter, StoreWriter

ROWS = 70


@contextmanager
def changed_attribute(store: Path) -> Iterator[dict[str, Any]]:
    """Give a Zarr store's attribute to change; its checksum goes, as it does not fit any more."""
    path = store / "zarr.json"
    content = json.loads(path.read_text())
    content["attributes"].pop("cnatool_crc32c", None)
    yield content["attributes"]["cnatool"]
    path.write_text(json.dumps(content))


def forget_checksums(store: Path) -> None:
    """Take the checksums of rows from a store's attribute, as who changes rows on purpose does."""
    if store.is_dir():
        with changed_attribute(store) as attribute:
            for split in attribute["splits"].values():
                split["checksums"] = None
        return
    with h5py.File(store, "r+") as root:
        attribute = json.loads(root.attrs["cnatool"])
        for split in attribute["splits"].values():
            split["checksums"] = None
        root.attrs["cnatool"] = json.dumps(attribute)
        del root.attrs["cnatool_crc32c"]


def write_store(path: Path, codec: Codec = "lz4") -> dict[str, np.ndarray]:
    """Write a store with arrays of many types; give its arrays by key."""
    rng = np.random.default_rng(0)
    types = ("float32", "float16", "int64", "bool", "uint8", "int16")
    values = [rng.integers(0, 5, (ROWS, 3, i + 1)).astype(dtype) for i, dtype in enumerate(types)]
    described = StoreRecord(
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
    writer = StoreWriter(path, described, codec)
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
        StoreRows(
            ids=data["ids"].tolist(),
            inputs=[data["inputs/0"]],
            labels=data["labels"],
            outputs=[data["outputs/0"]],
            activations=dict(enumerate(values)),
            statistics={"sum": data["statistics/sum"]},
        )
    )
    split.finish()
    return data


def chunks_of(values: np.ndarray, rows: int) -> list[Chunk]:
    """Cut an array into chunks of some rows."""
    return [Chunk.of([values[i : i + rows]]) for i in range(0, len(values), rows)]


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
        StoreRows(
            ids=list(data["ids"][part]),
            inputs=[data["inputs"][part]],
            labels=data["labels"][part],
            outputs=[data["outputs"][part]],
            activations={0: data["a"][part], 1: data["b"][part]},
            statistics={"sum": data["sums"][part]},
        )
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


def write_slowly(path: Path) -> None:
    """Write 4,000 rows with a commit every 64, and print the number of committed rows."""
    writer.commit_rows = lambda sizes, most=None: 64  # type: ignore[assignment]
    writer.chunk_rows = lambda sizes, rows, most=None: [16] * len(sizes)  # type: ignore[assignment]
    data = arrays(4000)
    store = StoreWriter(path, record())
    split = store.split("train", 4000, source="made", labels=True, id_bytes=11)
    sys.stdout.write("begun\n")
    for start in range(0, 4000, 40):
        append(split, data, start, start + 40)
        sys.stdout.write(f"{split.committed}\n")
    split.finish()
    sys.stdout.write("done\n")
