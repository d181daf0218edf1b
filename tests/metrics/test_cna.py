from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from cnatool.metrics import cna as cna_module
from cnatool.metrics.area import curve_area
from cnatool.metrics.area_resampling import add_interval, resample_areas
from cnatool.metrics.convention import ConventionFields
from cnatool.metrics.correlation import kendall, pearson, smoothed_pearson, spearman
from cnatool.metrics.estimate import Cna, Estimate
from cnatool.metrics.resampling import resample_counts

FORMS: Any = {
    "pearson": lambda a, b: scipy.stats.pearsonr(a, b).statistic,
    "spearman": lambda a, b: scipy.stats.spearmanr(a, b).statistic,
    "kendall": lambda a, b: scipy.stats.kendalltau(a, b).statistic,
    "smoothed": lambda a, b: smoothed_pearson(a, b, window=5).value,
}
DEFAULTS: dict[str, Any] = {
    "window": 5,
    "interval": "bootstrap",
    "level": 0.95,
    "resamples": 60,
    "permutations": 99,
    "seed": 4,
    "stream": 1,
}


def cna(a: Any, b: Any, *, form: Any, seed: int, stream: int, **settings: Any) -> Cna:
    fields = ConventionFields(cna=form, resample_seed=seed, **settings)
    return cna_module.cna(np.asarray(a), np.asarray(b), fields, stream=stream)


def normal(rho: float, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng([77, seed])
    a = rng.normal(size=n)
    return a, rho * a + math.sqrt(1 - rho * rho) * rng.normal(size=n)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("decimals", [1, 9])
def test_bootstrap_is_the_coefficient_of_the_rows_drawn(form: Any, decimals: int) -> None:
    a, b = (np.round(values, decimals) + 1000 for values in normal(0.6, 90, 1))
    values = []
    for number in range(DEFAULTS["resamples"]):
        rows = np.repeat(np.arange(90), resample_counts(90, 4, 1, number))
        values.append(FORMS[form](a[rows], b[rows]))
    got = cna(a, b, form=form, **DEFAULTS)
    assert got.value == pytest.approx(FORMS[form](a, b), rel=1e-10)
    expected = np.percentile(values, [2.5, 97.5])
    if form == "smoothed":  # rougher curves: the resamples' deviation, around the value
        half = scipy.stats.norm.ppf(0.975) * np.std(np.arctanh(values), ddof=1)
        expected = np.tanh(np.arctanh(got.value) + np.array([-half, half]))
    assert got.interval == pytest.approx(expected, rel=1e-9)
    assert (got.interval_reason, got.reason) == (None, None)
    assert got == cna(a, b, form=form, **DEFAULTS)


@pytest.mark.parametrize("form", FORMS)
def test_fisher_and_p_value(form: Any) -> None:
    a, b = normal(0.5, 90, 2)
    expected = {"pearson": pearson, "spearman": spearman, "kendall": kendall}
    got = cna(a, b, form=form, **DEFAULTS | {"interval": "fisher", "level": 0.8})
    if form == "smoothed":
        assert got.interval is got.fisher is None
        assert got.interval_reason == (
            "the points of a smoothed curve are not independent: use `interval='bootstrap'`"
        )
    else:
        assert got.interval == got.fisher == expected[form](a, b, level=0.8).interval
    assert (got.p_value, got.p_least, got.permutations) == (0.01, 0.01, 99)
    ranked = form in ("spearman", "kendall")
    assert got.p_statistic == ("spearman" if ranked else "pearson")
    if ranked:  # ranks are all that counts
        assert cna(a**3, np.exp(b), form=form, **DEFAULTS).p_value == got.p_value
        weak = normal(0.12, 90, 3)  # where p is not the least there is
        ranks = [scipy.stats.rankdata(values) for values in weak]
        p_value = cna(*weak, form=form, **DEFAULTS).p_value
        assert p_value == cna(*ranks, form="pearson", **DEFAULTS).p_value
        assert p_value != cna(*weak, form="pearson", **DEFAULTS).p_value
    bare = cna(a, b, form=form, **DEFAULTS | {"resamples": 0, "permutations": 0})
    assert (bare.interval, bare.interval_reason) == (None, "no resamples are drawn")
    assert (bare.p_value, bare.p_least, bare.p_statistic, bare.permutations) == (
        None,
        None,
        None,
        0,
    )


def test_what_is_undefined_has_a_reason_and_nothing_else() -> None:
    got = cna(np.arange(9.0), np.ones(9), form="pearson", **DEFAULTS)
    assert got.reason == "β is the same for all 9 samples"
    assert (got.value, got.interval, got.interval_reason, got.p_value) == (None,) * 4


def test_an_odd_sample_out_leaves_no_interval() -> None:
    a = np.zeros(40)
    a[0] = 1
    got = cna(a, np.arange(40.0), form="spearman", **DEFAULTS)
    assert got.value is not None
    assert got.interval is None
    assert got.interval_reason is not None
    assert got.interval_reason.startswith("the measure is undefined for ")
    few = cna(a[:3], np.arange(3.0), form="pearson", **DEFAULTS | {"interval": "fisher"})
    assert few.interval_reason == "too few samples for Fisher's interval"


@pytest.mark.parametrize("interval", ["bootstrap", "fisher"])
@pytest.mark.parametrize(
    ("form", "true"),
    [
        ("pearson", 0.6),
        ("spearman", 6 / math.pi * math.asin(0.3)),
        ("kendall", 2 / math.pi * math.asin(0.6)),
    ],
)
def test_intervals_cover_a_known_coefficient(form: Any, true: float, interval: Any) -> None:
    runs = 60 if interval == "bootstrap" else 200
    settings = DEFAULTS | {"interval": interval, "permutations": 0, "resamples": 200}
    hits = 0
    for run in range(runs):
        edges = cna(*normal(0.6, 100, run), form=form, **settings | {"seed": run}).interval
        assert edges is not None
        hits += edges[0] <= true <= edges[1]
    # 95 % but for four standard errors and what an interval from 100 samples is short of.
    assert hits / runs > 0.93 - 4 * math.sqrt(0.95 * 0.05 / runs)


def test_intervals_of_the_smoothed_cna_cover_that_of_other_samples() -> None:
    values = [smoothed_pearson(*normal(0.6, 300, run), window=25).value for run in range(400)]
    mean = np.tanh(np.mean(np.arctanh(np.array(values, float))))
    settings = DEFAULTS | {"window": 25, "permutations": 0, "resamples": 60}
    hits = 0
    for run in range(60):
        edges = cna(*normal(0.6, 300, run + 500), form="smoothed", **settings).interval
        assert edges is not None
        hits += edges[0] <= mean <= edges[1]
    assert hits / 60 > 0.93 - 4 * math.sqrt(0.95 * 0.05 / 60)


def splits(seed: int, n: int, m: int) -> tuple[Any, Any]:
    (a, b), (c, d) = normal(0.7, n, seed), normal(0.7, m, seed + 10_000)
    return (np.round(a, 2), b), (np.round(c, 2), d + 0.2 * c * c)


@pytest.mark.parametrize("form", ["total", "largest", "reference"])
def test_resampled_areas_are_those_of_the_rows_drawn(form: Any) -> None:
    first, second = splits(0, 90, 70)
    margins = np.random.default_rng(0).normal(size=90)
    got = resample_areas(
        first,
        second,
        form=form,
        window=7,
        points=50,
        margins=margins,
        margin=lambda drawn: float(np.percentile(drawn, 5)),
        resamples=12,
        seed=5,
    )
    for number in range(12):
        rows, others = (
            np.repeat(np.arange(n), resample_counts(n, 5, stream, number))
            for stream, n in enumerate((90, 70))
        )
        area = curve_area(
            (first[0][rows], first[1][rows]),
            (second[0][others], second[1][others]),
            form=form,
            window=7,
            points=50,
        ).value
        assert area is not None
        assert got.area[number] == pytest.approx(area, rel=1e-9)
        expected = area * np.percentile(margins[rows], 5)
        assert got.area_and_margin[number] == pytest.approx(expected, rel=1e-9)


def test_a_resample_without_a_margin_has_no_product() -> None:
    got = resample_areas(
        *splits(0, 40, 40),
        form="total",
        window=5,
        points=9,
        margins=np.empty((40, 0)),
        margin=lambda drawn: None,
        resamples=3,
        seed=0,
    )
    assert np.isfinite(got.area).all()
    assert np.isnan(got.area_and_margin).all()


def test_area_intervals_cover_the_area_of_other_samples() -> None:
    settings: dict[str, Any] = {"form": "total", "window": 25, "points": 100}
    mean = np.mean([curve_area(*splits(s, 400, 200), **settings).value for s in range(500)])
    hits = 0
    for seed in range(60):
        pair = splits(seed + 500, 400, 200)
        values = resample_areas(
            *pair,
            **settings,
            margins=np.empty(400),
            margin=lambda drawn: 1.0,
            resamples=60,
            seed=seed,
        ).area
        estimate = curve_area(*pair, **settings)
        found = add_interval(estimate, values, 0.95, bounds=(0.0, 1.0))
        assert found.interval is not None
        assert found.bias == pytest.approx(values.mean() - found.value)
        hits += found.interval[0] <= mean <= found.interval[1]
    assert hits / 60 > 0.93 - 4 * math.sqrt(0.95 * 0.05 / 60)


def test_an_area_is_never_below_zero() -> None:
    found = add_interval(Estimate(0.01), np.array([0.0, 0.1, 0.2] * 7), 0.95, bounds=(0.0, 1.0))
    assert found.interval is not None
    assert found.interval[0] == 0
