"""Rank statistics where values are equal but for rounding, against SciPy over exact fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from scipy import stats

import cnatool
from cnatool.studying.hyperparameters import encode_levels
from cnatool.studying.statistics.granulated import find_coupled_pairs, granulated_kendall
from cnatool.studying.statistics.information import normalised_information
from cnatool.studying.statistics.sign_error import sign_errors
from cnatool.studying.statistics.ties import merge_rounding


def _exact_levels(exact: list[Fraction]) -> np.ndarray:
    """Number equal fractions alike, in their order."""
    order = {value: place for place, value in enumerate(sorted(set(exact)))}
    return np.array([float(order[value]) for value in exact])


def _gaps(
    seed: int, samples: tuple[int, int], scale: int = 1, n: int = 48
) -> tuple[list[Fraction], np.ndarray]:
    """Draw gaps of few distinct values, as fractions and as floats that carry rounding."""
    rng = np.random.default_rng(seed)
    train, test = samples
    exact, floats = [], []
    for _ in range(n):
        right = int(rng.integers(test // 20, test - test // 20))
        # The same few gaps between different accuracies.
        shift = Fraction(int(rng.integers(-1, 5)), 100)
        on_train = Fraction(right, test) + shift
        assert (on_train * train).denominator == 1
        exact.append(scale * shift)
        floats.append(scale * (right / test + float(shift)) - scale * (right / test))
    return exact, np.array(floats)


CASES = [((1000, 500), 1), ((60000, 10000), 1), ((50000, 10000), 100)]


@pytest.mark.parametrize(("samples", "scale"), CASES)
@pytest.mark.parametrize("column", ["gap", "elsewhere"])
def test_values_that_differ_by_rounding_are_ties(
    column: str, samples: tuple[int, int], scale: int
) -> None:
    exact, floats = _gaps(0, samples, scale)
    assert len(set(floats)) > len(set(exact))
    mended = merge_rounding(floats, is_share=column == "gap")
    assert _exact_levels([Fraction(value) for value in mended]) == pytest.approx(
        _exact_levels(exact)
    )
    assert mended == pytest.approx(floats, abs=1e-12)


@pytest.mark.parametrize(
    "values",
    [
        [1 + k * 1e-13 for k in range(8)],
        [1 - 10.0**-k for k in range(1, 14)],
        [10.0**k for k in range(-30, 40, 3)],
        [1e3, 2e3, 1e15, 2e15],
        [10.0**-k for k in range(1, 17)],
        [1e-20, 2e-20, 5e-19],
        [k / 1281167 - 0.5 for k in range(1000)],
        [1e308, -1e308, 1.0],
    ],
)
def test_values_that_truly_differ_stay_apart(values: list[float]) -> None:
    assert merge_rounding(np.array(values)).tolist() == values


def test_gaps_of_large_splits_stay_apart() -> None:
    gaps = np.array([a / 1281167 - b / 50000 for a in range(900, 1100) for b in (30, 31, 32)])
    assert len(set(merge_rounding(gaps, is_share=True))) == len(gaps)


def test_missing_and_infinite_values_stay() -> None:
    values = np.array([np.nan, np.inf, 0.3, 0.1 + 0.2, -np.inf, np.nan])
    found = merge_rounding(values)
    assert found[2] == found[3]
    assert np.isnan(found[[0, 5]]).all()
    assert found[[1, 4]].tolist() == [np.inf, -np.inf]


@pytest.mark.parametrize(("samples", "scale"), CASES)
@pytest.mark.parametrize("seed", [0, 1])
def test_study_is_that_of_exact_gaps(seed: int, samples: tuple[int, int], scale: int) -> None:
    exact, floats = _gaps(seed, samples, scale)
    rng = np.random.default_rng(seed + 10)
    measure = np.round(rng.normal(size=len(exact)) + 20 * floats / scale, 1)
    # Another column from elsewhere, the same numbers through another order of operations.
    other = measure / 10 + 0.7 - 0.7
    tags = {"lr": [str(i % 3) for i in range(48)], "width": [str(i // 3 % 2) for i in range(48)]}
    frame = pl.DataFrame(
        {
            "id": [str(i) for i in range(48)],
            **{f"tag.{tag}": values for tag, values in tags.items()},
            "gap": floats,
            "measure": measure,
            "other": other,
        }
    )
    study = cnatool.study(frame=frame, resamples=0, least_pairs=1)
    gap = _exact_levels(exact)
    levels = np.stack([encode_levels(values) for values in tags.values()], axis=1)
    pairs = {tag: find_coupled_pairs(levels, axis) for axis, tag in enumerate(tags)}
    for name in ("measure", "other"):
        (one,) = (c for c in study.result.correlations if c.measure == name)
        assert one.spearman.value == pytest.approx(stats.spearmanr(measure, gap).statistic)
        assert one.kendall_b.value == pytest.approx(stats.kendalltau(measure, gap).statistic)
        (more,) = (h for h in study.result.hyperparameters if h.measure == name)
        assert more.psi.value == pytest.approx(
            granulated_kendall(measure, gap, levels, np.ones((1, 48)))[0][0]
        )
        information = normalised_information(measure, gap, levels, tuple(tags))
        assert more.information.value == pytest.approx(information.value)
        error = sign_errors(measure, gap, levels, pairs, samples=None, least_pairs=1)[None]
        assert more.sign_error.mean == pytest.approx(error.mean)
        assert more.sign_error.max == pytest.approx(error.max)


def test_a_gap_that_is_rounding_alone_is_constant() -> None:
    gaps = [0.92 - 0.9, 0.12 - 0.1, 0.52 - 0.5, 0.72 - 0.7]
    frame = pl.DataFrame({"id": list("abcd"), "gap": gaps, "m": [1.0, 2.0, 3.0, 4.0]})
    (one,) = cnatool.study(frame=frame, resamples=0).result.correlations
    assert one.kendall_b.reason == "gap is the same for all 4 networks"


def test_gaps_that_are_equal_as_fractions_are_ties() -> None:
    rng = np.random.default_rng(0)
    # Few different counts, so that many gaps are equal.
    train, test = rng.integers(900, 1000, (2, 60)) // 10 * 10
    exact = [Fraction(int(a) - int(b), 1000) for a, b in zip(train, test, strict=True)]
    measure = np.array([float(gap) for gap in exact]) // 0.04 + rng.integers(0, 2, 60)
    accuracies = {"train.accuracy": train / 1000, "test.accuracy": test / 1000}
    gap = accuracies["train.accuracy"] - accuracies["test.accuracy"]
    # The case is one: the same gaps as float64 differences are not all equal.
    assert len(set(gap.tolist())) > len(set(exact))

    frame = pl.DataFrame(
        {
            "id": [str(i) for i in range(60)],
            "tag.lr": [str(i % 3) for i in range(60)],
            "tag.width": [str(i // 3 % 4) for i in range(60)],
            **accuracies,
            "gap": gap,
            "mine": measure,
        }
    )
    result = cnatool.study(frame=frame, resamples=0).result
    [found] = [one for one in result.correlations if (one.target, one.measure) == ("gap", "mine")]
    whole = [gap.numerator * (1000 // gap.denominator) for gap in exact]
    assert found.kendall_b.value == pytest.approx(stats.kendalltau(measure, whole).statistic)
    assert found.spearman.value == pytest.approx(stats.spearmanr(measure, whole).statistic)

    rounded = cnatool.study(frame=frame.with_columns(gap=pl.Series(whole) / 1024), resamples=0)
    for one, other in zip(result.hyperparameters, rounded.result.hyperparameters, strict=True):
        if (one.target, one.measure) == ("gap", "mine"):
            assert one.psi.value == pytest.approx(other.psi.value)
            assert one.information.value == pytest.approx(other.information.value)
            assert one.sign_error.mean == pytest.approx(other.sign_error.mean)


def test_what_one_sample_changes_is_no_tie() -> None:
    counts = np.arange(999_999_900, 1_000_000_000)
    for is_share in (True, False):
        assert len(np.unique(merge_rounding(counts / 1e9, is_share=is_share))) == 100


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_ties_are_relative_where_values_are_no_differences(size: float) -> None:
    values = size * np.array([3, 1, 1 + 2e-16, 3 * (1 - 4e-16), 2, 1 + 1e-9])
    assert len(np.unique(merge_rounding(values))) == 4


def test_numbers_that_are_not_there() -> None:
    values = np.array([np.nan, 1.0, np.inf, -np.inf, np.nan, 1.0])
    np.testing.assert_array_equal(merge_rounding(values), values)
    assert merge_rounding(np.empty(0)).size == 0
