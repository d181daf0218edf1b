"""bfloat16 against every value that it has, PyTorch's conversion, and exact fractions."""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool._util.bfloat16 import BFLOAT16, EPS, SMALLEST, dtype_name, narrow, storage_dtype, widen

ALL = np.arange(1 << 16, dtype="<u2")


def test_every_value_comes_back() -> None:
    """All of them: zeros of both signs, subnormals, infinities, and every NaN."""
    values = widen(ALL)
    np.testing.assert_array_equal(values.view(np.uint32), ALL.astype(np.uint32) << 16)
    np.testing.assert_array_equal(narrow(values).view("<u2"), ALL)
    with np.errstate(invalid="ignore"):
        doubles = values.astype(np.float64)
    np.testing.assert_array_equal(widen(narrow(doubles)), values)
    peer = ALL.view(ml_dtypes.bfloat16).astype(np.float32)
    np.testing.assert_array_equal(values, peer)
    assert float(values[0x3F81] - values[0x3F80]) == EPS
    assert float(values[1]) == SMALLEST


def samples() -> np.ndarray:
    """Random bits, and the surroundings of every value in the middle of two bfloat16."""
    rng = np.random.default_rng(0)
    middle = (ALL.astype(np.uint32) << 16) + np.uint32(0x8000)
    bits = [rng.integers(0, 1 << 32, 400_000, np.uint32), middle, middle - 1, middle + 1]
    return np.concatenate(bits).view(np.float32)


def test_rounding_is_that_of_pytorch() -> None:
    torch = pytest.importorskip("torch")
    values = samples()
    expected = torch.from_numpy(values.copy()).to(torch.bfloat16).view(torch.uint16).numpy()
    found, lost = narrow(values).view("<u2"), np.isnan(values)
    np.testing.assert_array_equal(found[~lost], expected[~lost])
    assert np.isnan(widen(found[lost])).all()


def nearest(value: float) -> float:
    """Find the bfloat16 nearest to a number, with the even one of two."""
    finite = widen(ALL[:0x7F80]).astype(np.float64)
    # The next number if there were any, from which on numbers are infinite.
    known = np.append(finite, 2.0**128)
    size = abs(value)
    place = min(int(np.searchsorted(known, size, side="right")) - 1, 0x7F7F)
    below, above = size - known[place], known[place + 1] - size
    place += above < below or (above == below and place % 2 == 1)
    return float(np.copysign(np.inf if place == 0x7F80 else known[place], value))


@given(st.floats(allow_nan=False) | st.floats(-1e-37, 1e-37))
def test_float64_is_rounded_once(value: float) -> None:
    found = float(widen(narrow(np.array(value)))[()])
    assert found == nearest(value)
    assert np.signbit(found) == np.signbit(value)


def test_float64_beside_the_middle_of_two_is_rounded_once() -> None:
    """Rounded to float32 first, these would lie in the middle."""
    middle = (ALL[0x80:0x7F00].astype(np.uint32) << 16 | 0x8000).view(np.float32).astype(float)
    below, above = np.nextafter(middle, 0), np.nextafter(middle, np.inf)
    lower = widen(ALL[0x80:0x7F00])
    np.testing.assert_array_equal(widen(narrow(below)), lower)
    np.testing.assert_array_equal(widen(narrow(above)), widen(ALL[0x81:0x7F01]))
    np.testing.assert_array_equal(widen(narrow(-below)), -lower)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0, 2), (5, 7), (40_000,)])
@pytest.mark.parametrize("step", [1, 2])
def test_any_shape_and_layout(shape: tuple[int, ...], step: int) -> None:
    values: Any = np.random.default_rng(1).normal(size=(*shape, step)).astype(np.float32)[..., 0]
    found = narrow(values)
    assert (found.shape, found.dtype) == (shape, BFLOAT16)
    np.testing.assert_array_equal(widen(found), values.astype(ml_dtypes.bfloat16).astype("f4"))


def test_its_bits_are_no_whole_numbers() -> None:
    assert storage_dtype("bfloat16") == BFLOAT16 != np.uint16
    assert dtype_name(BFLOAT16) == "bfloat16"
    assert dtype_name(np.dtype(np.uint16)) == "uint16"
    with pytest.raises(TypeError):
        narrow(np.ones(3)) + 1
