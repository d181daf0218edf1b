from __future__ import annotations

import math
from itertools import combinations
from typing import Any

import numpy as np
import pytest

from cnatool.metrics.area import curve_area
from cnatool.metrics.area_resampling import (
    add_interval,
    chance_area,
    relabel_areas,
    resample_areas,
)

SETTINGS: dict[str, Any] = {"form": "total", "window": 25, "points": 100}


def noise(seed: int, n: int, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([8, seed])
    alpha = rng.normal(size=n).round(1)
    return alpha, alpha + shift + rng.normal(size=n)


@pytest.mark.parametrize("form", ["total", "largest", "reference"])
def test_relabelled_areas_are_those_of_all_ways_to_deal_the_samples_out(form: Any) -> None:
    alpha, beta = np.random.default_rng(3).normal(size=(2, 9))
    settings: dict[str, Any] = {"form": form, "window": 2, "points": 10}
    every = []
    for chosen in combinations(range(9), 5):
        inside = np.isin(np.arange(9), chosen)
        pair = (alpha[inside], beta[inside]), (alpha[~inside], beta[~inside])
        every.append(curve_area(*pair, **settings).value)
    got = relabel_areas(
        (alpha[:5], beta[:5]), (alpha[5:], beta[5:]), **settings, relabellings=3000, seed=1
    )
    # Some have no α in common.
    truth = np.array(every, float)
    undefined = np.isnan(truth).mean()
    assert np.isnan(got).mean() == pytest.approx(undefined, abs=0.03)
    got, truth = got[~np.isnan(got)], truth[~np.isnan(truth)]
    # Each is one of them, all occur, and on average each as often.
    assert np.abs(got[:, None] - truth).min(axis=1).max() < 1e-12
    assert np.abs(got[:, None] - truth).min(axis=0).max() < 1e-12
    assert got.mean() == pytest.approx(truth.mean(), abs=4 * truth.std() / math.sqrt(got.size))


def test_noise_has_an_interval_above_0_and_no_small_p() -> None:
    found = []
    for seed in range(150):
        pair = noise(seed, 300), noise(seed + 1000, 120)
        area = curve_area(*pair, **SETTINGS).value
        assert area is not None
        values = relabel_areas(*pair, **SETTINGS, relabellings=39, seed=seed)
        found.append(chance_area(area, values).p_value)
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found, float) <= level + 1e-9)
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 150))
    resampled = resample_areas(
        *pair, **SETTINGS, margins=np.empty(300), margin=lambda rows: 1.0, resamples=60, seed=0
    ).area
    interval = add_interval(curve_area(*pair, **SETTINGS), resampled, 0.95).interval
    assert interval is not None
    assert interval[0] > 0


@pytest.mark.parametrize("form", ["total", "largest", "reference"])
@pytest.mark.parametrize("orders", [(1, 1), (1, -1)])
def test_rows_by_class_are_no_difference(form: Any, orders: tuple[int, int]) -> None:
    # Few values of α, as of compression or binary pictures, and rows class by class.
    settings = SETTINGS | {"form": form}
    found = []
    for seed in range(120):
        rng = np.random.default_rng([9, seed])
        pair = []
        for n, direction in zip((300, 120), orders, strict=True):
            classes = np.sort(rng.integers(0, 4, n))[::direction]
            alpha = rng.integers(0, 6, n) / 8
            pair.append((alpha, alpha + classes + rng.normal(size=n)))
        area = curve_area(*pair, **settings).value
        assert area is not None
        values = relabel_areas(*pair, **settings, relabellings=19, seed=seed)
        found.append(chance_area(area, values).p_value)
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found, float) <= level + 1e-9)
        assert share == pytest.approx(level, abs=4 * math.sqrt(level * (1 - level) / 120))


def test_a_difference_has_the_least_p() -> None:
    pair = noise(1, 300), noise(2, 200, shift=2)
    area = curve_area(*pair, **SETTINGS).value
    assert area is not None
    values = relabel_areas(*pair, **SETTINGS, relabellings=49, seed=0)
    found = chance_area(area, values)
    assert found.p_value == found.p_least == 1 / 50
    assert found.relabellings == 49
    assert found.mean == pytest.approx(values.mean())
    assert found.std == pytest.approx(values.std())
    assert found.excess == pytest.approx(area - values.mean())
    assert found.excess > 3 * found.std
    again = relabel_areas(*pair, **SETTINGS, relabellings=49, seed=0)
    assert again.tolist() == values.tolist()


def test_an_undefined_area_is_a_reason() -> None:
    found = chance_area(0.1, np.array([0.1, np.nan, 0.2]))
    assert found.mean is found.excess is found.p_value is None
    assert found.reason == "CNA-A is undefined for 1 of 3 random relabellings of the splits"
