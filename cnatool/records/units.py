"""Typed records of statistics of units that a store holds."""

from __future__ import annotations

from typing import Literal

import msgspec


class UnitsTensor(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor whose units are measured.

    Attributes
    ----------
    number : int
        Number of the tensor.
    axis : int, "element" or None
        The axis of its ``shape`` that has the units; ``element`` if each element is one, and null
        if the whole tensor is.
    units : int
        Number of units.
    ragged_axis : int
        The axis of ``shape`` along which samples differ in length; absent if all have one shape.
    """

    number: int
    axis: int | Literal["element"] | None
    units: int
    ragged_axis: int | msgspec.UnsetType = msgspec.UNSET


class UnitsRecord(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What is measured of units, in the arrays ``units/<rows>/<name>`` of each split.

    Attributes
    ----------
    tensors : tuple of UnitsTensor
        The tensors, in the order in which their units lie along the axis of units.
    top : int
        Number of samples that are kept of those that excite a unit most.
    """

    tensors: tuple[UnitsTensor, ...]
    top: int

    @property
    def units(self) -> int:
        """Units of all tensors."""
        return sum(tensor.units for tensor in self.tensors)


class UnitsArray(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An array of statistics of units.

    Attributes
    ----------
    shape : tuple of int
        Its shape.
    dtype : str
        Its element type.
    crc32c : str
        CRC-32C of its bytes, C-contiguous and little-endian, in eight hexadecimal digits.
    """

    shape: tuple[int, ...]
    dtype: str
    crc32c: str


class UnitsState(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which statistics of units of a split are safely on disk.

    Attributes
    ----------
    rows : int
        The first rows of the split, which the statistics cover: committed ones, and all once the
        split is complete. It is the name of the group that has the arrays.
    bins : tuple of int
        For each tensor, in order, the number of bins of the histograms of its units.
    arrays : dict of str to UnitsArray
        The arrays by name: ``counts`` and ``moments`` with a row for each unit, ``histogram_bins``
        with the numbers of the bins of all tensors, ``histogram_counts`` with the counts of all,
        those of each tensor by unit and bin, ``top_values``, ``top_rows`` and ``top_positions``,
        and where samples have labels ``class_labels``, ``class_sums`` and ``class_counts``.
    """

    rows: int
    bins: tuple[int, ...]
    arrays: dict[str, UnitsArray]


def units_folder(split: str, rows: int | None = None) -> str:
    """Return the key of the group of a split's statistics of units, or of those of so many rows."""
    folder = f"splits/{split}/units"
    return folder if rows is None else f"{folder}/{rows}"
