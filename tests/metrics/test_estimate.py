from __future__ import annotations

from cnatool.metrics.estimate import Correlation, Estimate


def test_undefined_has_a_reason_and_no_value() -> None:
    assert Estimate.undefined("why") == Estimate(value=None, reason="why")
    assert Correlation.undefined("why") == Correlation(value=None, interval=None, reason="why")


def test_a_value_has_no_reason() -> None:
    assert Estimate(0.5).reason is None
    assert Correlation(0.5, (0.4, 0.6)).reason is None
