"""α of samples that differ in length, against slow formulas and SciPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import entropy as scipy_entropy

from cnatool.errors import DataError
from cnatool.metrics.alpha import entropy, symbol_entropy
from cnatool.metrics.alpha_compression import compression_ratio, ragged_compression_ratio
from cnatool.metrics.alpha_ragged import (
    keep_values,
    ragged_entropy,
    ragged_symbol_entropy,
    windowed,
)
from cnatool.metrics.bins import OutsideError, OutsideSoundError

UNIT = {"bins": 256, "range": (0.0, 1.0), "out_of_range": "error"}


def parts(values: np.ndarray[Any, Any], lengths: Any) -> list[np.ndarray[Any, Any]]:
    return np.split(values, np.cumsum(lengths)[:-1])


def by_scipy(sample: np.ndarray[Any, Any]) -> float:
    counts = np.unique(sample, return_counts=True)[1]
    return float(scipy_entropy(counts, base=2)) if sample.size else np.nan


@settings(max_examples=150, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 12), min_size=1, max_size=8),
    dtype=st.sampled_from([np.uint8, np.int64, np.uint16, np.uint64, np.int8]),
    wide=st.booleans(),
    seed=st.integers(0, 99),
)
def test_symbols_of_any_samples(lengths: list[int], dtype: Any, wide: bool, seed: int) -> None:
    info, rng = np.iinfo(dtype), np.random.default_rng(seed)
    symbols = np.array([info.min, info.max, 0, 1, 7], dtype) if wide else np.arange(4, dtype=dtype)
    values = rng.choice(symbols, sum(lengths))
    got = ragged_symbol_entropy(values, np.array(lengths, np.int64))
    expected = [by_scipy(sample) for sample in parts(values, lengths)]
    np.testing.assert_allclose(got, expected, atol=1e-12)


@pytest.mark.parametrize("symbols", [200, 40_000])
def test_symbols_of_many_samples_equal_those_of_each_alone(symbols: int) -> None:
    """To the last bit, so that texts of equal counts have equal α wherever they lie."""
    rng = np.random.default_rng(0)
    lengths = rng.integers(0, 400, 900)
    lengths[7] = 200_000  # more than a group holds
    values = rng.zipf(1.3, lengths.sum()) % symbols
    got = ragged_symbol_entropy(values, lengths)
    for alpha, sample in zip(got, parts(values, lengths), strict=True):
        assert np.isnan(alpha) if not sample.size else alpha == symbol_entropy(sample[None])[0]


@pytest.mark.parametrize("kind", ["f4", "f8", "u1", "u2"])
@pytest.mark.parametrize("out_of_range", ["error", "drop", "clip"])
def test_values_equal_those_of_each_sample_alone(kind: str, out_of_range: str) -> None:
    rng = np.random.default_rng(1)
    lengths = rng.integers(1, 300, 80)
    lengths[[3, 60]] = 0, 40_000
    count = int(lengths.sum())
    if kind[0] == "f":
        values = rng.uniform(-0.2 if out_of_range != "error" else 0, 1, count).astype(kind)
    else:
        values = rng.integers(0, np.iinfo(kind).max, count, kind, endpoint=True)
    options = UNIT | {"out_of_range": out_of_range, "bins": 50}
    got = ragged_entropy(values, lengths, **options)
    for alpha, sample in zip(got, parts(values, lengths), strict=True):
        if sample.size:
            assert alpha == entropy(sample[None], density=False, **options)[0]
        else:
            assert np.isnan(alpha)


def test_errors_name_the_sample() -> None:
    lengths = np.array([2, 0, 3])
    with pytest.raises(OutsideError, match="Sample row 12 holds 1.5, outside the range 0:1"):
        ragged_entropy(np.array([0, 1, 0.5, 1.5, 0]), lengths, first_row=10, **UNIT)
    with pytest.raises(OutsideSoundError, match="`overrides={'sound_range': 'LO:HI'}`"):
        ragged_entropy(np.array([0, 1, 0.5, 2, 0]), lengths, outside=OutsideSoundError, **UNIT)
    options = UNIT | {"out_of_range": "drop"}
    with pytest.raises(DataError, match="Sample row 2 has no value inside the range"):
        ragged_entropy(np.array([0, 1, 5, 5, 5.0]), lengths, **options)


def test_a_rate_is_the_mean_over_windows() -> None:
    rng = np.random.default_rng(2)
    lengths = rng.integers(0, 200, 300)
    values = rng.integers(0, 9, lengths.sum())
    got = windowed(lambda windows, rows: symbol_entropy(windows), values, lengths, 16)
    for alpha, sample in zip(got, parts(values, lengths), strict=True):
        cut = [sample[k : k + 16] for k in range(0, len(sample) - 15, 16)]
        expected = np.mean([by_scipy(window) for window in cut]) if cut else np.nan
        np.testing.assert_allclose(alpha, expected, rtol=1e-12)


def test_windows_know_the_rows_they_are_of() -> None:
    named: list[int] = []

    def measure(windows: np.ndarray[Any, Any], rows: Any) -> np.ndarray[Any, Any]:
        named.extend(rows)
        return np.zeros(len(windows))

    windowed(measure, np.arange(12), np.array([4, 1, 7]), 2, first_row=5)
    assert named == [5, 5, 7, 7, 7]


def test_a_rate_does_not_depend_on_length() -> None:
    """Of independent draws, entropy grows with their number, and its rate does not."""
    rng = np.random.default_rng(3)
    lengths = np.repeat([40, 80, 160, 320, 640], 200)
    values = rng.zipf(1.2, lengths.sum()) % 5000
    rate = windowed(lambda windows, rows: symbol_entropy(windows), values, lengths, 32)
    whole = ragged_symbol_entropy(values, lengths)
    assert np.corrcoef(whole, np.log(lengths))[0, 1] > 0.9
    assert abs(np.corrcoef(rate, np.log(lengths))[0, 1]) < 0.1


@settings(max_examples=50, deadline=None)
@given(lengths=st.lists(st.integers(0, 6), min_size=1, max_size=9), seed=st.integers(0, 20))
def test_values_that_are_left_out(lengths: list[int], seed: int) -> None:
    values = np.random.default_rng(seed).integers(0, 3, sum(lengths))
    kept, left = keep_values(values, np.array(lengths, np.int64), values > 0)
    expected = [sample[sample > 0] for sample in parts(values, lengths)]
    assert left.tolist() == [len(sample) for sample in expected]
    assert kept.tolist() == np.concatenate(expected).tolist()


@pytest.mark.parametrize("codec", ["zlib", "zstd", "lzma", "bz2"])
def test_compression_is_that_of_each_sample(codec: Any) -> None:
    rng = np.random.default_rng(4)
    samples = [rng.integers(0, 5, n).astype(np.uint8) for n in (1, 0, 60, 400)]
    got = ragged_compression_ratio(samples, codec)
    assert np.isnan(got[1])
    for place in (0, 2, 3):
        assert got[place] == compression_ratio(samples[place][None], codec)[0]
