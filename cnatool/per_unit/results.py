"""The result of `cnatool units`: what the units of each tensor do, in numbers of each tensor."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.text import count_text

DEAD = "no finite value above 0 in any sample, at any position"
CONSTANT = "all finite values equal, whichever they are"


class TensorUnits(msgspec.Struct, frozen=True):
    """The units of a tensor over one split.

    Attributes
    ----------
    tensor, operator : str
        Name in the network, and the operator that computes it.
    role : {"layer", "activation", "output", "other"}
        Its role, as in the store.
    shape : tuple of int or None
        Shape of one sample; None along the axis in which samples differ in length.
    unit_axis : int, "element" or None
        The axis of ``shape`` that has the units; ``element`` where each element is one; None where
        the whole tensor is one.
    units : int
        Number of units.
    values : int
        Finite values of all units.
    nan, infinite : int
        Values that are NaN, or ∞ or −∞, which nothing else counts.
    dead : int
        Units of which no finite value is above 0, as ``dead_means`` of the result says.
    dead_units : tuple of int
        The first 100 of them, by number from 0.
    constant : int
        Units all finite values of which are equal, dead ones included.
    empty : int
        Units without a finite value, which are neither dead nor constant.
    zeros, positives : float or None
        Shares of all finite values that are exactly 0, and above 0; None without values.
    mean, deviation : float or None
        Medians over the units of a unit's mean and standard deviation.
    ccmas : float or None
        Median over the units of class selectivity, where it is defined; None where it is for none.
    ccmas_units : int
        Units of which class selectivity is defined.
    source : {"arrays", "statistics"}
        Whether the store has the whole arrays, or what a dump counted of their units.
    """

    tensor: str
    operator: str
    role: str
    shape: tuple[int | None, ...]
    unit_axis: int | Literal["element"] | None
    units: int
    values: int
    nan: int
    infinite: int
    dead: int
    dead_units: tuple[int, ...]
    constant: int
    empty: int
    zeros: float | None
    positives: float | None
    mean: float | None
    deviation: float | None
    ccmas: float | None
    ccmas_units: int
    source: Literal["arrays", "statistics"]


class SplitUnits(msgspec.Struct, frozen=True):
    """The units over one split.

    Attributes
    ----------
    samples : int
        Samples that were read.
    complete : bool
        Whether the dump of this split was finished.
    rows : int
        Rows that the split has, or will have once its dump is finished.
    classes : int
        Classes by the labels; 0 without labels of samples.
    tensors : tuple of TensorUnits
        The tensors, in the order of the store.
    """

    samples: int
    complete: bool
    rows: int
    classes: int
    tensors: tuple[TensorUnits, ...]


class LeftOut(msgspec.Struct, frozen=True):
    """A tensor that was selected and is left out.

    Attributes
    ----------
    tensor : str
        Its name.
    reason : str
        Why, and what to do.
    """

    tensor: str
    reason: str


class UnitsResult(Document, frozen=True):
    """The result of `cnatool units`.

    Attributes
    ----------
    schema : str
        Name and version of this document.
    store : str
        The store.
    dead_means, constant_means : str
        Definitions of a dead and of a constant unit.
    quantiles : tuple of float
        The quantiles in the table of units.
    quantile_error : float
        Largest error of a quantile, relative to the values that it lies between.
    top : int
        Number of samples listed for each unit, those that excite it most.
    splits : dict of str to SplitUnits
        Each split.
    left_out : tuple of LeftOut
        Selected tensors for which the store has neither arrays nor units.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.units/1"]
    store: str
    dead_means: str
    constant_means: str
    quantiles: tuple[float, ...]
    quantile_error: float
    top: int
    splits: dict[str, SplitUnits]
    left_out: tuple[LeftOut, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        tensors = max((len(split.tensors) for split in self.splits.values()), default=0)
        named = count_text(tensors, "tensor")
        return f"<cnatool units of {self.store!r}: {named}; {', '.join(self.splits)}>"
