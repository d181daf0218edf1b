"""What is computed a block at a time is what is computed of all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.stats

from cnatool.metrics import correlation, kendall_resampling, smoothing, sums
from cnatool.metrics.area import curve_area, total_area
from cnatool.metrics.compact import compact
from cnatool.metrics.correlation import kendall, minibatch_pearson
from cnatool.metrics.margin import MarginColumns, margin_estimate, margin_rows
from cnatool.metrics.smoothing import average_ties, running_mean
from cnatool.metrics.sums import sum_in_blocks


@pytest.mark.parametrize("n", [0, 1, 7, 128, 129, 1000, 4099, 70_001, 131_072, 200_003])
@pytest.mark.parametrize("block", [1 << 8, 1 << 15])
def test_sum_in_blocks_has_every_bit_of_the_whole_sum(
    n: int, block: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sums, "BLOCK", block)
    values = np.random.default_rng(n).normal(size=n) * 10.0 ** np.arange(n).__mod__(9)
    asked = []

    def part(start: int, stop: int) -> Any:
        asked.append((start, stop))
        return values[start:stop] * 3

    assert sum_in_blocks(part, 0, n) == float((values * 3).sum())
    assert [start for start, _ in asked] == [0, *(stop for _, stop in asked[:-1])]
    assert all(stop - start <= block for start, stop in asked)


@pytest.mark.parametrize("n", [2, 3, 8, 9, 31, 32, 33, 100, 1000])
@pytest.mark.parametrize("distinct", [3, 50, 10**6])
def test_kendall_over_several_blocks(
    n: int, distinct: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kendall_resampling, "_BLOCK", 8)
    a, b = np.random.default_rng(n).integers(0, distinct, (2, n)).astype(float)
    expected = scipy.stats.kendalltau(a, b).statistic
    found = kendall(a, b).value
    if found is None:
        assert np.isnan(expected)
    else:
        assert found == expected


@pytest.mark.parametrize("window", [1, 2, 7, 64, 500, 999, 1000])
def test_running_mean_over_several_blocks(window: int, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(window).normal(size=1000)
    whole = running_mean(values, window)
    monkeypatch.setattr(smoothing, "_BLOCK", 16)
    assert running_mean(values, window).tobytes() == whole.tobytes()
    slow = [values[i : i + window].mean() for i in range(1000 - window + 1)]
    np.testing.assert_allclose(whole, slow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("distinct", [1, 2, 40, 400])
def test_tied_means_over_several_blocks(distinct: int, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(distinct)
    alpha = np.sort(rng.integers(0, distinct, 1000)).astype(float)
    beta = rng.normal(size=1000)
    whole = average_ties(alpha, beta)
    monkeypatch.setattr(smoothing, "_BLOCK", 16)
    assert average_ties(alpha, beta).tobytes() == whole.tobytes()
    slow = [beta[alpha == one].mean() for one in alpha]
    np.testing.assert_allclose(whole, slow, rtol=0, atol=1e-13)


@pytest.mark.parametrize("order", ["rows", "random"])
def test_minibatches_over_several_blocks(order: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    alpha, beta = np.random.default_rng(0).normal(size=(2, 1037))
    alpha[100:130] = 2.0  # a minibatch in row order has no correlation
    whole = minibatch_pearson(alpha, beta, rows=10, order=order)
    monkeypatch.setattr(correlation, "_BLOCK", 30)
    assert minibatch_pearson(alpha, beta, rows=10, order=order) == whole
    if order == "rows":
        slow = [
            np.corrcoef(alpha[i : i + 10], beta[i : i + 10])[0, 1]
            for i in range(0, 1030, 10)
            if i not in (100, 110, 120)
        ]
        assert (whole.undefined, whole.mean) == (3, pytest.approx(np.mean(slow), abs=1e-14))


def test_area_over_several_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(1)
    splits = [(np.round(rng.random(n), 3), rng.normal(size=n)) for n in (2000, 900)]
    whole = curve_area(*splits, form="total", window=20, points=50)
    assert whole.value is not None
    monkeypatch.setattr(sums, "BLOCK", 64)
    assert curve_area(*splits, form="total", window=20, points=50) == whole


def test_area_overwrites_no_curve_of_its_caller() -> None:
    rng = np.random.default_rng(2)
    curves = [(np.sort(rng.random(50)), rng.random(50)) for _ in range(2)]
    before = [values.copy() for curve in curves for values in curve]
    total_area(*curves)
    curve_area(*curves, form="total", window=1, points=10)
    for one, other in zip(before, (v for curve in curves for v in curve), strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    ("numbers", "kind"),
    [
        ([[0, 127], [-128]], np.int8),
        ([[0, 128], [3]], np.int16),
        ([[-1], [40_000]], np.int32),
        ([[2**31]], np.int64),
        ([[], [5]], np.int8),
    ],
)
def test_compact_numbers(numbers: list[list[int]], kind: type[np.generic]) -> None:
    found = compact(np.array(block, np.int64) for block in numbers)
    assert found.dtype == kind
    assert found.tolist() == [number for block in numbers for number in block]


@pytest.mark.parametrize("form", ["paper", "percentile", "reference", "min", "mean", "median"])
@pytest.mark.parametrize("least", [0.0, -np.inf])
def test_margin_of_the_columns_that_a_form_needs(form: Any, least: float) -> None:
    rng = np.random.default_rng(3)
    logits, labels = rng.normal(size=(90, 4)), rng.integers(0, 3, 90)
    logits[70, 3] += least  # no true class: the margin of this row is finite all the same
    rows = margin_rows(logits, labels, form=form, kind="logits")
    gathered = MarginColumns(90, form)
    for start in range(0, 90, 25):
        gathered.add(start, rows[start : start + 25])
    settings = {"form": form, "kind": "logits", "fraction": 0.3, "seed": 0}
    settings |= {"percentile": 10.0, "batch": 16}
    assert margin_estimate(gathered.rows(), **settings) == margin_estimate(rows, **settings)
    held = 2 if form == "reference" or (least and form != "paper") else 1
    assert gathered.rows().shape == (90, held)
    assert gathered.rows()[:, 0].tobytes() == np.ascontiguousarray(rows[:, 0]).tobytes()
