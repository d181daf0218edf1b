from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool.metrics import unit_values
from cnatool.metrics.unit_moments import UnitMoments


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_values, "TILE", 1 << 12)
        patch.setattr(unit_values, "STRETCH", 1 << 10)
        yield


COUNTS = ("count", "zeros", "positives", "nan", "below", "above")
VALUES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 30), st.integers(1, 3)),
    elements=st.one_of(
        st.floats(-1e3, 1e3, width=32),
        st.sampled_from([0.0, -0.0, np.nan, np.inf, -np.inf]),
    ),
)


def _check(found: UnitMoments, values: np.ndarray) -> None:
    """Compare with NumPy and SciPy over the whole array, (n, units)."""
    for unit in range(values.shape[1]):
        column = values[:, unit].astype(np.float64)
        finite = column[np.isfinite(column)]
        assert found.count[unit] == finite.size
        assert found.zeros[unit] == (finite == 0).sum()
        assert found.positives[unit] == (finite > 0).sum()
        assert found.nan[unit] == np.isnan(column).sum()
        assert found.below[unit] == (column == -np.inf).sum()
        assert found.above[unit] == (column == np.inf).sum()
        if not finite.size:
            assert np.isnan(found.deviation[unit])
            assert np.isnan(found.skewness[unit])
            continue
        scale = max(np.abs(finite).max(), 1e-30)
        assert found.mean[unit] == pytest.approx(finite.mean(), abs=1e-6 * scale)
        assert found.sum[unit] == pytest.approx(finite.sum(), abs=1e-6 * scale * finite.size)
        assert found.deviation[unit] == pytest.approx(finite.std(), abs=1e-6 * scale, rel=1e-6)
        assert found.minimum[unit] == finite.min()
        assert found.maximum[unit] == finite.max()
        if finite.std() > 1e-3 * scale:
            expected = scipy.stats.skew(finite)
            assert found.skewness[unit] == pytest.approx(expected, rel=1e-4, abs=1e-4)
        if finite.min() == finite.max():
            assert found.deviation[unit] == 0
            assert np.isnan(found.skewness[unit])


@settings(max_examples=40, deadline=None)
@given(VALUES, st.data())
def test_any_partition_gives_numpys_moments(values: np.ndarray, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(values)))
    _check(UnitMoments.of(values), values)
    batches = UnitMoments.empty(values.shape[1])
    batches.update(values[:cut])
    batches.update(values[cut:])
    _check(batches, values)
    merged = UnitMoments.of(values[cut:])
    merged.merge(UnitMoments.of(values[:cut]))
    _check(merged, values)
    for name in COUNTS:
        assert np.array_equal(getattr(merged, name), getattr(batches, name))


@pytest.mark.parametrize("shape", [(60, 5, 300), (700, 13, 9), (1500, 65, 1), (2, 2, 70_000)])
@pytest.mark.parametrize("dtype", [np.float32, np.float16, np.int32, np.uint8, np.bool_])
def test_tiles_of_any_shape_are_all_values(shape: tuple[int, ...], dtype: type) -> None:
    rng = np.random.default_rng(0)
    values = rng.gamma(1.0, 2.0, shape)
    values = values > 2 if dtype is np.bool_ else (values + 3).astype(dtype)
    found = UnitMoments.of(values)
    flat = np.moveaxis(values, 1, 2).reshape(-1, shape[1]).astype(np.float64)
    assert found.mean == pytest.approx(flat.mean(axis=0), rel=1e-7)
    assert found.deviation == pytest.approx(flat.std(axis=0), rel=1e-6)
    assert found.skewness == pytest.approx(scipy.stats.skew(flat), rel=1e-6, abs=1e-6)
    assert (found.minimum == flat.min(axis=0)).all()
    assert (found.maximum == flat.max(axis=0)).all()
    assert (found.zeros == (flat == 0).sum(axis=0)).all()
    assert (found.positives == (flat > 0).sum(axis=0)).all()
    halves = UnitMoments.join([found.take(slice(0, 2)), found.take(slice(2, shape[1]))])
    assert (halves.m3 == found.m3).all()


def test_no_digits_go_to_a_large_mean() -> None:
    rng = np.random.default_rng(1)
    noise = rng.standard_normal((4000, 2))
    far = np.array([1e9, -1e9])
    found = UnitMoments.empty(2)
    for batch in np.split(noise + far, 40):
        found.update(batch)
    exact = (noise + far).astype(np.longdouble)
    assert found.deviation == pytest.approx(exact.std(axis=0).astype(float), rel=1e-8)
    with pytest.raises(ValueError, match="2 and 3 units"):
        found.merge(UnitMoments.empty(3))


def test_a_constant_unit_has_no_deviation() -> None:
    found = UnitMoments.empty(1)
    for _ in range(5):
        found.update(np.full((7, 1), 0.1, np.float32))
    assert found.deviation[0] == 0
    assert np.isnan(found.skewness[0])
    assert found.mean[0] == np.float32(0.1)


@pytest.mark.parametrize("scale", [1e-300, 1e-107, 1e-103, 1e-90, 1e-30, 1e30, 1e90, 1e103, 1e300])
def test_powers_that_no_float64_holds_are_unknown(scale: float) -> None:
    values = np.random.default_rng(0).exponential(size=(500, 1))
    found = UnitMoments.of(values * scale)
    deviation, skewness = found.deviation[0] / scale, found.skewness[0]
    if 1e-140 < scale < 1e140:
        assert deviation == pytest.approx(values.std(), rel=1e-9)
    else:
        assert np.isnan(deviation)
    if 1e-95 < scale < 1e100:
        assert skewness == pytest.approx(scipy.stats.skew(values[:, 0]), rel=1e-9)
    else:
        assert np.isnan(skewness)


def test_values_in_another_order_in_memory_that_are_not_finite() -> None:
    tokens = np.random.default_rng(0).standard_normal((9, 128, 5), dtype=np.float32)
    tokens[3, 100, 2], tokens[4, 7, 0] = np.nan, np.inf
    units = np.moveaxis(tokens, 2, 1)
    assert not units.flags.c_contiguous
    found = UnitMoments.of(units)
    assert found.nan.tolist() == [0, 0, 1, 0, 0]
    assert found.above.tolist() == [1, 0, 0, 0, 0]
    _check(found, tokens.reshape(-1, 5))
