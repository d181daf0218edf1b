from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool.metrics import histogram as module
from cnatool.metrics import unit_values
from cnatool.metrics.histogram import (
    LAST,
    RELATIVE_ERROR,
    Histogram,
    HistogramCounter,
    bin_edges,
)


@pytest.fixture(autouse=True, scope="module")
def small_tiles() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(unit_values, "TILE", 1 << 12)
        patch.setattr(unit_values, "STRETCH", 1 << 10)
        yield


TYPES = (
    np.float32,
    np.float64,
    np.float16,
    np.int8,
    np.uint8,
    np.int16,
    np.int32,
    np.int64,
    np.uint64,
    np.bool_,
)
ANY_VALUES = st.sampled_from(TYPES).flatmap(
    lambda dtype: hnp.arrays(dtype, st.tuples(st.integers(0, 20), st.integers(1, 3)))
)


def _slow_bin(value: float) -> int:
    """Return the bin of a value by the definition."""
    magnitude = abs(value)
    if magnitude < 2.0**-126:
        return 0
    if magnitude >= 2.0**128:
        number = LAST
    else:
        mantissa, exponent = np.frexp(magnitude)  # magnitude = mantissa 2^exponent, ½ ≤ m < 1
        number = 1 + 64 * (int(exponent) - 1 + 126) + int((mantissa * 2 - 1) * 64)
    return number if value > 0 else -number


def _same(first: Histogram, second: Histogram) -> bool:
    names = ("bins", "counts", "nan", "below", "above")
    return all(np.array_equal(getattr(first, n), getattr(second, n)) for n in names)


@settings(max_examples=30, deadline=None)
@given(ANY_VALUES, st.booleans())
def test_each_value_is_in_the_bin_that_its_exponent_and_mantissa_name(
    values: np.ndarray, dense: bool
) -> None:
    counter = HistogramCounter(values.shape[1], dense=dense)
    counter.update(values)
    found = counter.histogram()
    for unit in range(values.shape[1]):
        column = [float(value) for value in values[:, unit]]
        finite = [value for value in column if np.isfinite(value)]
        numbers, counts = np.unique([_slow_bin(v) for v in finite], return_counts=True)
        kept = found.counts[unit] > 0
        assert found.bins[kept].tolist() == numbers.tolist()
        assert found.counts[unit][kept].tolist() == counts.tolist()
        assert found.nan[unit] == sum(np.isnan(value) for value in column)
        assert found.below[unit] == column.count(-np.inf)
        assert found.above[unit] == column.count(np.inf)
        for value in finite:
            low, high = bin_edges(np.array([_slow_bin(value)]))[0]
            assert low <= value <= high or abs(value) < 2.0**-126


@settings(max_examples=30, deadline=None)
@given(ANY_VALUES, st.data())
def test_any_partition_and_order_gives_the_same_histogram(
    values: np.ndarray, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(values)))
    first, second = Histogram.of(values[:cut]), Histogram.of(values[cut:])
    assert _same(first.merge(second), second.merge(first))
    assert _same(first.merge(second), Histogram.of(values))
    # 32-bit counts go over to 64 bits before they are full.
    counter = HistogramCounter(values.shape[1], dense=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_MOST", 3)
        for row in range(len(values)):
            counter.update(values[row : row + 1])
    assert _same(counter.histogram(), Histogram.of(values))


def test_positions_and_ranges_of_units_and_tiles_are_all_values() -> None:
    rng = np.random.default_rng(0)
    values = rng.standard_normal((40, 70, 50)).astype(np.float32)  # several tiles
    values[rng.random(values.shape) < 0.3] = 0
    flat = np.moveaxis(values, 1, 2).reshape(-1, 70)
    whole = Histogram.of(values)
    for dense in (False, True):
        counter = HistogramCounter(70, dense=dense)
        counter.update(values[:, :30])
        counter.update(values[:, 30:], start=30)
        assert _same(counter.histogram(), Histogram.of(flat))
    assert whole.total.tolist() == [2000] * 70
    edges = np.append(whole.edges[whole.bins > 0][:, 0], np.inf)
    for unit in (0, 69):  # NumPy's own histogram over the positive bins that are next to another
        expected = [
            ((flat[:, unit] >= e) & (flat[:, unit] < whole.edges[whole.bins > 0][i, 1])).sum()
            for i, e in enumerate(edges[:-1])
        ]
        assert whole.counts[unit][whole.bins > 0].tolist() == expected
    halves = Histogram.join([whole.take(slice(0, 30)), whole.take(slice(30, 70))])
    assert _same(halves, whole)


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_quantiles_are_within_the_stated_error(scale: float) -> None:
    rng = np.random.default_rng(1)
    values = rng.standard_normal((999, 4)) * scale
    values[:, 1] = np.maximum(values[:, 1], 0)
    values[:, 2] = values[0, 2]
    values[:, 3] += 100 * scale
    found = Histogram.of(values)
    for q in (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1):
        ranks = (
            np.quantile(values, [q], axis=0, method="lower"),
            np.quantile(values, [q], axis=0, method="higher"),
        )
        bound = RELATIVE_ERROR * np.maximum(*np.abs(ranks))[0]
        assert (np.abs(found.quantile(q) - np.quantile(values, q, axis=0)) <= bound).all()
    # Far closer where values are many.
    many = rng.standard_normal((200_000, 1)) * scale
    assert Histogram.of(many).quantile(0.75)[0] == pytest.approx(np.quantile(many, 0.75), rel=5e-3)


def test_no_values_have_no_quantile_and_infinite_ones_no_bin() -> None:
    values = np.array([[np.nan, 2.0, np.inf], [np.nan, 2.0, -np.inf]])
    found = Histogram.of(values)
    assert np.isnan(found.quantile(0.5)[[0, 2]]).all()
    assert found.quantile(0.5)[1] == pytest.approx(2, rel=RELATIVE_ERROR)
    assert found.bins.tolist() == [_slow_bin(2.0)]
    assert np.isnan(Histogram.empty(2).quantile(0.5)).all()
    with pytest.raises(ValueError, match="q is 2"):
        found.quantile(2)
    with pytest.raises(ValueError, match="3 and 2 units"):
        found.merge(Histogram.empty(2))
    with pytest.raises(ValueError, match="shape"):
        Histogram.of(np.zeros(3))
    with pytest.raises(ValueError, match="complex128 are no real numbers"):
        Histogram.of(np.zeros((3, 1), complex))


def test_small_integers_have_bins_of_their_own() -> None:
    found = Histogram.of(np.arange(-127, 128)[:, None])
    assert len(found.bins) == 255
    assert found.counts.tolist() == [[1] * 255]
    assert found.quantile(0.3, whole=True)[0] == np.quantile(np.arange(-127, 128), 0.3)


def test_values_that_no_float32_holds_have_no_quantile() -> None:
    found = Histogram.of(np.array([[1.0], [2.0], [-1e100], [1e100]]))
    assert np.isnan([found.quantile(q)[0] for q in (0, 0.2, 0.9, 1)]).all()
    assert found.quantile(0.5)[0] == pytest.approx(1.5, rel=RELATIVE_ERROR)
