"""Recorded arrays of bfloat16, from any framework, are stored at 16 bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
import zarr

import cnatool
from cnatool.errors import DataError

RNG = np.random.default_rng(2)
X = RNG.normal(size=(6, 8)).astype(ml_dtypes.bfloat16)
HIDDEN = RNG.normal(size=(6, 5)).astype(ml_dtypes.bfloat16)
Y = RNG.normal(size=(6, 3)).astype(ml_dtypes.bfloat16)
BOXES = [RNG.normal(size=(count, 4)).astype(ml_dtypes.bfloat16) for count in (2, 0, 1, 3, 1, 1)]


def as_torch(array: Any) -> Any:
    torch = pytest.importorskip("torch")
    return torch.from_numpy(array.astype(np.float32)).to(torch.bfloat16)


@pytest.mark.parametrize("convert", [lambda array: array, as_torch], ids=["ml_dtypes", "torch"])
@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_it_stays_as_it_is(convert: Any, suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"s{suffix}"
    with cnatool.create_store(
        path, tensors=["boxes", "hidden", "y"], outputs=["y"], ragged=["boxes"], layers=["hidden"]
    ) as recording:
        for rows in (slice(0, 4), slice(4, 6)):
            recording.append(
                "all",
                inputs=convert(X[rows]),
                outputs=convert(Y[rows]),
                activations={
                    "hidden": convert(HIDDEN[rows]),
                    "boxes": [convert(sample) for sample in BOXES[rows]],
                },
            )
    store = cnatool.open(path)
    split = store.splits["all"]
    assert [tensor.stored for tensor in store.tensors] == ["bfloat16", "bfloat16", None]
    assert {array.stored for array in (*store.record.inputs, *store.record.outputs)} == {"bfloat16"}
    for found, expected in (
        (split.inputs(), X), (split.outputs(), Y), (split.activations("hidden"), HIDDEN),
    ):  # fmt: skip
        np.testing.assert_array_equal(found[:], expected.astype(np.float32), strict=True)
    boxes = np.concatenate(BOXES).astype(np.float32)
    np.testing.assert_array_equal(split.activations("boxes")[:].values, boxes, strict=True)
    sums = HIDDEN.astype(np.float64).sum(axis=1)
    np.testing.assert_allclose(split.statistics()[:][:, 1], sums)
    assert cnatool.verify(path).faults == ()
    if suffix == ".zarr":
        array: Any = zarr.open_group(path, mode="r")["splits/all/outputs/0"]
        np.testing.assert_array_equal(array[:], Y.view(np.uint16))


def test_batches_of_another_type_are_refused(tmp_path: Path) -> None:
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["t"], layers=["t"]) as store:
        store.append("all", inputs=X, outputs=Y, activations={"t": HIDDEN})
        wide = Y.astype(np.float32)
        with pytest.raises(DataError, match=r"'output': float32 \(3,\).*but bfloat16 \(3,\)"):
            store.append("all", inputs=X, outputs=wide, activations={"t": HIDDEN})
