"""Numbers of parts, and the rows that a part says it has."""

from __future__ import annotations

from typing import Any

import pytest

from cnatool.errors import UsageError
from cnatool.records.parts import (
    PartRecord,
    PartReference,
    check_part,
    check_references,
    parse_part,
)

SHA256 = "ab" * 32


@pytest.mark.parametrize("part", ["3/16", (3, 16), " 3 / 16", [3, 16]])
def test_numbers(part: Any) -> None:
    assert parse_part(part) == (3, 16)


@pytest.mark.parametrize("part", ["", "3", "3/", "/16", "3/16/1", "x/16", (3,), (None, 2), 3])
def test_what_is_no_number(part: Any) -> None:
    with pytest.raises(UsageError, match="is not K/N, as in 3/16"):
        parse_part(part)


@pytest.mark.parametrize("part", ["0/16", "17/16", "-1/2", "1/0", (1, 100_001)])
def test_numbers_that_cannot_be(part: Any) -> None:
    with pytest.raises(UsageError, match="there is no part|a dump has from 1 to 100,000 parts"):
        parse_part(part)


def test_a_part_within_its_splits() -> None:
    part = PartRecord(2, 3, {"train": 40, "test": 0}, {"train": 100, "test": 10}, SHA256)
    assert str(part) == "part 2 of 3"
    assert list(check_part(part, {"train": 60, "test": 0})) == []
    # A dump that was interrupted early has no split yet.
    assert list(check_part(part, {})) == []
    assert list(check_part(part, {"train": 61})) == ["split 'train' has rows 40 to 101 of 100"]
    assert list(check_part(part, {"val": 1})) == ["it is a part of a dump with other splits"]


def test_references_cover_the_rows() -> None:
    parts = tuple(
        PartReference(f"p{number}.zarr", SHA256, {"train": rows, "test": 0})
        for number, rows in enumerate((64, 64, 5))
    )
    assert list(check_references(parts, {"train": 133, "test": 0})) == []
    assert list(check_references(parts, {"train": 134})) == [
        "split 'train' has 134 rows, but its parts have 133"
    ]
