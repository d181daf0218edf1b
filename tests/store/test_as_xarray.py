"""A Dataset has the values of the store, bit for bit, under names that say what they are."""

from __future__ import annotations

import pickle
import shutil
import subprocess
import sys
import tracemalloc
from pathlib import Path

import msgspec
import numpy as np
import pytest
from support.dumps import commit_often
from support.networks import Builder, saved
from support.notes import Notes
from support.parts import Parts
from support.stores import append, arrays, record, write_store

import cnatool
from cnatool.errors import MetricError, StoreInUseError, StoreWarning, UsageError
from cnatool.records.store import TensorRecord
from cnatool.store.writer import StoreWriter

xarray = pytest.importorskip("xarray", reason="xarray is not installed")
to_identifier = pytest.importorskip("cnatool.store.as_xarray").to_identifier


def check(split: cnatool.Split) -> None:
    """Compare every array of a split with the variable that it became."""
    dataset = split.to_xarray()
    names = {array.attrs["long_name"]: name for name, array in dataset.items()}
    for tensor in split.store.tensors:
        if tensor.stored is not None or tensor.output is not None:
            found = dataset[names[tensor.name]]
            expected = split.activations(tensor.name)
            assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
            np.testing.assert_array_equal(found.values, expected[:])
    for name in split.store.record.statistics:
        np.testing.assert_array_equal(dataset[name].values, split.statistics(name)[:])
    assert dataset.tensor.values.tolist() == [t.name for t in split.store.tensors]
    np.testing.assert_array_equal(dataset.id.values, split.ids[:])
    if split.labels is not None:
        np.testing.assert_array_equal(dataset.label.values, split.labels[:])
    for number, array in enumerate(split.store.record.inputs):
        found = next(v for v in dataset.values() if v.attrs["role"] == "input")
        assert found.attrs["long_name"] == array.name
        np.testing.assert_array_equal(found.values, split.inputs(number)[:])


@pytest.mark.parametrize("form", ["zarr", "h5", "zarr.zip"])
@pytest.mark.parametrize("dask", [True, False])
def test_values(form: str, dask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if not dask:
        monkeypatch.setattr("cnatool.store.as_xarray._has_dask", lambda: False)
    path = tmp_path / f"s.{form.removesuffix('.zip')}"
    write_store(path, "none")
    if form == "zarr.zip":
        shutil.make_archive(str(path), "zip", path)
        path = path.with_name("s.zarr.zip")
    store = cnatool.open(path)
    check(store.splits["train"])
    tree = store.to_xarray()
    assert list(tree) == ["train"]
    assert (tree["train"].t0.chunks is None) == (not dask)


def test_a_merged_store_and_a_part(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    commit_often(monkeypatch)
    here = Parts(tmp_path)
    parts = here.parts(3)
    check(cnatool.merge(parts, tmp_path / "merged.zarr").splits["train"])
    check(cnatool.open(parts[1]).splits["train"])


@pytest.mark.parametrize("dask", [True, False])
def test_indexing(dask: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What xarray selects is what it selects from the same values in memory."""
    monkeypatch.setattr("cnatool.store.as_xarray._has_dask", lambda: dask)
    write_store(tmp_path / "s.zarr")
    dataset = cnatool.open(tmp_path / "s.zarr").splits["train"].to_xarray()
    lazy = dataset["t3"]
    _, first, second = lazy.dims
    memory = lazy.copy(data=lazy.values)
    points = xarray.DataArray([1, 0, 2, 2], dims="point")
    for selection in (
        *({"sample": 3}, {"sample": -1, first: -1}, {"sample": [5, 5, 1], second: 2}),
        *({"sample": slice(None, None, -3)}, {first: [2, 0]}, {first: 1, second: [0, 3]}),
        *({"sample": [9, 1], first: [0, 2], second: slice(1, 3)}, {"sample": slice(4, 4)}),
        *({"sample": points, first: points}, {"sample": np.arange(70) % 9 == 1, first: 0}),
    ):
        xarray.testing.assert_identical(lazy.isel(selection).compute(), memory.isel(selection))
    threes = dataset.t1.where(dataset.label == 1, drop=True)
    assert len(threes) == int((dataset.label == 1).sum())
    groups = dataset["sum"].groupby("label").mean()
    assert groups.sizes == {"label": 2, "tensor": 6}


def test_indices_outside_an_axis_are_errors(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also without Dask, which checks them itself; ids and labels are always read without it."""
    monkeypatch.setattr("cnatool.store.as_xarray._has_dask", lambda: False)
    write_store(tmp_path / "s.zarr")
    dataset = cnatool.open(tmp_path / "s.zarr").splits["train"].to_xarray()
    lazy = dataset["t3"]
    _, first, _ = lazy.dims
    rows = len(lazy)
    outside = xarray.DataArray([0, rows], dims="point")
    for selection in (
        *({"sample": rows}, {"sample": [0, rows]}, {first: 99}),
        *({"sample": [0, rows], first: [0, 1]}, {"sample": slice(0, 0), first: 99}),
        {"sample": outside, first: outside % 2},
    ):
        with pytest.raises(IndexError, match="out of bounds"):
            lazy.isel(selection).compute()
    with pytest.raises(IndexError, match="out of bounds"):
        dataset.id.isel(sample=rows).compute()


def test_axes_of_images(tmp_path: Path) -> None:
    b = Builder()
    tensor = b.node("Relu", [b.conv("image", "conv1", 3, 4, 3)], "relu1")
    tensor = b.node("MaxPool", [tensor], "pool", kernel_shape=[2, 2], strides=[2, 2])
    b.gemm(b.node("Flatten", [tensor], "flat"), "logits", 64, 10)
    saved(b.model({"image": ("n", 3, 8, 8)}, {"logits": ("n", 10)}), tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (20, 8, 8, 3), np.uint8), rng.integers(0, 10, 20)
    np.savez(tmp_path / "test.npz", x=x, y=y)
    store = cnatool.dump(
        tmp_path / "net.onnx", tmp_path / "test.npz", tmp_path / "s.zarr", observer=Notes()
    )
    (split,) = store.splits.values()
    dataset = split.to_xarray()
    assert dataset.x_input.dims == ("sample", "y_8", "x_8", "channel_3")
    assert dataset.relu1.dims == dataset.conv1.dims == ("sample", "channel_4", "y_8", "x_8")
    assert dataset.pool.dims == ("sample", "channel_4", "y_4", "x_4")
    assert split.to_xarray("relu1").relu1.dims == ("sample", "channel", "y", "x")
    both = split.to_xarray(["conv*", "relu1"])
    np.testing.assert_array_equal(np.maximum(both.conv1, 0).values, both.relu1.values)
    assert dataset.logits.attrs == {"long_name": "logits", "role": "output"}


def test_names_that_are_no_identifiers_or_taken(tmp_path: Path) -> None:
    wanted = ["/conv1/Conv:0", "conv1/Conv.0", "12", "id", "sum", "class", "µ", "///", "feature"]
    tensors = tuple(
        TensorRecord(i, name, "Gemm", "other", "float32", (2,), 0, "full", None, "float32")
        for i, name in enumerate(wanted)
    )
    made = msgspec.structs.replace(record(), tensors=tensors, outputs=(), statistics=("sum",))
    path = tmp_path / "s.zarr"
    writer = StoreWriter(path, made)
    writer.split("test", None, source="made", labels=False).finish()
    dataset = cnatool.open(path).splits["test"].to_xarray()
    tensors_by_name = {name: array.attrs["long_name"] for name, array in dataset.items()}
    assert tensors_by_name == {
        "x": "x",
        "conv1_Conv_0": "/conv1/Conv:0",
        "conv1_Conv_0_activation": "conv1/Conv.0",
        "t_12": "12",
        "id_activation": "id",
        "sum_activation": "sum",
        "t_class": "class",
        "µ": "µ",
        "activation_7": "///",
        "feature_activation": "feature",
        "sum": "sum",
    }
    assert dataset.tensor.values.tolist() == wanted
    assert "label" not in dataset.coords


@pytest.mark.parametrize("name", ["a b", "1", "ünï", "if", "__x__", "a/b:0", "²", "", "-"])
def test_identifiers(name: str) -> None:
    made = to_identifier(name)
    assert made == "" or made.isidentifier()
    assert to_identifier(made) == made


def test_a_store_that_grows_shows_its_committed_rows(tmp_path: Path) -> None:
    writer = StoreWriter(tmp_path / "s.zarr", record())
    split = writer.split("test", 300, source="made", labels=True, most=64)
    data = arrays(300)
    append(split, data, 0, 130)
    half = cnatool.open(tmp_path / "s.zarr").splits["test"].to_xarray()
    assert half.sizes["sample"] == 128
    kept = pickle.dumps(half.a_b)
    np.testing.assert_array_equal(pickle.loads(kept).values, data["b"][:128])
    append(split, data, 130, 300)
    np.testing.assert_array_equal(half.a_b.values, data["b"][:128])
    with pytest.raises(StoreInUseError, match="has changed since it was opened. Open it again"):
        pickle.loads(kept)


def test_another_process_opens_the_store_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_store(tmp_path / "s.zarr")
    monkeypatch.chdir(tmp_path)
    dataset = cnatool.open("s.zarr").splits["train"].to_xarray(["t1"])
    (tmp_path / "kept").write_bytes(pickle.dumps(dataset))
    assert (tmp_path / "kept").stat().st_size < 20_000
    script = f"import pickle; d = pickle.load(open({str(tmp_path / 'kept')!r}, 'rb'))"
    code = f"{script}; print(float(d.t1.sum()))"
    total = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd="/"
    )
    assert float(total.stdout) == float(dataset.t1.sum())


def test_rows_are_read_when_they_are_used(tmp_path: Path) -> None:
    """A block at a time: memory does not grow with the store."""
    rows, row = 60, np.zeros((1, 1 << 20), np.float32)
    with cnatool.create_store(tmp_path / "s.zarr", tensors=["wide"], outputs=["o"]) as store:
        for _ in range(rows):
            store.append("test", inputs=[[0.0]], outputs=[[0.0]], activations={"wide": row + 1})
    whole = rows * row.nbytes
    tracemalloc.start()
    dataset = cnatool.open(tmp_path / "s.zarr").splits["test"].to_xarray()
    assert tracemalloc.get_traced_memory()[1] < 1 << 22
    total = dataset.wide.astype("float64").sum().compute(scheduler="synchronous")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (float(total), peak < whole // 2) == (whole / 4, True)


def test_inputs_of_a_store_that_is_gone_are_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "test.npz", x=rng.integers(0, 9, (20, 64), np.uint8))
    b = Builder()
    b.gemm("x", "out", 64, 3)
    saved(b.model({"x": ("n", 64)}, {"out": ("n", 3)}), tmp_path / "net.onnx")
    first, second = tmp_path / "a.zarr", tmp_path / "b.zarr"
    data = tmp_path / "test.npz"
    cnatool.dump(tmp_path / "net.onnx", data, first, observer=Notes())
    made = cnatool.dump(tmp_path / "net.onnx", data, second, inputs_from=first, observer=Notes())
    (split,) = made.splits.values()
    check(split)
    shutil.rmtree(first)
    (split,) = cnatool.open(second).splits.values()
    with pytest.warns(StoreWarning, match="without raw inputs: .*there is no such store"):
        dataset = split.to_xarray()
    assert set(dataset) == {"out", "sum"}


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    writer = StoreWriter(tmp_path / "s.zarr", record())
    writer.split("test", None, source="made", labels=False).finish()
    split = cnatool.open(tmp_path / "s.zarr").splits["test"]
    with pytest.raises(MetricError, match="no tensor 'none'. `cnatool inspect"):
        split.to_xarray(["a/b", "none"])
    with pytest.raises(MetricError, match="only statistics of tensor 'thin' are stored"):
        split.to_xarray("thin")
    assert split.to_xarray("out").out.dtype == np.float32
    monkeypatch.setitem(sys.modules, "xarray", None)
    monkeypatch.delitem(sys.modules, "cnatool.store.as_xarray")
    with pytest.raises(UsageError, match=r"pip install 'cnatool\[xarray\]'"):
        split.to_xarray()
