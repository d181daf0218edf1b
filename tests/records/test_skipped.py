"""Kinds of reasons for which tensors are not stored."""

from __future__ import annotations

import pytest

from cnatool.records import skipped
from cnatool.records.skipped import SkipKind, skip_kind
from cnatool.records.store import SkippedTensor


@pytest.mark.parametrize(
    ("reason", "kind"),
    [
        (skipped.CONSTANT, "constant"),
        (skipped.SHAPE_ARITHMETIC, "shape arithmetic"),
        (skipped.ITERATION, "shape arithmetic"),
        (skipped.random_reason("Bernoulli"), "random"),
        (skipped.unknown_axis_reason("Bernoulli", (3,)), "random"),
        (skipped.no_axis_reason((4,)), "no sample axis"),
        (skipped.no_fixed_axis_reason((4,), 2), "no sample axis"),
        (skipped.no_single_axis_reason((3, 3), (2, 2), 3), "no sample axis"),
        (skipped.counted_reason((7, 4)), "counted"),
        (skipped.subgraph_reason("BeamSearch", "no results"), "in a subgraph"),
        (skipped.not_numeric_reason("strings"), "not numeric"),
        (skipped.INSIDE_OPERATOR, "in an operator"),
        (skipped.NOT_ASKED, "not asked for"),
        ("its rank varies between batches", "other"),
    ],
)
def test_every_reason_has_a_kind(reason: str, kind: SkipKind) -> None:
    assert skip_kind(SkippedTensor("t", "Relu", reason)) == kind


def test_operators_that_draw_are_random_whatever_the_reason() -> None:
    reason = skipped.subgraph_reason("BeamSearch", "no results")
    assert skip_kind(SkippedTensor("t", "RandomNormal", reason)) == "random"
