"""Samples of any length: every number equals that of the sample run alone by ONNX Runtime."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import onnx
import onnxruntime as ort
import polars as pl
import pytest
import zarr
from onnx import TensorProto, helper
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.errors import DataError
from cnatool.records.ragged import Ragged

STATISTICS = ("sum", "abs_sum", "max")


def sequences(time: int | str = "t", batch: int | str = "n") -> onnx.ModelProto:
    """A convolution, attention, a recurrence, and products over rows of all samples together."""
    b = Builder(4)
    b.node("Transpose", ["x"], "channels", perm=[0, 2, 1])
    b.node("Conv", ["channels", b.weight("kernel", 8, 6, 3)], "half", strides=[2], pads=[1, 1])
    b.node("Relu", ["half"], "active")
    b.node("Transpose", ["active"], "time_first", perm=[2, 0, 1])
    recurrent = [b.weight("wx", 1, 5, 8), b.weight("wh", 1, 5, 5)]
    b.nodes.append(helper.make_node("RNN", ["time_first", *recurrent], ["states", "state"],
                                    hidden_size=5))  # fmt: skip
    # Rows of all samples in one axis, samples outside and inside.
    b.node("Reshape", ["x", b.constant("flat", np.array([-1, 6]))], "outer")
    b.node("MatMul", ["outer", b.weight("w", 6, 4)], "projected")
    b.node("Reshape", ["states", b.constant("flat5", np.array([-1, 5]))], "inner")
    b.node("MatMul", ["x", b.weight("q", 6, 6)], "query")
    b.node("MatMul", ["query", "channels"], "scores")
    b.node("Softmax", ["scores"], "weights", axis=-1)
    b.node("MatMul", ["weights", "x"], "attended")
    b.node("ReduceMean", ["attended"], "mean", axes=[1], keepdims=0)
    b.node("MatMul", ["mean", b.weight("v", 6, 3)], "y")
    return b.model({"x": (batch, time, 6)}, {"y": (batch, 3)})


def samples(lengths: list[int]) -> list[np.ndarray]:
    rng = np.random.default_rng(sum(lengths))
    return [rng.random((length, 6), np.float32) for length in lengths]


def parquet(path: Path, rows: list[np.ndarray]) -> Path:
    column = pl.Series("x", [row.tolist() for row in rows], pl.List(pl.List(pl.Float32)))
    labels = pl.Series("label", np.arange(len(rows)) % 3)
    pl.DataFrame([column, labels]).write_parquet(path)
    return path


LENGTHS = [7, 3, 12, 7, 7, 1, 40, 3, 12, 7, 2, 5]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("any")
    saved(sequences(), place / "m.onnx")
    parquet(place / "d.parquet", samples(LENGTHS))
    return place


def run_alone(path: Path, names: list[str], rows: list[np.ndarray]) -> list[dict[str, np.ndarray]]:
    model = onnx.load(path)
    known = {output.name for output in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in known)
    session = ort.InferenceSession(model.SerializeToString())
    results = (session.run(names, {"x": row[None]}) for row in rows)
    return [dict(zip(names, values, strict=True)) for values in results]


@pytest.mark.parametrize("options", [{}, {"batch_size": 2}, {"batch_size": 1}])
def test_each_sample_as_alone(folder: Path, tmp_path: Path, options: dict[str, int]) -> None:
    notes = Notes()
    store = cnatool.dump(
        folder / "m.onnx", folder / "d.parquet", tmp_path / "s.zarr", statistics=STATISTICS,
        observer=notes, **options,
    )  # fmt: skip
    rows, split = samples(LENGTHS), store.splits["all"]
    tensors = {tensor.name: tensor for tensor in store.record.tensors}
    assert {"half", "projected", "inner", "scores", "attended", "states", "y"} <= tensors.keys()
    assert "1 to 40" in " ".join(notes.texts)
    alone = run_alone(folder / "m.onnx", list(tensors), rows)
    sums = {name: split.statistics(name)[:] for name in (*STATISTICS, "count")}
    for i, values in enumerate(alone):
        np.testing.assert_array_equal(split.inputs()[i], rows[i])
        np.testing.assert_allclose(split.outputs()[i], values["y"][0], rtol=1e-5, atol=1e-6)
        for name, tensor in tensors.items():
            value = values[name].astype(np.float64)
            column = {key: array[i, tensor.number] for key, array in sums.items()}
            assert column["count"] == value.size
            scale = np.abs(value).sum()
            assert abs(column["sum"] - value.sum()) <= 1e-6 * scale
            assert abs(column["abs_sum"] - scale) <= 1e-6 * scale
            assert column["max"] == pytest.approx(value.max(), rel=1e-5)
            if tensor.kept == "full" and name != "y":
                stored = split.activations(name)[i]
                assert stored.size == value.size
                np.testing.assert_allclose(stored.ravel(), value.ravel(), rtol=1e-4, atol=1e-6)
    assert "all" in cnatool.score(store).splits
    assert not cnatool.verify(store.path).faults


def test_two_axes_keep_sums(folder: Path, tmp_path: Path) -> None:
    store = cnatool.dump(folder / "m.onnx", folder / "d.parquet", tmp_path / "s.h5")
    kept = {tensor.name: tensor.kept for tensor in store.record.tensors}
    assert kept["scores"] == kept["weights"] == "statistics"
    assert kept["query"] == kept["half"] == kept["projected"] == "full"


def write_npz(path: Path, values: np.ndarray, offsets: np.ndarray, y: np.ndarray) -> str:
    arrays = {"x/values": values, "x/offsets": offsets, "y": y}
    np.savez(path / "d.npz", **arrays)
    return "d.npz"


def write_bare_npz(path: Path, values: np.ndarray, offsets: np.ndarray, y: np.ndarray) -> str:
    np.savez_compressed(path / "b.npz", values=values, offsets=offsets.astype(np.uint32), y=y)
    return "b.npz"


def write_hdf5(path: Path, values: np.ndarray, offsets: np.ndarray, y: np.ndarray) -> str:
    with h5py.File(path / "d.h5", "w") as file:
        file["x/values"], file["x/offsets"], file["y"] = values, offsets, y
    return "d.h5"


def write_zarr(path: Path, values: np.ndarray, offsets: np.ndarray, y: np.ndarray) -> str:
    root = zarr.open_group(path / "d.zarr", mode="w")
    group = root.create_group("x")
    group.create_array("values", data=values, chunks=(5, 6))
    group.create_array("offsets", data=offsets)
    root.create_array("y", data=y)
    return "d.zarr"


@pytest.mark.parametrize("write", [write_npz, write_bare_npz, write_hdf5, write_zarr])
def test_values_and_offsets(write, folder: Path, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    rows = Ragged.join(samples(LENGTHS))
    data = tmp_path / write(tmp_path, rows.values, rows.offsets, np.arange(len(rows)) % 3)
    options = {"keep": "statistics"}
    one = cnatool.dump(folder / "m.onnx", data, tmp_path / "one.zarr", **options)
    other = cnatool.dump(folder / "m.onnx", folder / "d.parquet", tmp_path / "o.zarr", **options)
    pair = one.splits["all"], other.splits["all"]
    assert pair[0].record.fingerprint == pair[1].record.fingerprint
    assert pair[0].statistics()[:].tobytes() == pair[1].statistics()[:].tobytes()


def test_variable_length_datasets(folder: Path, tmp_path: Path) -> None:
    b = Builder(1)
    b.node("Unsqueeze", ["x", b.constant("axis", np.array([1]))], "channel")
    b.node("Conv", ["channel", b.weight("k", 4, 1, 3)], "c", pads=[1, 1])
    b.node("ReduceMax", ["c"], "y", axes=[2], keepdims=0)
    saved(b.model({"x": ("n", "t")}, {"y": ("n", 4)}), tmp_path / "m.onnx")
    rows = [row[:, 0] for row in samples(LENGTHS)]
    with h5py.File(tmp_path / "d.h5", "w") as file:
        dataset = file.create_dataset("x", (len(rows),), h5py.vlen_dtype(np.float32))
        for i, row in enumerate(rows):
            dataset[i] = row
    split = cnatool.dump(tmp_path / "m.onnx", tmp_path / "d.h5", tmp_path / "s.zarr").splits["all"]
    for i, row in enumerate(rows):
        np.testing.assert_array_equal(split.inputs()[i], row)
        assert split.activations("c")[i].shape == (4, len(row))


def test_resumed_and_in_parts(folder: Path, tmp_path: Path) -> None:
    lengths = (LENGTHS * 40)[:400]
    data = parquet(tmp_path / "d.parquet", samples(lengths))
    model, options = folder / "m.onnx", {"keep": "statistics"}

    class Stopped(Notes):
        def progress(self, stage: str, done: int, total: int) -> None:
            if done > total // 2:
                raise KeyboardInterrupt

    whole = cnatool.dump(model, data, tmp_path / "w.zarr", **options)
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(model, data, tmp_path / "r.zarr", observer=Stopped(), **options)
    resumed = cnatool.dump(model, data, tmp_path / "r.zarr", resume=True, **options)
    parts = [
        cnatool.dump(model, data, tmp_path / f"p{k}.zarr", part=f"{k}/3", **options).path
        for k in (1, 2, 3)
    ]
    merged = cnatool.merge(parts, tmp_path / "m.zarr")
    expected = whole.splits["all"]
    for store in (resumed, merged):
        split = store.splits["all"]
        for name in ("sum", "count"):
            assert split.statistics(name)[:].tobytes() == expected.statistics(name)[:].tobytes()
        assert split.outputs()[:].tobytes() == expected.outputs()[:].tobytes()
    again = cnatool.dump(
        model, data, tmp_path / "i.zarr", inputs_from=whole.path, **options
    ).splits["all"]
    assert again.statistics()[:].tobytes() == expected.statistics()[:].tobytes()


def test_model_of_one_length(tmp_path: Path) -> None:
    saved(sequences(time=12), tmp_path / "m.onnx")
    rows = Ragged.join(samples([12, 5, 12]))
    np.savez(tmp_path / "d.npz", **{"x/values": rows.values, "x/offsets": rows.offsets})
    with pytest.raises(DataError, match=r"differ in length, \(\?, 6\) each, and input 'x'.* 12"):
        cnatool.dump(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "s.zarr")
    data = parquet(tmp_path / "d.parquet", samples([12, 5, 12]))
    with pytest.raises(DataError, match="row 1, has 5 values where the first row has 12"):
        cnatool.dump(tmp_path / "m.onnx", data, tmp_path / "s.zarr")


def masked(length: int | str) -> onnx.ModelProto:
    """The mean of the embeddings of real tokens."""
    b = Builder(2)
    b.node("Gather", [b.weight("table", 9, 4), "input_ids"], "rows")
    b.node("Cast", ["attention_mask"], "real", to=TensorProto.FLOAT)
    b.node("Unsqueeze", ["real", b.constant("last", np.array([2]))], "column")
    b.node("Mul", ["rows", "column"], "kept")
    b.node("ReduceSum", ["kept", b.constant("along", np.array([1]))], "total", keepdims=0)
    b.node("MatMul", ["total", b.weight("w", 4, 3)], "y")
    shape = ("n", length)
    return b.model({"input_ids": shape, "attention_mask": shape}, {"y": ("n", 3)},
                   dtype=TensorProto.INT64)  # fmt: skip


def test_tokens_are_padded_where_a_mask_tells(tmp_path: Path) -> None:
    model = masked(10)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    saved(model, tmp_path / "fixed.onnx")
    free = masked("t")
    free.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    saved(free, tmp_path / "free.onnx")
    rng = np.random.default_rng(0)
    lengths = [4, 10, 1, 6, 6, 9]
    pl.DataFrame({"input_ids": [rng.integers(1, 9, n).tolist() for n in lengths]}).write_parquet(
        tmp_path / "d.parquet"
    )
    stores = [
        cnatool.dump(tmp_path / f"{name}.onnx", tmp_path / "d.parquet", tmp_path / f"{name}.zarr")
        for name in ("fixed", "free")
    ]
    one, other = (store.splits["all"].outputs()[:] for store in stores)
    np.testing.assert_allclose(one, other, rtol=1e-6)
    inputs = [store.splits["all"].inputs()[:] for store in stores]
    assert inputs[0].lengths.tolist() == inputs[1].lengths.tolist() == lengths
    longer = [rng.integers(1, 9, n).tolist() for n in (4, 11)]
    pl.DataFrame({"input_ids": longer}).write_parquet(tmp_path / "l.parquet")
    with pytest.raises(DataError, match=r"sample 1 has length 11, .* takes 10 at most"):
        cnatool.dump(tmp_path / "fixed.onnx", tmp_path / "l.parquet", tmp_path / "s.zarr")


def test_bad_samples(folder: Path, tmp_path: Path) -> None:
    rows = [row.tolist() for row in samples([3, 5, 4, 2])]
    kind = {"x": pl.List(pl.List(pl.Float32))}
    pl.DataFrame({"x": [rows[0], [], None, rows[3]]}, kind).write_parquet(tmp_path / "d.parquet")
    with pytest.raises(DataError, match=r"row 1, is empty: a sample has at least one value"):
        cnatool.dump(folder / "m.onnx", tmp_path / "d.parquet", tmp_path / "s.zarr")
    store = cnatool.dump(
        folder / "m.onnx", tmp_path / "d.parquet", tmp_path / "s.zarr", on_error="skip"
    )
    assert store.splits["all"].inputs()[:].lengths.tolist() == [3, 2]
    rows[2][1] = rows[2][1][:4]
    pl.DataFrame({"x": rows}, kind).write_parquet(tmp_path / "e.parquet")
    with pytest.raises(DataError, match=r"row 2, has 4 values in a list where the first row has 6"):
        cnatool.dump(folder / "m.onnx", tmp_path / "e.parquet", tmp_path / "t.zarr")
    np.savez(tmp_path / "o.npz", values=np.ones((4, 6), np.float32), offsets=[0, 3, 2, 4])
    with pytest.raises(DataError, match="does not ascend from 0 to the 4 values"):
        cnatool.dump(folder / "m.onnx", tmp_path / "o.npz", tmp_path / "t.zarr")
    np.savez(tmp_path / "z.npz", values=np.ones((4, 6), np.float32), offsets=[0, 3, 3, 4])
    with pytest.raises(DataError, match="sample 1 is empty"):
        cnatool.dump(folder / "m.onnx", tmp_path / "z.npz", tmp_path / "t.zarr")


def test_length_baked_into_the_graph(tmp_path: Path) -> None:
    b = Builder(3)
    b.node("Reshape", ["x", b.constant("shape", np.array([-1, 30]))], "flat")
    b.node("MatMul", ["flat", b.weight("w", 30, 3)], "y")
    saved(b.model({"x": ("n", "t", 6)}, {"y": ("n", 3)}), tmp_path / "m.onnx")
    data = parquet(tmp_path / "d.parquet", samples([5, 5, 5, 8, 5]))
    with pytest.raises(cnatool.ModelError, match="fails with others, as of 8"):
        cnatool.dump(tmp_path / "m.onnx", data, tmp_path / "s.zarr")
    # Samples of one length do not need another.
    same = parquet(tmp_path / "e.parquet", samples([5, 5, 5]))
    assert len(cnatool.dump(tmp_path / "m.onnx", same, tmp_path / "s.zarr").splits["all"]) == 3
