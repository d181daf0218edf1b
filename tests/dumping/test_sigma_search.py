"""The search for the largest scale that is borne."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnatool.dumping.flatness import EVALUATIONS, Interval, largest_scale


@given(
    exponent=st.floats(-19.9, 7.9),
    unit=st.floats(1e-6, 1e6),
)
def test_the_edge_is_found_within_half_a_percent(exponent: float, unit: float) -> None:
    edge, tried = unit * 2**exponent, []

    def borne(scale: float) -> bool:
        tried.append(scale)
        return scale <= edge

    low, high = largest_scale(borne, unit)
    assert low is not None
    assert high is not None
    assert low <= edge < high
    assert high / low < 1.005
    assert len(tried) == EVALUATIONS
    assert {low, high} <= set(tried)


def test_all_is_borne() -> None:
    assert largest_scale(lambda _: True, 3.0) == Interval(768.0, None)


def test_nothing_is_borne() -> None:
    low, high = largest_scale(lambda _: False, 1.0)
    assert low is None
    assert high == pytest.approx(2**-20)


def test_a_gap_is_left_at_one_of_its_edges() -> None:
    low, high = largest_scale(lambda s: s < 0.01 or 0.1 < s < 0.2, 1.0)
    assert low is not None
    assert any(low <= edge <= (high or 0) for edge in (0.01, 0.1, 0.2))
