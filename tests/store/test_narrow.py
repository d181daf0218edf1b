"""Errors of narrowed values, against NumPy over the whole array."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool._util.bfloat16 import storage_dtype, widen
from cnatool.records.narrowing import NarrowingRecord
from cnatool.records.ragged import Ragged
from cnatool.store.narrow import narrow_rows

TYPES = [("float64", "float32"), ("float64", "float16"), ("float64", "bfloat16"),
         ("float32", "float16"), ("float32", "bfloat16")]  # fmt: skip


# Half the distance from 1 to the next number.
UNITS = {"float32": 2.0**-24, "float16": 2.0**-11, "bfloat16": 2.0**-8}


def expect(values: np.ndarray, stored: np.ndarray, narrow: str) -> NarrowingRecord:
    """Write the definitions out."""
    with np.errstate(all="ignore"):
        true, stored = values.astype("f8"), stored.astype("f8")
        overflow = np.isfinite(true) & np.isinf(stored)
        zero = (true != 0) & (stored == 0)
        kept = np.isfinite(true) & ~overflow
        absolute = np.abs(stored - true)[kept]
        relative = np.abs((stored - true) / true)[kept & ~zero & (true != 0)]
        coarse = relative > UNITS[narrow]
    return NarrowingRecord(
        values.size,
        int(overflow.sum()),
        int(zero.sum()),
        float(absolute.max(initial=0)),
        float(relative[~coarse].max(initial=0)),
        int(coarse.sum()),
        float(np.abs(true)[kept].max(initial=0)),
    )


@pytest.mark.parametrize(("kind", "narrow"), TYPES)
@settings(max_examples=25, deadline=None)
@given(st.data())
def test_any_values(kind: str, narrow: str, data: st.DataObject) -> None:
    width = 32 if kind == "float32" else 64
    numbers = st.floats(width=width) | st.sampled_from([0.0, -0.0, 1e-30, 1e-6, 65504.0, 65520.0])
    values = data.draw(hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_side=6), elements=numbers))
    check(values, narrow)


@pytest.mark.parametrize(("kind", "narrow"), TYPES)
def test_more_values_than_are_compared_at_a_time(kind: str, narrow: str) -> None:
    rng = np.random.default_rng(3)
    spread = 10.0 ** rng.integers(-44, 38, (300, 1))
    values = (rng.normal(size=(300, 400)) * spread).astype(kind)
    values[17, 3:9] = np.nan, np.inf, -np.inf, 0, -0.0, 3e38
    check(values, narrow)
    check(values[:, ::3], narrow)


def check(values: np.ndarray, narrow: str) -> None:
    found, errors = narrow_rows(values, storage_dtype(narrow))
    assert isinstance(found, np.ndarray)
    wide = widen(found) if narrow == "bfloat16" else found
    if (values.dtype, narrow) != (np.float64, "bfloat16"):  # ml_dtypes rounds it twice
        kind = ml_dtypes.bfloat16 if narrow == "bfloat16" else narrow
        with np.errstate(all="ignore"):
            np.testing.assert_array_equal(wide, values.astype(kind).astype(wide.dtype))
    expected = expect(values, wide, narrow)
    assert (errors.values, errors.overflows, errors.underflows) == (
        expected.values, expected.overflows, expected.underflows,
    )  # fmt: skip
    assert errors.absolute_error == pytest.approx(expected.absolute_error, rel=1e-6)
    assert errors.relative_error == pytest.approx(expected.relative_error, rel=1e-5)
    assert errors.relative_error <= UNITS[narrow]
    assert (errors.subnormals, errors.largest) == (expected.subnormals, expected.largest)


def test_samples_that_differ_in_length() -> None:
    rows = Ragged.join([np.full((n, 2), 1e5 * n, np.float32) for n in (0, 1, 3)])
    found, errors = narrow_rows(rows, np.dtype(np.float16))
    assert isinstance(found, Ragged)
    assert (found.dtype, found.offsets.tolist()) == (np.float16, [0, 0, 1, 4])
    assert (errors.values, errors.overflows) == (8, 8)


def test_errors_of_both_are_those_of_all() -> None:
    values = np.float32(10.0) ** np.arange(-12, 8, dtype=np.float32)
    parts = [narrow_rows(part, np.dtype(np.float16))[1] for part in (values[:7], values[7:])]
    assert parts[0].merge(parts[1]) == narrow_rows(values, np.dtype(np.float16))[1]
