from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import scipy.stats

from cnatool.metrics import cna as module
from cnatool.metrics.cna import cna, resampled_units
from cnatool.metrics.convention import ConventionFields
from cnatool.metrics.group_resampling import prepare_groups

FORMS: dict[str, Any] = {
    "pearson": scipy.stats.pearsonr,
    "spearman": scipy.stats.spearmanr,
    "kendall": scipy.stats.kendalltau,
}


def draw(name: str, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    x, z = np.random.default_rng([4, seed]).normal(size=(2, n))
    heavy = np.sqrt(5 / np.random.default_rng([5, seed]).chisquare(5, n))
    pairs = {
        "independent": (x, z),
        "normal": (x, 0.6 * x + 0.8 * z),
        "nearly a line": (x, x + 0.02 * z),
        "heavy tails": (x * heavy, (x + z) * heavy),
        "ties": (np.round(x), np.round(x + z)),
    }
    return pairs[name]


DRAWS = ["independent", "normal", "nearly a line", "heavy tails", "ties"]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DRAWS)
def test_groups_drawn_once_each_give_the_coefficient(form: Any, name: str) -> None:
    a, b = draw(name, 500, 0)
    statistic = prepare_groups(form, a, b, 64, seed=0, stream=1)
    assert statistic(np.ones(64, np.int64)) == pytest.approx(FORMS[form](a, b).statistic, abs=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("name", DRAWS)
def test_groups_of_one_sample_vary_as_resampled_samples_do(form: Any, name: str) -> None:
    n = 2000
    a, b = draw(name, n, 1)
    statistic = prepare_groups(form, a, b, n, seed=0, stream=1)
    # Each group is one sample: the resample with these counts can be made and measured by SciPy.
    groups = np.random.default_rng([0, 1, n, 1]).permutation(n)
    value, found, expected = FORMS[form](a, b).statistic, [], []
    for number in range(30):
        counts = np.bincount(np.random.default_rng(number).integers(0, n, n), minlength=n)
        rows = np.repeat(np.arange(n), counts[groups])
        found.append(statistic(counts) - value)
        expected.append(FORMS[form](a[rows], b[rows]).statistic - value)
    # The same but for the remainder, and for what duplicates take from the coefficient.
    assert np.corrcoef(found, expected)[0, 1] > 0.95
    assert np.std(found) == pytest.approx(np.std(expected), rel=0.1)


@pytest.mark.parametrize(
    ("form", "true"),
    [
        ("pearson", 0.6),
        ("spearman", 6 / math.pi * math.asin(0.3)),
        ("kendall", 2 / math.pi * math.asin(0.6)),
    ],
)
def test_intervals_from_groups_cover_a_known_coefficient(
    form: Any, true: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "MANY", 1000)
    monkeypatch.setattr(module, "GROUPS", 256)
    fields = ConventionFields(cna=form, resamples=200, permutations=0)
    assert resampled_units(fields, 1500) == 256
    edges = [cna(*draw("normal", 1500, run), fields).interval for run in range(60)]
    hits = sum(low <= true <= high for low, high in filter(None, edges))
    assert hits / 60 > 0.93 - 4 * math.sqrt(0.95 * 0.05 / 60)


def test_an_interval_of_the_smoothed_cna_is_as_wide_from_fewer_samples(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fields = ConventionFields(cna="smoothed", window=10, resamples=200, permutations=0)
    ratios = []
    for run in range(10):
        a, b = draw("normal", 8000, run)
        edges = []
        for many in (10_000, 5000):
            monkeypatch.setattr(module, "MANY", many)
            monkeypatch.setattr(module, "_POINTS", 2000)
            monkeypatch.setattr(module, "_WINDOWS", 100)
            edges.append(cna(a, b, fields).interval)
        ratios.append(np.divide(*[np.ptp(np.arctanh(np.array(pair))) for pair in edges]))
    assert np.mean(ratios) == pytest.approx(1, abs=0.1)


def test_up_to_many_samples_each_is_resampled() -> None:
    fields = ConventionFields()
    assert resampled_units(fields, 131_072) == 131_072
    assert resampled_units(fields, 131_073) == 4096
    smoothed = ConventionFields(cna="smoothed", window=100)
    assert resampled_units(smoothed, 10**6) == 102_400
    assert resampled_units(smoothed, 132_000) == 102_400
    assert resampled_units(ConventionFields(cna="smoothed", window=10**5), 10**6) == 10**6
