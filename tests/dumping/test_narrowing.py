"""Activations narrowed on write: what it costs is counted, kept, merged and said."""

from __future__ import annotations

import json
import re
import warnings
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from support.command import run
from support.dumps import commit_often
from support.networks import Builder, saved
from support.notes import Notes

import cnatool
from cnatool.errors import StoreWarning
from cnatool.records.narrowing import NarrowingRecord
from cnatool.records.store import StoreRecord
from cnatool.store import writer

ROWS, SIZE = 210, 12
SCALE = np.float32(300)


@pytest.fixture
def here(tmp_path: Path) -> Path:
    """A network that multiplies, and samples from 1e-12 to 1e4, some of which overflow float16."""
    b = Builder()
    b.node("Mul", ["x", b.constant("scale", SCALE)], "scaled")
    b.node("Abs", ["scaled"], "size")
    b.node("Relu", ["scaled"], "out")
    saved(b.model({"x": ("n", SIZE)}, {"out": ("n", SIZE)}), tmp_path / "net.onnx")
    rng = np.random.default_rng(5)
    spread = 10.0 ** rng.integers(-12, 4, (ROWS, 1))
    x = (rng.normal(size=(ROWS, SIZE)) * spread).astype(np.float32)
    x[3, :2] = np.inf, np.nan
    np.savez(tmp_path / "data.npz", x=x, y=rng.integers(0, 3, ROWS))
    return tmp_path


def dump(here: Path, name: str, **options: Any) -> cnatool.Store:
    return cnatool.dump(here / "net.onnx", here / "data.npz", here / name, **options)


def expect(here: Path, dtype: str) -> dict[str, NarrowingRecord]:
    """Narrow all values at once, and write the definitions out."""
    x = np.load(here / "data.npz")["x"] * SCALE
    found = {}
    for number, values in enumerate((x, np.abs(x))):
        with np.errstate(all="ignore"):
            stored = values.astype(ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
            stored = stored.astype(np.float32)
            lost = np.isfinite(values) & np.isinf(stored)
            zero = (values != 0) & (stored == 0)
            error = np.abs(stored - values)
            relative = (error / np.abs(values))[np.isfinite(error) & ~zero]
            coarse = relative > (2**-8 if dtype == "bfloat16" else 2**-11)
            found[f"activations/{number}"] = NarrowingRecord(
                values.size,
                int(lost.sum()),
                int(zero.sum()),
                float(error[np.isfinite(error)].max()),
                float(relative[~coarse].max()),
                int(coarse.sum()),
                float(np.abs(values)[np.isfinite(stored)].max()),
            )
    return found


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_errors_are_counted_and_merged(
    dtype: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit_often(monkeypatch)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", StoreWarning)
        whole = dump(here, "whole.zarr", dtype=dtype, batch_size=17)
        expected = expect(here, dtype)
        assert whole.splits["all"].record.narrowed == expected
        assert (expected["activations/0"].overflows > 20) == (dtype == "float16")
        assert cnatool.verify(whole.path).faults == ()
        if dtype == "bfloat16":
            array = whole.splits["all"].activations("scaled")
            values = (np.load(here / "data.npz")["x"] * SCALE).astype(ml_dtypes.bfloat16)
            assert array.dtype == np.float32
            np.testing.assert_array_equal(array[:], values.astype(np.float32))
        for form in ("zarr", "h5"):
            parts = [
                dump(here, f"{n}.{form}", dtype=dtype, batch_size=17, part=(n, 3))
                for n in (1, 2, 3)
            ]
            counted = [part.splits["all"].record.narrowed["activations/0"] for part in parts]
            assert sum(each.values for each in counted) == ROWS * SIZE
            for copy in (False, True):
                path = here / f"merged{copy}.{form}"
                merged = cnatool.merge([part.path for part in parts], path, copy=copy)
                assert merged.splits["all"].record.narrowed == expected
                copied = cnatool.convert(path, here / f"converted{copy}.{form}")
                assert copied.splits["all"].record.narrowed == expected


@pytest.mark.parametrize("name", ["s.zarr", "s.h5"])
@pytest.mark.parametrize("at", [60, 130, 200])
def test_a_killed_dump_counts_what_is_committed_and_goes_on(
    at: int, name: str, here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Batches end elsewhere than commits do."""
    commit_often(monkeypatch)
    options: dict[str, Any] = {"dtype": "float16", "batch_size": 17}
    with pytest.raises(KeyboardInterrupt):
        dump(here, name, **options, observer=Notes("all", at))
    split = cnatool.open(here / name).splits["all"]
    assert split.record.narrowed["activations/0"].values == len(split) * SIZE
    assert len(split) == {60: 64, 130: 128, 200: 192}[at]
    store = dump(here, name, **options, resume=True, observer=Notes())
    assert store.splits["all"].record.narrowed == expect(here, "float16")


def test_an_overflow_is_said(here: Path) -> None:
    notes = Notes()
    store = dump(here, "s.zarr", dtype="float16", observer=notes)
    lost = expect(here, "float16")["activations/0"].overflows
    (line,) = [text for text in notes.texts if "infinity" in text]
    assert line == (
        f"all: {lost} values of 2,520 of tensor 'scaled' are too large for float16 and stored as "
        f"infinity, and {lost} of 'size'. Dump with `dtype='bfloat16'`, which has the range of "
        "float32, or leave them out with `tensors='!scaled'`, …"
    )
    with pytest.warns(StoreWarning, match="s2.zarr: all: .* too large for float16"):
        dump(here, "s2.zarr", dtype="float16")
    stored = store.splits["all"].activations("scaled")[:]
    assert np.isinf(stored).sum() == lost + 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        dump(here, "s3.zarr", dtype="bfloat16")
        dump(here, "s4.zarr", dtype="float16", tensors=["!scaled", "!size"])
    text = run("inspect", "s.zarr", cwd=here).stdout
    assert "2 tensors narrowed to float16; largest relative error 0.00048 (" in text
    assert re.search(r"largest absolute error \S+ \('scaled', values up to \S+\); ", text)
    assert re.search(r"[\d,]+ values near 0 kept fewer digits; [\d,]+ values became 0", text)
    assert "Dump with --dtype bfloat16" in text
    row = next(line for line in text.splitlines() if " scaled " in line)
    assert row.split()[-1] == str(lost)
    assert f" {2 * SIZE}  " in row  # bytes of float16
    assert f"3 tensors, {(2 + 2 + 4) * SIZE} B a sample" in text
    printed = run(
        "dump", "net.onnx", "data.npz", "-o", "t.zarr", "--dtype", "float16", "--json", cwd=here
    )
    document = json.loads(printed.stdout)
    assert document["splits"]["all"]["narrowed"]["scaled"]["overflows"] == lost
    assert any("too large for float16" in note for note in document["notes"])
    text = run("inspect", "s3.zarr", cwd=here).stdout
    assert "2 tensors narrowed to bfloat16; largest relative error 0.0038" in text
    assert "overflow" in text
    assert "infinity" not in text


def test_a_store_of_an_earlier_version_is_not_counted_in_part(
    here: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has rows whose errors nobody counted."""
    from msgspec import UNSET
    from msgspec.structs import replace

    store = dump(here, "s.zarr", dtype="float16", observer=Notes())
    split = store.splits["all"].record
    record = replace(store.record, splits={"all": replace(split, narrowed=UNSET)})
    assert isinstance(record, StoreRecord)
    assert writer._begin_narrowing(record, record.splits["all"]) == {}
    empty = replace(split, committed=(), narrowed=UNSET)
    assert set(writer._begin_narrowing(record, empty)) == {"activations/0", "activations/1"}
