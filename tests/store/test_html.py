"""What notebooks show of a store is what its attribute says."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest
from support.markup import EVIL, HIDDEN, shown
from support.recorded import record_network
from support.stores import ROWS, append, arrays, record, write_store

import cnatool
from cnatool.store.store import Split
from cnatool.store.writer import StoreWriter


def test_a_store_and_its_splits(tmp_path: Path) -> None:
    write_store(tmp_path / "s.zarr")
    store = cnatool.open(tmp_path / "s.zarr")
    page = shown(store)
    assert page.tables[0][1] == ["train", str(ROWS), "complete", "0 a, 1 b", "made"]
    assert [row[0] for row in page.tables[1][1:]] == [t.name for t in store.tensors]
    assert page.tables[1][3][1:6] == ["Relu", "other", "3 × 3", "int64", "whole"]
    assert "tags: epoch 12, seed 34" in page.text
    split = store.splits["train"]
    (rows,) = shown(split).tables
    assert len(rows) == 1 + len(split.store._specs)
    for expression, shape, dtype, _ in rows[1:]:
        array = eval(f"split{expression}", {"split": split})  # the table says how to read it
        assert " × ".join(map(str, array.shape)) == shape
        assert array.dtype == ("O" if dtype == "str" else dtype)
    for tensor in store.tensors:
        if tensor.stored is not None:
            assert repr(tensor.name) in repr(split.activations(tensor.name))


def test_names_are_text_and_nothing_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = record()
    tensors = tuple(
        msgspec.structs.replace(tensor, name=name)
        for tensor, name in zip(made.tensors, (EVIL, HIDDEN, "a" * 4000, "b"), strict=True)
    )
    made = msgspec.structs.replace(made, tensors=tensors, tags={EVIL: EVIL})
    writer = StoreWriter(tmp_path / "s.zarr", made)
    split = writer.split("test", 300, source=EVIL, labels=True, classes=(EVIL, "b"), most=64)
    append(split, arrays(300), 0, 130)
    store = cnatool.open(tmp_path / "s.zarr")
    monkeypatch.setattr(Split, "_array", None)
    page = shown(store)
    assert EVIL in page.tables[1][1][0]
    assert page.tables[0][1][1:3] == ["128", "of 300, incomplete"]
    assert "128 rows of 300, incomplete" in shown(store.splits["test"]).text


def test_thousands_of_tensors(tmp_path: Path) -> None:
    made = record()
    tensors = tuple(
        msgspec.structs.replace(made.tensors[0], number=i, name=f"/layer{i}/Conv_output_0")
        for i in range(4000)
    )
    store = StoreWriter(tmp_path / "s.zarr", msgspec.structs.replace(made, tensors=tensors))
    store.close()
    assert "… and 3,980 more rows" in shown(cnatool.open(tmp_path / "s.zarr")).text


def test_a_verification(tmp_path: Path) -> None:
    record_network(tmp_path / "s.zarr", {"train": 60})
    whole = cnatool.verify(tmp_path / "s.zarr")
    assert "0 faults" in shown(whole).text
    assert repr(whole).endswith("0 faults>")
    (tmp_path / "s.zarr/splits/train/labels/c.0").unlink()
    damaged = cnatool.verify(tmp_path / "s.zarr")
    (rows,) = shown(damaged).tables
    assert [row[2] for row in rows[1:]] == [fault.problem for fault in damaged.faults]
