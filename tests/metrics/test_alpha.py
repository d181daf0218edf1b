from __future__ import annotations

import gc
import gzip
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.stats
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from cnatool.errors import DataError, MetricError
from cnatool.metrics.alpha import entropy, level_entropy, level_extent

PAPER: dict[str, Any] = {
    "bins": 256,
    "range": (0.0, 1.0),
    "out_of_range": "error",
    "density": False,
}


MNIST = Path(__file__).resolve().parents[3] / "shared/data/mnist/t10k-images-idx3-ubyte.gz"


def by_histogram(
    x: np.ndarray[Any, Any], bins: int, span: tuple[float, float], density: bool = False
) -> np.ndarray[Any, Any]:
    """One histogram a sample, as a notebook would."""
    result = []
    for sample in x.reshape(len(x), -1):
        if density:
            d, _ = np.histogram(sample, bins=bins, range=span, density=True)
            d = d[d > 0]
            result.append(-(d * np.log2(d)).sum())
        else:
            counts, _ = np.histogram(sample, bins=bins, range=span)
            result.append(scipy.stats.entropy(counts, base=2))
    return np.array(result)


@pytest.mark.parametrize("bins", [1, 2, 16, 100, 255, 256, 257, 1000, 70_000])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_unsigned_pixels_are_the_unit_interval(dtype: Any, bins: int) -> None:
    rng = np.random.default_rng(1)
    greatest = np.iinfo(dtype).max
    x = rng.integers(0, greatest, (23, 3, 9, 11), dtype, endpoint=True)
    x[5:, :, :4] = 7  # a background, for the way that leaves it out
    x[9] = greatest
    expected = by_histogram(x / greatest, bins, (0.0, 1.0))
    got = entropy(x, **PAPER | {"bins": bins})
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)
    assert got.dtype == np.float64


@pytest.mark.parametrize("bins", [1, 7, 256, 1000])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floats_have_the_bins_of_numpy(dtype: Any, bins: int) -> None:
    rng = np.random.default_rng(2)
    x = rng.random((31, 28, 28)).astype(dtype)
    x[1] = np.round(x[1] * bins).astype(dtype) / dtype(bins)  # on the edges, both ends included
    x[2] = np.nextafter(x[1], dtype(0))
    x[3] = np.nextafter(x[1], dtype(1))
    expected = by_histogram(x, bins, (0.0, 1.0))
    np.testing.assert_allclose(entropy(x, **PAPER | {"bins": bins}), expected, rtol=1e-12, atol=0)


@settings(max_examples=150, deadline=None)
@given(
    x=hnp.arrays(
        np.float64, st.tuples(st.integers(1, 5), st.integers(1, 40)), elements=st.floats(-3, 3)
    ),
    bins=st.integers(1, 50),
    span=st.sampled_from([(-3.0, 3.0), (-3.1, 3.3), (-1.0, 0.7), (0.1, 0.3)]),
)
def test_any_floats_with_drop_and_clip(
    x: np.ndarray[Any, Any], bins: int, span: tuple[float, float]
) -> None:
    settings_ = {"bins": bins, "range": span, "density": False}
    clipped = by_histogram(np.clip(x, *span), bins, span)
    np.testing.assert_allclose(
        entropy(x, out_of_range="clip", **settings_), clipped, rtol=1e-12, atol=1e-12
    )
    inside = ((x >= span[0]) & (x <= span[1])).any(axis=1)
    if inside.all():
        np.testing.assert_allclose(
            entropy(x, out_of_range="drop", **settings_),
            by_histogram(x, bins, span),
            rtol=1e-12,
            atol=1e-12,
        )


@pytest.mark.parametrize(("dtype", "span"), [(np.uint8, (0.1, 0.6)), (np.uint16, (0.1, 0.6))])
@pytest.mark.parametrize("bins", [5, 300])
def test_pixels_outside_a_narrower_range(dtype: Any, span: tuple[float, float], bins: int) -> None:
    x = np.random.default_rng(3).integers(0, np.iinfo(dtype).max, (9, 60), dtype, endpoint=True)
    unit = x / np.iinfo(dtype).max
    for policy, seen in (("drop", unit), ("clip", unit.clip(*span))):
        got = entropy(x, bins=bins, range=span, out_of_range=policy, density=False)
        np.testing.assert_allclose(got, by_histogram(seen, bins, span), rtol=1e-12)


@pytest.mark.parametrize(("bins", "span"), [(1000, (0.0, 1.0)), (64, (-0.5, 3.0))])
def test_density_form_is_numpys_and_an_affine_image(bins: int, span: tuple[float, float]) -> None:
    x = np.random.default_rng(4).random((8, 300))
    plain = entropy(x, bins=bins, range=span, out_of_range="error", density=False)
    dense = entropy(x, bins=bins, range=span, out_of_range="error", density=True)
    np.testing.assert_allclose(dense, by_histogram(x, bins, span, density=True), rtol=1e-9)
    if span == (0.0, 1.0):
        np.testing.assert_allclose(dense, bins * (plain - np.log2(bins)), rtol=1e-12)


def densities_of_numpy(x: np.ndarray[Any, Any], bins: int = 1000) -> np.ndarray[Any, Any]:
    """What a notebook gets that divides float32 pixels by 255, as frameworks do."""
    unit = x.astype(np.float32) / np.float32(np.iinfo(x.dtype).max)
    return by_histogram(unit, bins, (0.0, 1.0), density=True)


@pytest.mark.parametrize("bins", [7, 100, 256, 1000, 1001])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_density_form_has_the_uneven_widths_of_float32_edges(dtype: Any, bins: int) -> None:
    x = np.random.default_rng(4).integers(0, np.iinfo(dtype).max, (30, 200), dtype, endpoint=True)
    settings_ = {"bins": bins, "range": (0.0, 1.0), "out_of_range": "drop", "density": True}
    expected = densities_of_numpy(x, bins)
    np.testing.assert_allclose(entropy(x, **settings_), expected, rtol=1e-12)
    unit = x.astype(np.float32) / np.float32(np.iinfo(dtype).max)
    np.testing.assert_allclose(entropy(unit, **settings_), expected, rtol=1e-12)
    if dtype is np.uint8:
        counts = np.stack([np.bincount(row, minlength=256) for row in x])
        np.testing.assert_array_equal(level_entropy(counts, **settings_), entropy(x, **settings_))


def test_density_form_ties_samples_of_equal_histograms() -> None:
    x = np.random.default_rng(4).integers(0, 256, (30, 784)).astype(np.uint8)
    shuffled = np.random.default_rng(5).permuted(x, axis=1)
    settings_ = {"bins": 1000, "range": (0.0, 1.0), "out_of_range": "drop", "density": True}
    both = entropy(np.concatenate([x, shuffled]), **settings_)
    np.testing.assert_array_equal(both[:30], both[30:])


@pytest.mark.skipif(not MNIST.is_file(), reason=f"no MNIST at {MNIST}")
def test_density_form_over_mnist_is_numpys() -> None:
    content = gzip.decompress(MNIST.read_bytes())
    x = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)[:4000]
    got = entropy(x, bins=1000, range=(0.0, 1.0), out_of_range="drop", density=True)
    expected = densities_of_numpy(x)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    # One width for all bins is another number, and another order of samples.
    even = 1000 * (entropy(x, **PAPER | {"bins": 1000}) - np.log2(1000))
    assert np.abs(even / expected - 1).max() > 1e-6


def test_density_form_of_dropped_values() -> None:
    x = np.random.default_rng(5).normal(size=(6, 500))
    got = entropy(x, bins=1000, range=(0.0, 1.0), out_of_range="drop", density=True)
    np.testing.assert_allclose(got, by_histogram(x, 1000, (0.0, 1.0), density=True), rtol=1e-9)


@pytest.mark.parametrize("width", [1, 3, 5, 784, 785, 70_001])
def test_a_constant_image_has_exactly_no_entropy(width: int) -> None:
    x = np.repeat(np.arange(7, dtype=np.uint8)[:, None], width, axis=1)
    for dtype in (np.uint8, np.uint16, np.int64, np.float32):
        assert (entropy((x / 8 if dtype is np.float32 else x).astype(dtype), **PAPER) == 0).all()


def test_256_equally_frequent_levels_have_eight_bits() -> None:
    x = np.random.default_rng(6).permuted(np.arange(1024) % 256).astype(np.uint8)
    assert entropy(x.reshape(1, 1, 32, 32), **PAPER) == [8.0]


def test_symbols_have_one_bin_each() -> None:
    rng = np.random.default_rng(7)
    x = rng.integers(-(2**40), 2**40, 50)[rng.integers(0, 50, (40, 33))]
    x[3] = x[3, 0]
    expected = [scipy.stats.entropy(np.unique(row, return_counts=True)[1], base=2) for row in x]
    np.testing.assert_allclose(entropy(x, **PAPER), expected, rtol=1e-12, atol=1e-15)
    few = (x % 5 - 2).astype(np.int8)
    expected = [scipy.stats.entropy(np.unique(row, return_counts=True)[1], base=2) for row in few]
    np.testing.assert_allclose(entropy(few, **PAPER | {"bins": 1}), expected, rtol=1e-12)
    ids = (few + 2).astype(np.uint32)  # wider than any pixel
    np.testing.assert_allclose(entropy(ids, **PAPER | {"bins": 1}), expected, rtol=1e-12)


def test_bool_is_zero_and_one() -> None:
    x = np.array([[True, False, False, False], [True, True, False, False]])
    np.testing.assert_allclose(entropy(x, **PAPER), [2 - 0.75 * np.log2(3), 1.0], rtol=1e-14)


def test_half_precision_has_equal_bins() -> None:
    x = np.random.default_rng(8).random((5, 400)).astype(np.float16)
    expected = by_histogram(x.astype(np.float32), 1000, (0.0, 1.0))
    np.testing.assert_allclose(entropy(x, **PAPER | {"bins": 1000}), expected, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.uint8, np.float64])
def test_samples_larger_than_a_block(dtype: Any) -> None:
    x = np.random.default_rng(9).integers(0, 200, (2, 300_001)).astype(np.uint8)
    given = x if dtype is np.uint8 else x / 255
    np.testing.assert_allclose(
        entropy(given, **PAPER), by_histogram(x / 255, 256, (0.0, 1.0)), rtol=1e-12
    )


def test_a_row_does_not_depend_on_the_rows_beside_it() -> None:
    x = np.random.default_rng(10).integers(0, 256, (700, 50), dtype=np.uint8)
    whole = entropy(x, **PAPER)
    parts = [entropy(x[i : i + 13], **PAPER) for i in range(0, 700, 13)]
    assert (whole == np.concatenate(parts)).all()


def test_the_input_is_left_alone_and_need_not_be_contiguous() -> None:
    x = np.random.default_rng(11).integers(0, 256, (30, 8, 8), dtype=np.uint8)
    x.setflags(write=False)
    assert (entropy(x[::2, :, ::2], **PAPER) == entropy(x[::2, :, ::2].copy(), **PAPER)).all()


def test_no_rows() -> None:
    assert entropy(np.zeros((0, 28, 28), np.uint8), **PAPER).shape == (0,)


def test_memory_does_not_grow_with_the_samples() -> None:
    x = np.random.default_rng(12).integers(0, 256, (20_000, 784), dtype=np.uint8)
    entropy(x[:1], **PAPER)
    gc.collect()
    tracemalloc.start()
    entropy(x, **PAPER)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < x.nbytes / 2


@pytest.mark.parametrize("policy", ["error", "clip"])
def test_nan_is_an_error_that_names_the_row(policy: Any) -> None:
    x = np.zeros((4, 3))
    x[2, 1] = np.nan
    with pytest.raises(DataError) as caught:
        entropy(x, **PAPER | {"out_of_range": policy}, first_row=100)
    assert str(caught.value) == (
        "Sample row 102 holds NaN, which has no bin: `overrides={'out_of_range': 'drop'}` leaves "
        "such values out."
    )


def test_drop_leaves_nan_and_infinity_out() -> None:
    x = np.array([[0.1, 0.9, np.nan, np.inf, -np.inf]])
    assert entropy(x, **PAPER | {"out_of_range": "drop"}) == [1.0]


def test_clip_takes_infinity_to_the_last_bin() -> None:
    x = np.array([[1.0, np.inf, -np.inf, 0.0]])
    assert entropy(x, **PAPER | {"out_of_range": "clip"}) == [1.0]


def test_a_value_outside_the_range_is_an_error_that_names_it() -> None:
    x = np.full((20_000, 4), 0.5, np.float32)
    x[12_345, 3] = 1.25
    with pytest.raises(DataError) as caught:
        entropy(x, **PAPER, first_row=1000)
    assert str(caught.value) == (
        "Sample row 13345 holds 1.25, outside the range 0:1: "
        "use `overrides={'range': 'LO:HI'}` if such values are expected, or "
        "`overrides={'out_of_range': 'clip'}` or `overrides={'out_of_range': 'drop'}`."
    )


@pytest.mark.parametrize(("dtype", "level"), [(np.uint8, 204), (np.uint16, 52428)])
def test_a_pixel_outside_the_range_is_an_error_that_names_it(dtype: Any, level: int) -> None:
    x = np.zeros((600, 784), dtype)
    x[500, 9] = level
    with pytest.raises(DataError) as caught:
        entropy(x, **PAPER | {"range": (0.0, 0.5)})
    assert str(caught.value) == (
        f"Sample row 500 holds {level} (as a fraction 0.8), outside the range 0:0.5: "
        "use `overrides={'range': 'LO:HI'}` if such values are expected, or "
        "`overrides={'out_of_range': 'clip'}` or `overrides={'out_of_range': 'drop'}`."
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_a_sample_of_which_nothing_is_left(dtype: Any) -> None:
    x = np.ones((600, 784), dtype)
    x[500] = 0
    top = 1 if dtype is np.float32 else np.iinfo(dtype).max
    with pytest.raises(DataError) as caught:
        entropy(x, bins=9, range=(0.5 / top, 2.0), out_of_range="drop", density=False, first_row=7)
    assert str(caught.value).startswith("Sample row 507 has no value inside the range")


def test_counts_of_no_level() -> None:
    counts = np.zeros((3, 256), np.uint32)
    assert level_extent(counts) == (np.inf, -np.inf)
    counts[0, 7] = counts[2, 9] = 4
    assert level_extent(counts) == (7 / 255, 9 / 255)
    with pytest.raises(DataError, match="Sample row 101 counts no pixels"):
        level_entropy(
            counts, bins=256, range=(0, 1), out_of_range="error", density=False, first_row=100
        )


def test_a_range_that_holds_no_level_at_all() -> None:
    with pytest.raises(DataError, match=r"^Sample row 0 has no value inside the range"):
        entropy(np.ones((2, 3), np.uint8), **PAPER | {"range": (2, 3), "out_of_range": "drop"})


def test_density_of_symbols() -> None:
    with pytest.raises(MetricError) as caught:
        entropy(np.zeros((2, 3), np.int64), **PAPER | {"density": True})
    assert str(caught.value) == (
        "Inputs of type int64 are symbols, and symbols have no density: use `alpha='entropy'`."
    )


def test_samples_without_values() -> None:
    with pytest.raises(DataError, match=r"^The samples have shape \(0, 5\): there is no value"):
        entropy(np.zeros((2, 0, 5), np.uint8), **PAPER)


def test_a_type_without_order() -> None:
    with pytest.raises(DataError, match=r"^Inputs of type complex128 have no histogram"):
        entropy(np.zeros((2, 3), complex), **PAPER)


@given(st.integers(0, 10_000), st.sampled_from([np.uint8, np.uint16, np.int32, np.float32]))
def test_the_order_of_pixels_does_not_matter(seed: int, dtype: Any) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 30, (3, 5, 7)).astype(dtype)
    mixed = rng.permuted(x.reshape(3, -1), axis=1).reshape(3, 7, 5)
    spans: Any = {"bins": 64, "range": (0.0, 32.0), "out_of_range": "error", "density": False}
    if x.dtype.kind == "u":
        spans["range"] = (0.0, 1.0)
    assert entropy(mixed, **spans).tolist() == entropy(x, **spans).tolist()
