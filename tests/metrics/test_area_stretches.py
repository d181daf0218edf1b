from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnatool.metrics import area_stretches
from cnatool.metrics.area import area_between, smooth_split, sort_splits
from cnatool.metrics.area_resampling import chance_area, relabel_areas, resample_areas
from cnatool.metrics.area_stretches import cut_stretches, relabel_stretches, resample_stretches

WINDOW = 5


@pytest.fixture(autouse=True)
def few_are_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(area_stretches, "MANY", 1000)


def draw(seed: int, n: int, decimals: int = 9, shift: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([6, seed])
    alpha = np.round(4 * rng.random(n), decimals)
    return alpha, alpha + shift * np.sin(alpha) + rng.random(n)


def sort(*pair: Any) -> tuple[Any, Any]:
    curves = sort_splits(*pair, WINDOW)
    assert not isinstance(curves, str)
    return curves


@pytest.mark.parametrize("decimals", [2, 9])
def test_stretches_add_up_to_the_area(decimals: int) -> None:
    curves = sort(draw(0, 9000, decimals), draw(1, 4000, decimals, 0.3))
    starts = cut_stretches(*curves, "total", WINDOW)
    assert starts is not None
    smooth = [smooth_split(*curve, WINDOW) for curve in curves]
    area, low, high, least, greatest = area_stretches._measure_stretches(
        smooth[0], smooth[1], starts
    ).T
    total = area.sum() / (high.max() - low.min()) / (greatest.max() - least.min())
    assert total == pytest.approx(
        area_between(*curves, form="total", window=WINDOW, points=2).value, abs=1e-12
    )


@pytest.mark.parametrize("decimals", [2, 9])
def test_stretches_vary_as_whole_splits_do(decimals: int) -> None:
    pair = draw(2, 9000, decimals), draw(3, 4000, decimals, 0.3)
    curves = sort(*pair)
    starts = cut_stretches(*curves, "total", WINDOW)
    assert starts is not None
    settings: dict[str, Any] = {"window": WINDOW, "seed": 1}
    whole: dict[str, Any] = {"form": "total", "points": 2} | settings
    ratios = []
    for seed in range(12):
        settings["seed"] = whole["seed"] = seed
        stretches = resample_stretches(*curves, starts, resamples=200, **settings)
        splits = resample_areas(
            *pair, margins=np.empty((9000, 0)), margin=lambda rows: None, resamples=60, **whole
        ).area
        chance = relabel_stretches(*curves, starts, relabellings=200, **settings)
        relabelled = relabel_areas(*pair, relabellings=60, **whole)
        for few, many in ((stretches, splits), (chance, relabelled)):
            ratios.append((few.mean() / many.mean(), few.std() / many.std()))
    means, spreads = np.reshape(ratios, (12, 2, 2)).mean(axis=0).T
    np.testing.assert_allclose(means, 1, atol=0.02)
    np.testing.assert_allclose(spreads, 1, atol=0.2)


def test_splits_that_do_not_differ_have_no_small_p() -> None:
    found = []
    for seed in range(60):
        curves = sort(draw(seed, 3000), draw(seed + 500, 2000))
        starts = cut_stretches(*curves, "total", WINDOW)
        assert starts is not None
        area = area_between(*curves, form="total", window=WINDOW, points=2).value
        assert area is not None
        values = relabel_stretches(*curves, starts, window=WINDOW, relabellings=99, seed=seed)
        found.append(chance_area(area, values, whole=area_stretches.WHOLE).p_value)
    for level in (0.05, 0.2, 0.5):
        share = np.mean(np.array(found, float) <= level + 1e-9)
        assert share == pytest.approx(level, abs=4 * np.sqrt(level * (1 - level) / 60))


def test_whole_splits_are_resampled_where_stretches_do_not_add_up() -> None:
    first, second = draw(0, 3000), draw(1, 2000)
    assert cut_stretches(first, second, "total", WINDOW) is not None
    assert cut_stretches(first, second, "largest", WINDOW) is None
    assert cut_stretches(first, second, "reference", WINDOW) is None
    assert cut_stretches(first, second, "total", 200) is None
    assert cut_stretches(draw(0, 600), draw(1, 400), "total", 1) is None
    assert cut_stretches(draw(0, 3000, 0), draw(1, 2000, 0), "total", WINDOW) is None
