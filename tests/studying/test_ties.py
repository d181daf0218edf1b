"""Numbers that are equal but for rounding are ties, in every coefficient of a study."""

from fractions import Fraction

import numpy as np
import polars as pl
import pytest
from scipy import stats

import cnatool
from cnatool.studying.ties import tie_rounded


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
    assert len(np.unique(tie_rounded(counts / 1e9, scale=1.0))) == 100


@pytest.mark.parametrize("size", [1e-30, 1.0, 1e30])
def test_ties_are_relative_where_values_are_no_differences(size: float) -> None:
    values = size * np.array([3, 1, 1 + 2e-16, 3 * (1 - 4e-16), 2, 1 + 1e-9])
    assert len(np.unique(tie_rounded(values))) == 4


def test_numbers_that_are_not_there() -> None:
    values = np.array([np.nan, 1.0, np.inf, -np.inf, np.nan, 1.0])
    np.testing.assert_array_equal(tie_rounded(values), values)
    assert tie_rounded(np.empty(0)).size == 0
