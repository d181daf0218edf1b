from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import scipy.special

from cnatool.errors import DataError, MetricError
from cnatool.metrics.performance import cross_entropy, predictions


def test_prediction_is_the_first_greatest() -> None:
    got = predictions(np.array([[1.0, 3.0, 3.0], [0.0, -1.0, -2.0]], np.float32))
    assert got.tolist() == [1, 0]
    assert got.dtype == np.int64


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_cross_entropy_of_logits(dtype: Any) -> None:
    rng = np.random.default_rng(1)
    logits = (rng.normal(size=(200, 7)) * 300).astype(dtype)
    labels = rng.integers(0, 7, 200)
    expected = -scipy.special.log_softmax(logits.astype(float), axis=1)[np.arange(200), labels]
    got = cross_entropy(logits, labels, "logits")
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, rtol=1e-12, atol=1e-12)


def test_cross_entropy_does_not_overflow() -> None:
    got = cross_entropy(np.array([[1e300, 0.0], [-1e300, 0.0]]), [1, 1], "logits")
    assert got.tolist() == [1e300, 0.0]


def test_cross_entropy_of_probabilities() -> None:
    p = np.array([[0.25, 0.75], [1.0, 0.0], [1.0, 0.0]], np.float32)
    got = cross_entropy(p, [0, 0, 1], "probabilities")
    # The smallest positive float32 is 2**-149.
    np.testing.assert_allclose(got, [np.log(4), 0, 149 * np.log(2)], rtol=1e-14)


def test_cross_entropy_of_what_is_not_finite_stays_in_its_row() -> None:
    got = cross_entropy(np.array([[np.nan, 0.0], [np.inf, 0.0], [0.0, 0.0]]), [0, 0, 0], "logits")
    assert np.isnan(got).tolist() == [True, True, False]


@pytest.mark.parametrize(("bad", "text"), [(3, "3"), (-1, "-1")])
def test_a_label_that_is_no_class(bad: int, text: str) -> None:
    message = (
        rf"^Sample row 2 has the label {text}, and the output scores 3 classes: labels go from 0 "
        r"to 2\.$"
    )
    labels = np.array([0, 2, bad, 9])
    with pytest.raises(DataError, match=message):
        cross_entropy(np.zeros((4, 3)), labels, "logits")
    with pytest.raises(DataError, match=r"^Sample row 102 has"):
        cross_entropy(np.zeros((4, 3)), labels, "logits", first_row=100)


def test_labels_that_do_not_fit() -> None:
    with pytest.raises(DataError, match=r"^Labels of shape \(2,\) do not fit 4 outputs"):
        cross_entropy(np.zeros((4, 3)), [0, 1], "logits")
    with pytest.raises(DataError, match=r"^Labels must be whole numbers .* these are float64\.$"):
        cross_entropy(np.zeros((2, 3)), [0.0, 1.0], "logits")


def test_outputs_that_are_no_scores() -> None:
    with pytest.raises(MetricError, match=r"^The outputs have shape \(4, 3, 2\), not one score"):
        predictions(np.zeros((4, 3, 2)))
    with pytest.raises(MetricError, match=r"^The outputs have shape \(4, 0\)"):
        predictions(np.zeros((4, 0)))
