from __future__ import annotations

import gzip
import struct
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import zarr
from onnx import TensorProto, helper
from support.networks import Builder, mlp, residual_convnet, saved
from support.notes import Notes
from support.reference import made_values

import cnatool
from cnatool.errors import BackendError, DataError, ModelError, NotAStoreError, UsageError
from cnatool.records.layout import StoreRows
from cnatool.store import chunks
from cnatool.store.writer import SplitWriter


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """A folder with train.npz and test.npz of 8×8 pictures."""
    rng = np.random.default_rng(7)
    folder = tmp_path / "digits"
    folder.mkdir()
    for name, rows in (("train", 150), ("test", 40)):
        x = rng.integers(0, 256, (rows, 8, 8), np.uint8)
        np.savez_compressed(folder / f"{name}.npz", x=x, y=rng.integers(0, 10, rows))
    return folder


def test_compression_changes_no_value(digits: Path, tmp_path: Path) -> None:
    path = saved(residual_convnet(), tmp_path / "net.onnx")
    stores = {
        codec: cnatool.dump(path, digits, tmp_path / f"{codec}.zarr", codec=codec)
        for codec in ("lz4", "zstd", "gzip", "none")
    }
    for codec, store in stores.items():
        for tensor in store.tensors:
            np.testing.assert_array_equal(
                store.splits["test"].activations(tensor.name)[:],
                stores["lz4"].splits["test"].activations(tensor.name)[:],
            )
        metadata = store.path / "splits/test/labels/zarr.json"
        names = {"lz4": "blosc", "zstd": "blosc", "gzip": "gzip", "none": ""}
        assert names[codec] in metadata.read_text()
        assert ("blosc" in metadata.read_text()) == (codec in ("lz4", "zstd"))


def test_everything_is_in_the_store(digits: Path, tmp_path: Path) -> None:
    model = residual_convnet()
    path = saved(model, tmp_path / "net.onnx")
    notes = Notes()
    store = cnatool.dump(
        path, digits, tmp_path / "s.zarr", batch_size=32, tags={"epoch": "3"}, observer=notes
    )
    assert list(store.splits) == ["train", "test"]
    assert store.record.tags == {"epoch": "3"}
    assert notes.texts[0] == (
        "x (8, 8) uint8 -> input 'x' (1, 8, 8) float32: reshaped, divided by 255"
    )
    assert notes.done[-1] == ("test", 40, 40)
    for name in ("train", "test"):
        raw = np.load(digits / f"{name}.npz")
        split = store.splits[name]
        np.testing.assert_array_equal(split.inputs()[:], raw["x"])
        np.testing.assert_array_equal(split.labels[:], raw["y"])
        assert [str(i) for i in split.ids[:]] == [str(i) for i in range(len(raw["x"]))]
        feeds = {"x": raw["x"][:, None].astype(np.float32) / np.float32(255)}
        truth = made_values(model, feeds)
        assert [tensor.name for tensor in store.tensors] == list(truth)
        sums = split.statistics("sum")[:]
        for tensor in store.tensors:
            got = split.activations(tensor.name)[:]
            np.testing.assert_allclose(got, truth[tensor.name], rtol=1e-4, atol=1e-5)
            flat = got.reshape(len(got), -1).astype(np.float64)
            error = np.abs(sums[:, tensor.number] - flat.sum(axis=1))
            assert (error <= 1e-14 * np.abs(flat).sum(axis=1)).all()


def test_statistics_only_and_narrowing(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    full = cnatool.dump(path, digits, tmp_path / "full.zarr")
    thin = cnatool.dump(path, digits, tmp_path / "thin.zarr", keep="statistics")
    half = cnatool.dump(path, digits, tmp_path / "half.zarr", dtype="float16", tensors=["fc*"])
    assert {tensor.stored for tensor in thin.tensors} == {None}
    # Inside the graph rows are summed in float32, whole tensors outside in float64.
    absolute = np.stack(
        [
            np.abs(full.splits["train"].activations(tensor.name)[:])
            .reshape(len(thin.splits["train"]), -1)
            .sum(axis=1)
            for tensor in full.tensors
        ],
        axis=1,
    )
    error = full.splits["train"].statistics()[:] - thin.splits["train"].statistics()[:]
    assert (np.abs(error) <= 1e-6 * absolute).all()
    np.testing.assert_array_equal(
        full.splits["train"].outputs()[:], thin.splits["train"].outputs()[:]
    )
    assert [tensor.name for tensor in half.tensors] == ["fc1", "fc2", "fc3"]
    expected = full.splits["test"].activations("fc2")[:].astype(np.float16)
    np.testing.assert_array_equal(half.splits["test"].activations("fc2")[:], expected)


@pytest.mark.parametrize("bound", [1, 7])
def test_model_bound_to_a_batch(bound: int, digits: Path, tmp_path: Path) -> None:
    free = saved(mlp(), tmp_path / "free.onnx")
    fixed = saved(mlp(batch=bound), tmp_path / "fixed.onnx")
    notes = Notes()
    expected = cnatool.dump(free, digits, tmp_path / "a.zarr")
    got = cnatool.dump(fixed, digits, tmp_path / "b.zarr", observer=notes)
    assert any(f"bound to {bound} sample" in text for text in notes.texts)
    assert got.record.runtime.batch_size > bound
    for name in ("train", "test"):
        for tensor in expected.tensors:
            np.testing.assert_allclose(
                got.splits[name].activations(tensor.name)[:],
                expected.splits[name].activations(tensor.name)[:],
                rtol=1e-4,
                atol=1e-6,
            )
    asked = cnatool.dump(fixed, digits, tmp_path / "c.zarr", batch_size=bound)
    assert asked.record.runtime.batch_size == bound
    np.testing.assert_allclose(
        asked.splits["test"].outputs()[:], expected.splits["test"].outputs()[:], rtol=1e-4
    )


def test_limit_and_fewer_samples_than_a_probe(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    store = cnatool.dump(path, digits, tmp_path / "s.zarr", limit=1)
    assert [len(split) for split in store.splits.values()] == [1, 1]


def test_named_splits(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    store = cnatool.dump(
        path,
        store=tmp_path / "s.zarr",
        splits={"train": digits / "test.npz", "other": digits / "train.npz"},
    )
    assert {name: len(split) for name, split in store.splits.items()} == {"train": 40, "other": 150}


def test_splits_of_different_samples(digits: Path, tmp_path: Path) -> None:
    np.savez(digits / "test.npz", x=np.zeros((5, 64), np.uint8))
    with pytest.raises(DataError, match=r"\(8, 8\) uint8 and \(64,\) uint8"):
        cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), digits, tmp_path / "s.zarr")


def test_preprocessing_is_applied_and_recorded(digits: Path, tmp_path: Path) -> None:
    b = Builder()
    b.node("Identity", ["x"], "out")
    path = saved(b.model({"x": ("n", 64)}, {"out": ("n", 64)}), tmp_path / "net.onnx")
    store = cnatool.dump(path, digits, tmp_path / "s.zarr", scale=0.5, mean=[3.0], std=[2.0])
    raw = np.load(digits / "train.npz")["x"].reshape(150, 64)
    np.testing.assert_allclose(
        store.splits["train"].outputs()[:], (raw * 0.5 - 3) / 2, rtol=1e-6, atol=1e-6
    )
    step = store.record.preprocessing[0]
    assert (step.scale, step.mean, step.std, step.shape) == (0.5, (3.0,), (2.0,), (64,))


def test_two_inputs_and_one_array(digits: Path, tmp_path: Path) -> None:
    b = Builder()
    b.node("Add", ["x", "z"], "out")
    model = b.model({"x": ("n", 64), "z": ("n", 64)}, {"out": ("n", 64)})
    with pytest.raises(
        DataError, match="holds x, y, and no array for 1 of the model's 2 inputs: z"
    ):
        cnatool.dump(saved(model, tmp_path / "net.onnx"), digits, tmp_path / "s.zarr")


def test_no_tensor_with_a_sample_axis(digits: Path, tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", ["x"], "out", keepdims=0)
    value = helper.make_tensor_value_info("out", TensorProto.FLOAT, ())
    model = b.model({"x": ("n", 64)}, {"out": ()})
    assert model.graph.output[0] == value
    path, notes = saved(model, tmp_path / "net.onnx"), Notes()
    with pytest.raises(ModelError, match="With `batch_size=1` all results of a run"):
        cnatool.dump(path, digits, tmp_path / "s.zarr", batch_size=4)
    store = cnatool.dump(path, digits, tmp_path / "s.zarr", scale=1.0, observer=notes)
    assert any("no tensor has one row per sample" in text for text in notes.texts)
    split = store.splits["train"]
    means = split.inputs()[:].reshape(len(split), -1).mean(axis=1)
    np.testing.assert_allclose(split.outputs()[:], means, rtol=1e-6)


def test_output_without_a_sample_axis_is_left_out(digits: Path, tmp_path: Path) -> None:
    b = Builder()
    b.node("ReduceMean", ["x"], "mean", keepdims=0)
    b.gemm("x", "logits", 64, 10)
    model = b.model({"x": ("n", 64)}, {"mean": (), "logits": ("n", 10)})
    store = cnatool.dump(saved(model, tmp_path / "net.onnx"), digits, tmp_path / "s.zarr")
    assert [output.name for output in store.record.outputs] == ["logits"]
    assert [s.name for s in store.record.skipped] == ["mean"]
    assert store.splits["train"].activations("logits").shape == (150, 10)


def test_what_breaks_midway_keeps_what_was_committed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gzipped IDX file that is cut short: the rows before the last commit are safe."""
    monkeypatch.setattr(chunks, "_MOST_ROWS", 8192)
    rows = 20_000
    pixels = np.random.default_rng(0).integers(0, 256, (rows, 8, 8), np.uint8)
    whole = gzip.compress(struct.pack(">I3I", 0x803, rows, 8, 8) + pixels.tobytes(), 1)
    data = tmp_path / "digits-images-idx3-ubyte.gz"
    data.write_bytes(whole[: len(whole) * 9 // 10])
    path = saved(mlp(), tmp_path / "net.onnx")
    notes = Notes()
    with pytest.raises(DataError, match="digits-images-idx3-ubyte.gz"):
        cnatool.dump(path, data, tmp_path / "s.zarr", keep="statistics", observer=notes)
    split = cnatool.open(tmp_path / "s.zarr").splits["all"]
    assert not split.record.complete
    assert len(split) == 16_384
    np.testing.assert_array_equal(split.inputs()[:], pixels[:16_384])
    assert "16,384 of 20,000 rows are safe" in notes.texts[-1]
    assert cnatool.score(tmp_path / "s.zarr").splits["all"].complete is False


def test_what_breaks_before_the_first_commit_leaves_nothing(tmp_path: Path) -> None:
    rows = 200
    whole = gzip.compress(struct.pack(">I3I", 0x803, rows, 8, 8) + bytes(rows * 64), 1)
    data = tmp_path / "digits-images-idx3-ubyte.gz"
    data.write_bytes(whole[:-20])
    with pytest.raises(DataError):
        cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), data, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_path_that_is_taken_is_refused_before_anything_runs(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    first = cnatool.dump(path, digits, tmp_path / "s.zarr", limit=5)
    with pytest.raises(NotAStoreError, match="exists already"):
        cnatool.dump(path, digits, tmp_path / "s.zarr")
    assert len(cnatool.open(first.path).splits["train"]) == 5
    again = cnatool.dump(path, digits, tmp_path / "s.zarr", limit=6, overwrite=True)
    assert len(again.splits["train"]) == 6


def test_a_failing_dump_does_not_cost_the_old_store(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    cnatool.dump(path, digits, tmp_path / "s.zarr", limit=5)
    with pytest.raises(UsageError):
        cnatool.dump(path, digits, tmp_path / "s.zarr", overwrite=True, tensors="no-such")
    assert len(cnatool.open(tmp_path / "s.zarr").splits["train"]) == 5


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
def test_an_overwritten_store_comes_back_if_the_new_one_fails(
    name: str, digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    cnatool.dump(path, digits, tmp_path / name, limit=5)

    def refuse(split: SplitWriter, rows: StoreRows, **_: object) -> None:
        raise DataError("these samples are refused")

    monkeypatch.setattr(SplitWriter, "append", refuse)
    with pytest.raises(DataError, match="refused"):
        cnatool.dump(path, digits, tmp_path / name, overwrite=True)
    assert len(cnatool.open(tmp_path / name).splits["train"]) == 5
    assert sorted(p.name for p in tmp_path.glob("s.*")) == [name]
    assert not list(tmp_path.glob(".*"))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"keep": "stats"}, "`keep='stats'`: full or statistics"),
        ({"dtype": "int8"}, "`dtype='int8'`: float32 or float16 or bfloat16"),
        ({"codec": "brotli"}, "`codec='brotli'`: lz4 or zstd or gzip or none"),
        ({"tags": {"epoch": 3}}, "`tags`: 'epoch'=3: both must be text"),
        ({"limit": 0}, "`limit=0`: at least 1"),
        ({"limit": "3"}, "`limit='3'`: a whole number"),
        ({"batch_size": 2.5}, "`batch_size=2.5`: a whole number"),
    ],
)
def test_wrong_arguments_cost_nothing(
    digits: Path, tmp_path: Path, options: dict[str, object], message: str
) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    cnatool.dump(path, digits, tmp_path / "s.zarr", limit=5, mean=np.array([0.5], np.float32))
    with pytest.raises(UsageError, match=message):
        cnatool.dump(path, digits, tmp_path / "s.zarr", overwrite=True, **options)
    assert len(cnatool.open(tmp_path / "s.zarr").splits["train"]) == 5


def test_objects_in_place_of_paths(tmp_path: Path) -> None:
    model: Any = saved(mlp(), tmp_path / "net.onnx")
    x: Any = np.zeros((5, 64), np.float32)
    with pytest.raises(UsageError, match="`data`: a path, not of type ndarray: save arrays with"):
        cnatool.dump(model, x, tmp_path / "s.zarr")
    with pytest.raises(UsageError, match="`model`: a path, not of type ModelProto: save it with"):
        cnatool.dump(mlp(), tmp_path / "x.npy", tmp_path / "s.zarr")  # type: ignore[arg-type]


def test_another_programs_store_is_not_said_to_be_replaceable(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    zarr.open_group(tmp_path / "s.zarr", mode="w").create_array("a", data=np.zeros(3))
    every: tuple[dict[str, Any], ...] = ({}, {"overwrite": True})
    for options in every:
        with pytest.raises(NotAStoreError, match="is not a cnatool store") as info:
            cnatool.dump(path, digits, tmp_path / "s.zarr", **options)
        assert "overwrite=True" not in str(info.value)


@pytest.mark.parametrize("batch_size", [None, 1, 4])
def test_an_id_outside_of_its_table_is_named_with_its_sample(
    batch_size: int | None, tmp_path: Path
) -> None:
    b = Builder()
    b.node("Gather", [b.weight("table", 50, 4), "ids"], "embedded")
    b.node("ReduceMean", ["embedded"], "y", axes=[1], keepdims=0)
    model = b.model({"ids": ("n", 6)}, {"y": ("n", 4)}, opset=13)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    ids = np.arange(600).reshape(100, 6) % 50
    ids[77, 3] = 50
    np.save(tmp_path / "ids.npy", ids)
    path = saved(model, tmp_path / "net.onnx")
    with pytest.raises(DataError, match="'ids' holds 50 in sample 77, .* from 0 to 49") as info:
        cnatool.dump(path, tmp_path / "ids.npy", tmp_path / "s.zarr", batch_size=batch_size)
    assert "batch_size" not in str(info.value)


def test_an_index_that_the_graph_computes_is_not_blamed_on_the_data(tmp_path: Path) -> None:
    """An input that holds the same number is looked up in another, longer table."""
    b = Builder()
    b.node("Mod", ["ids", b.constant("large", np.array(1000))], "others")
    b.node("Gather", [b.weight("short", 50, 4), "others"], "first")
    b.node("Gather", [b.weight("long", 60, 4), "ids"], "second")
    b.node("Add", ["first", "second"], "sum")
    b.node("ReduceMean", ["sum"], "y", axes=[1], keepdims=0)
    model = b.model({"ids": ("n", 6)}, {"y": ("n", 4)}, opset=13)
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.INT64
    ids = np.arange(600).reshape(100, 6) % 50
    ids[77, 3] = 50
    np.save(tmp_path / "ids.npy", ids)
    with pytest.raises(BackendError, match="idx=50 must be within"):
        cnatool.dump(saved(model, tmp_path / "net.onnx"), tmp_path / "ids.npy", tmp_path / "s.zarr")


def test_data_inside_the_store_that_would_be_replaced(digits: Path, tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    cnatool.dump(path, digits, tmp_path / "s.zarr", limit=5)
    (tmp_path / "s.zarr/splits/data").mkdir()
    digits.joinpath("test.npz").rename(tmp_path / "s.zarr/splits/data/x.npz")
    with pytest.raises(UsageError, match="Name another path for the store"):
        cnatool.dump(
            path, tmp_path / "s.zarr/splits/data/x.npz", tmp_path / "s.zarr", overwrite=True
        )


def test_classes_must_mean_the_same_in_every_split(tmp_path: Path) -> None:
    from PIL import Image

    for split, classes in (("train", "abc"), ("test", "bc")):
        for name in classes:
            folder = tmp_path / "data" / split / name
            folder.mkdir(parents=True)
            Image.new("L", (8, 8)).save(folder / "0.png")
    # A split that lacks some of the classes takes their numbers by name.
    store = cnatool.dump(
        saved(mlp(), tmp_path / "net.onnx"), tmp_path / "data", tmp_path / "s.zarr"
    )
    assert store.splits["test"].labels[:].tolist() == [1, 2]
    assert store.splits["test"].record.classes == ("a", "b", "c")
    (tmp_path / "data/test/b").rename(tmp_path / "data/test/d")
    with pytest.raises(DataError, match="has the classes 0 c, 1 d.*without 'd'"):
        cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), tmp_path / "data", tmp_path / "t.zarr")


def test_sample_axis_of_a_bound_batch_is_found_by_moving_samples(
    digits: Path, tmp_path: Path
) -> None:
    """With as many channels as samples, the first axis alone tells nothing."""

    def network(batch: int | str) -> onnx.ModelProto:
        b = Builder()
        b.conv("x", "conv", 1, 8, 3)
        b.node("Transpose", ["conv"], "turned", perm=[1, 0, 2, 3])
        b.node("Relu", ["turned"], "relu")
        b.node("Transpose", ["relu"], "out", perm=[1, 0, 2, 3])
        return b.model({"x": (batch, 1, 8, 8)}, {"out": (batch, 8, 8, 8)})

    stores = [
        cnatool.dump(saved(network(n), tmp_path / f"{n}.onnx"), digits, tmp_path / f"{n}.zarr")
        for n in (8, "n")
    ]
    assert [t.batch_axis for t in stores[0].tensors] == [0, 1, 1, 0]
    for tensor in stores[1].tensors:
        np.testing.assert_allclose(
            stores[0].splits["train"].activations(tensor.name)[:],
            stores[1].splits["train"].activations(tensor.name)[:],
            rtol=1e-4,
            atol=1e-6,
        )


def test_store_that_cannot_fit_is_refused(
    digits: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(100, 90, 10))
    with pytest.raises(UsageError, match="would need about .* 10 B are free. Use another disk"):
        cnatool.dump(saved(mlp(), tmp_path / "net.onnx"), digits, tmp_path / "s.zarr")
    assert not (tmp_path / "s.zarr").exists()


def test_what_is_fed_is_said(tmp_path: Path) -> None:
    path = saved(mlp(), tmp_path / "net.onnx")
    raw = np.random.default_rng(0).integers(0, 256, (20, 8, 8))
    for dtype, options, warned in (
        (np.float32, {}, True),
        (np.int64, {}, True),
        (np.float32, {"scale": 1 / 255}, False),
        (np.uint8, {}, False),
    ):
        np.savez(tmp_path / "data.npz", x=raw.astype(dtype), targets=raw[:, 0, 0])
        notes = Notes()
        cnatool.dump(
            path,
            tmp_path / "data.npz",
            tmp_path / "s.zarr",
            limit=10,
            overwrite=True,
            observer=notes,
            **options,
        )
        assert notes.texts[0].startswith(f"x (8, 8) {np.dtype(dtype).name} -> input 'x' (64,)")
        assert notes.texts[1] == "split all: 10 of 20 samples of data.npz, no labels found"
        assert any("pass `scale=1/255`" in text for text in notes.texts) == warned


def test_interrupted_replacement_keeps_the_store_it_would_have_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(chunks, "_MOST_ROWS", 8192)
    path = saved(mlp(), tmp_path / "net.onnx")
    pixels = np.random.default_rng(0).integers(0, 256, (20_000, 8, 8), np.uint8)
    np.savez(tmp_path / "data.npz", x=pixels)
    cnatool.dump(path, tmp_path / "data.npz", tmp_path / "s.zarr", keep="statistics", limit=50)

    class Stops(Notes):
        def progress(self, split: str, done: int, rows: int) -> None:
            if done > 10_000:
                raise KeyboardInterrupt

    notes = Stops()
    with pytest.raises(KeyboardInterrupt):
        cnatool.dump(
            path,
            tmp_path / "data.npz",
            tmp_path / "s.zarr",
            keep="statistics",
            overwrite=True,
            observer=notes,
        )
    assert "s.previous.zarr" in notes.texts[-1]
    old = cnatool.open(tmp_path / "s.previous.zarr").splits["all"]
    assert old.record.complete
    assert len(old) == 50
    assert not cnatool.open(tmp_path / "s.zarr").splits["all"].record.complete


def test_names_of_pictures_fit_an_hdf5_store(tmp_path: Path) -> None:
    from PIL import Image

    names = ["train/häuser/1.png", f"train/häuser/{'ö' * 100}.png", "test/häuser/2.png"]
    for name in names:
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 8)).save(tmp_path / "data" / name)
    model = saved(mlp(), tmp_path / "net.onnx")
    store = cnatool.dump(model, tmp_path / "data", tmp_path / "s.h5")
    found = [f"{split}/{name}" for split in store.splits for name in store.splits[split].ids[:]]
    assert found == names
