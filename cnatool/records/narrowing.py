"""What narrowing cost: the errors of values that were rounded to a narrower type on write."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class NarrowingRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The errors of the values of one tensor that were narrowed.

    Attributes
    ----------
    values : int
        Values that were narrowed.
    overflows : int
        Finite values that became infinite.
    underflows : int
        Values other than 0 that became 0.
    absolute_error : float
        Largest difference between a value and the stored one, overflows left out.
    relative_error : float
        Largest such difference divided by the value; overflows, underflows and subnormals are left
        out, so that it is at most half the distance from 1 to the next number.
    subnormals : int
        Values that are stored with a larger relative error, since they are smaller than the
        smallest number that has all digits.
    largest : float
        Largest magnitude of a value that is finite and stored as such.
    """

    values: int = 0
    overflows: int = 0
    underflows: int = 0
    absolute_error: float = 0.0
    relative_error: float = 0.0
    subnormals: int = 0
    largest: float = 0.0

    def merge(self, other: NarrowingRecord) -> NarrowingRecord:
        """Return the errors of the values of both."""
        return NarrowingRecord(
            self.values + other.values,
            self.overflows + other.overflows,
            self.underflows + other.underflows,
            max(self.absolute_error, other.absolute_error),
            max(self.relative_error, other.relative_error),
            self.subnormals + other.subnormals,
            max(self.largest, other.largest),
        )


def merge_narrowing(
    parts: Iterable[Mapping[str, NarrowingRecord] | msgspec.UnsetType],
) -> dict[str, NarrowingRecord] | msgspec.UnsetType:
    """Return the errors of the rows of all parts of a split, by key; unset if those of one are."""
    merged: dict[str, NarrowingRecord] = {}
    for part in parts:
        if isinstance(part, msgspec.UnsetType):
            return msgspec.UNSET
        merged |= {key: merged.get(key, NarrowingRecord()).merge(part[key]) for key in part}
    return merged or msgspec.UNSET
