"""Statistics of units that a dump gathers are those of the values that it would have stored."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from numpy.typing import NDArray
from onnx import TensorProto
from polars.testing import assert_frame_equal
from support.dumps import commit_often, make_data, same_arrays
from support.networks import Builder, residual_convnet, saved
from support.notes import Notes

import cnatool
from cnatool.errors import MetricError, StoreDamagedError, UsageError
from cnatool.records.units import units_folder
from cnatool.store import unit_writer
from cnatool.store.store import Split
from cnatool.store.unit_state import UnitState, read_unit_state

TRAIN, TEST = 333, 150
NAMES = ["s.zarr", "s.h5"]


class Here:
    """Dumps in one folder, which commit every 64 rows and run blocks of 48."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        make_data(folder, TRAIN, TEST)
        saved(residual_convnet(), folder / "net.onnx")
        rng = np.random.default_rng(1)
        for name, rows in (("train", TRAIN), ("test", TEST)):
            x = rng.integers(0, 256, (rows, 1, 8, 8), np.uint8)
            np.savez(folder / f"data/{name}.npz", x=x, y=rng.integers(3, 9, rows))

    def dump(self, store: str, notes: Notes | None = None, **options: Any) -> cnatool.Store:
        given = {"batch_size": 16, "observer": notes, "units": True} | options
        return cnatool.dump(
            self.folder / "net.onnx", self.folder / "data", self.folder / store, **given
        )


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Here:
    commit_often(monkeypatch)
    return Here(tmp_path)


def read(split: Split) -> UnitState:
    """Read the statistics of a split, which has some."""
    state = read_unit_state(split)
    assert state is not None
    return state


def compare(split: Split, truth: Split) -> None:
    """Compare the statistics with NumPy over whole arrays of another store."""
    state, labels = read(split), truth.labels
    assert state.rows == len(truth)
    assert state.tensors
    for number, units in state.tensors.items():
        values = truth.activations(split.store.tensors[number].name)[:].astype(np.float64)
        compare_tensor(units, values.reshape(*values.shape[:2], -1))
        assert units.classes is not None
        assert labels is not None
        np.testing.assert_array_equal(state.labels, np.unique(labels[:]))
        for label, means in zip(state.labels, units.classes.means, strict=True):
            of_class = values[labels[:] == label].reshape(-1, *values.shape[1:])
            axes = (0, *range(2, values.ndim))
            np.testing.assert_allclose(means, of_class.mean(axis=axes), rtol=1e-5, atol=1e-6)


def compare_tensor(units: Any, values: NDArray[np.float64]) -> None:
    """Compare the units of values (n, units, positions)."""
    moments, axes = units.moments, (0, 2)
    centred = values - values.mean(axis=axes)[:, None]
    deviation = values.std(axis=axes)
    np.testing.assert_allclose(moments.mean, values.mean(axis=axes), rtol=1e-6, atol=1e-7)
    np.testing.assert_allclose(moments.deviation, deviation, rtol=1e-6)
    skewness = (centred**3).mean(axis=axes) / deviation**3
    np.testing.assert_allclose(moments.skewness, skewness, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(moments.count, values.shape[0] * values.shape[2])
    np.testing.assert_array_equal(moments.minimum, values.min(axis=axes))
    np.testing.assert_array_equal(moments.maximum, values.max(axis=axes))
    np.testing.assert_array_equal(moments.zeros, (values == 0).sum(axis=axes))
    np.testing.assert_array_equal(moments.positives, (values > 0).sum(axis=axes))
    largest = values.max(axis=2)
    order = np.argsort(-largest, axis=0, kind="stable")[: units.extremes.k]
    np.testing.assert_array_equal(units.extremes.rows, order.T)
    np.testing.assert_array_equal(
        units.extremes.values, np.take_along_axis(largest, order, axis=0).T
    )
    position = np.take_along_axis(values.argmax(axis=2), order, axis=0)
    np.testing.assert_array_equal(units.extremes.positions, position.T)
    np.testing.assert_array_equal(units.histogram.total, moments.count)
    for q in (0.05, 0.5, 0.99):
        expected = np.quantile(values, q, axis=axes)
        near = np.abs(values[:, :, :] - expected[:, None]).min(axis=axes)
        error = np.abs(units.histogram.quantile(q) - expected)
        assert (error <= np.abs(expected) / 60 + 2 * near + 1e-6).all()


@pytest.mark.parametrize("name", NAMES)
def test_statistics_are_those_of_stored_values(name: str, here: Here) -> None:
    notes = Notes()
    whole = here.dump("whole.zarr", keep="full", tensors="layers", units=False)
    store = here.dump(name, notes, keep="statistics", units_top=7)
    assert any(text.startswith("units of 13 tensors are measured") for text in notes.texts)
    for split in store.splits.values():
        compare(split, whole.splits[split.name])
    found = cnatool.verify(store.path)
    assert not found.faults
    shown = cnatool.units(store, top=7)
    tensors = shown.result.splits["test"].tensors
    expected = cnatool.units(whole, tensors=[each.tensor for each in tensors], top=7)
    assert {each.source for each in tensors} == {"statistics"}
    same = pl.col("tensor").is_in([each.tensor for each in tensors])
    frames = [each.frame().filter(same) for each in (shown, expected)]
    assert_frame_equal(*frames, rel_tol=1e-5, abs_tol=1e-6)


def test_statistics_are_those_of_values_that_were_rounded(here: Here) -> None:
    kept = here.dump("kept.h5", keep="full", dtype="float16", units_top=7)
    for split in kept.splits.values():
        compare(split, split)


# How often they are written is decided before the format is.
@pytest.mark.parametrize(("name", "pause"), [("s.h5", 0), ("s.zarr", 1e6)])
def test_resumed_as_if_never_cut_off(
    name: str, pause: float, here: Here, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(unit_writer, "_PAUSE", pause)
    whole = here.dump(f"whole-{name}", keep="statistics")
    behind = []
    for split, at in (("train", 100), ("train", 250), ("train", TRAIN), ("test", 120)):
        with pytest.raises(KeyboardInterrupt):
            here.dump(name, Notes(split, at), keep="statistics", resume=True)
        cut = cnatool.open(here.folder / name)
        assert not cnatool.verify(cut.path).faults
        for part in cut.splits.values():
            state = read_unit_state(part)
            behind.append(len(part) - (0 if state is None else state.rows))
    assert max(behind) >= (64 if pause else 16)
    here.dump(name, keep="statistics", resume=True)
    same_arrays(here.folder / name, whole.path)
    if name.endswith(".zarr"):
        groups = (here.folder / name / "splits/train/units").iterdir()
        assert {group.name for group in groups} == {"zarr.json", str(TRAIN)}


@pytest.mark.parametrize("suffix", [".zarr", ".h5"])
def test_parts_and_copies(suffix: str, here: Here) -> None:
    whole = here.dump(f"whole{suffix}", keep="statistics")
    parts = [
        here.dump(f"p{number}{suffix}", keep="statistics", part=(number, 3)).path
        for number in (1, 2, 3)
    ]
    merged = [
        cnatool.merge(parts, here.folder / f"{copy}{suffix}", copy=copy) for copy in (False, True)
    ]
    other = ".h5" if suffix == ".zarr" else ".zarr"
    converted = [
        cnatool.convert(store.path, here.folder / f"c{number}{other}")
        for number, store in enumerate((whole, *merged))
    ]
    for store in (*merged, *converted):
        assert not cnatool.verify(store.path).faults
        for split in store.splits.values():
            packed, expected = read(split).pack(), read(whole.splits[split.name]).pack()
            assert packed.bins == expected.bins
            assert packed.arrays.keys() == expected.arrays.keys()
            for key, values in packed.arrays.items():
                truth = expected.arrays[key]
                if key in ("moments", "class_sums"):
                    scale = 1e-9 * np.abs(truth).max()
                    np.testing.assert_allclose(values, truth, rtol=1e-6, atol=scale)
                else:
                    np.testing.assert_array_equal(values, truth)


@pytest.mark.parametrize("name", NAMES)
def test_damage_is_found(name: str, here: Here) -> None:
    store = here.dump(name, keep="statistics")
    state = store.splits["test"].record.units
    assert state
    folder = units_folder("test", state.rows)
    if name.endswith(".zarr"):
        chunk = next((store.path / folder / "moments").glob("c*/*"), None)
        chunk = chunk or next((store.path / folder / "moments").glob("c*"))
        content = bytearray(chunk.read_bytes())
        content[len(content) // 3] ^= 1
        chunk.write_bytes(content)
    else:
        content = bytearray(store.path.read_bytes())
        moments = read(store.splits["test"]).pack().arrays["moments"]
        content[content.index(moments.tobytes()[:64])] ^= 1
        store.path.write_bytes(content)
    with pytest.raises(StoreDamagedError, match="moments"):
        read_unit_state(cnatool.open(store.path).splits["test"])
    (fault,) = cnatool.verify(store.path).faults
    assert fault.where == f"splits/test/units/{TEST}/moments"


def test_ragged_tokens_and_labels(tmp_path: Path) -> None:
    """Rows of any length, without labels; padding counts nowhere."""
    builder = Builder(3)
    builder.constant("table", builder.rng.normal(size=(50, 6)).astype(np.float32))
    builder.node("Gather", ["table", "ids"], "embedded")
    weight = builder.weight("w", 6, 5)
    builder.node("MatMul", ["embedded", weight], "hidden")
    builder.node("Relu", ["hidden"], "active")
    builder.node("ReduceMean", ["active"], "out", axes=[1], keepdims=0)
    model = builder.model({"ids": ("n", "t")}, {"out": ("n", 5)}, dtype=TensorProto.INT64)
    model.graph.output[0].type.tensor_type.elem_type = TensorProto.FLOAT
    saved(model, tmp_path / "net.onnx")
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, 50, rng.integers(1, 9)).tolist() for _ in range(40)]
    pl.DataFrame([pl.Series("ids", rows, pl.List(pl.Int64))]).write_parquet(tmp_path / "d.parquet")
    options: dict[str, Any] = {"units": True, "units_tensors": ["hidden", "active"]}
    store = cnatool.dump(
        tmp_path / "net.onnx", tmp_path / "d.parquet", tmp_path / "s.zarr", **options
    )
    (split,) = store.splits.values()
    state = read(split)
    assert len(state.tensors) == 2
    for number, units in state.tensors.items():
        assert units.classes is None
        samples = list(split.activations(store.tensors[number].name)[:])
        values = np.concatenate(samples).astype(np.float64)
        np.testing.assert_allclose(units.moments.mean, values.mean(axis=0), rtol=1e-6, atol=1e-7)
        np.testing.assert_array_equal(units.moments.count, len(values))
        largest = np.stack([sample.max(axis=0) for sample in samples])
        order = np.argsort(-largest, axis=0, kind="stable")[:10].T
        np.testing.assert_array_equal(units.extremes.rows, order)
        for unit, first in enumerate(order):
            where = [samples[row][:, unit].argmax() for row in first]
            np.testing.assert_array_equal(units.extremes.positions[unit], where)


def test_axes_and_refusals(here: Here) -> None:
    store = here.dump(
        "s.zarr",
        keep="statistics",
        units_tensors=["stem", "logits"],
        units_axis={"stem": "element"},
        limit=20,
    )
    assert store.record.units
    assert [(t.axis, t.units) for t in store.record.units.tensors] == [("element", 256), (0, 10)]
    for text, options in (
        ("`units_tensors='x'`: no tensor of the store has this name", {"units_tensors": "x"}),
        ("`units_top` has no effect without `units`", {"units": False, "units_top": 3}),
        ("`units_top=0`: at least 1", {"units_top": 0}),
        ("axis 7", {"units_axis": {"stem": 7}}),
        ("was started by another dump", {"resume": True, "units_tensors": "stem", "limit": 20}),
    ):
        target = "s.zarr" if "resume" in options else "other.zarr"
        with pytest.raises(UsageError, match=text):
            here.dump(target, keep="statistics", **options)


def test_a_part_without_rows_of_a_split_shows_the_other(here: Here) -> None:
    part = here.dump("part.zarr", keep="statistics", part=(1, 3))
    assert not len(part.splits["test"])
    result = cnatool.units(part).result
    assert list(result.splits) == ["train"]
    assert result.notes[0] == "skipped because they have no rows: test"
    with pytest.raises(MetricError, match="split 'test' has no rows"):
        cnatool.units(part, splits="test")
