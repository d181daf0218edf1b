from __future__ import annotations

from typing import Any

import pytest

from cnatool.records.store import TensorRecord
from cnatool.records.unit_axis import count_units, find_unit_axis


def _tensor(shape: tuple[int, ...], **more: Any) -> TensorRecord:
    return TensorRecord(0, "t", "Conv", "layer", "float32", shape, 0, "full", **more)


@pytest.mark.parametrize(
    ("tensor", "axis", "units"),
    [
        (_tensor(()), None, 1),
        (_tensor((7,)), 0, 7),
        (_tensor((5, 7)), 1, 7),
        (_tensor((3, 5, 7)), 0, 3),
        (_tensor((3, 5, 7, 2)), 0, 3),
        # Positions are never units: heads × tokens × tokens, and channels × length of sound.
        (_tensor((5, 7), ragged_axis=1), 0, 5),
        (_tensor((5, 7), ragged_axis=0), 1, 7),
        (_tensor((3, 5, 7), ragged_axis=0), 1, 5),
        (_tensor((5,), ragged_axis=0), None, 1),
        (_tensor((5, 7, 2), positions=(0, 1)), 2, 2),
    ],
)
def test_units_lie_along_the_axis_that_is_no_position(
    tensor: TensorRecord, axis: int | None, units: int
) -> None:
    assert find_unit_axis(tensor) == axis
    assert count_units(tensor, axis) == units


def test_each_element_can_be_a_unit() -> None:
    assert count_units(_tensor((3, 5, 7)), "element") == 105
