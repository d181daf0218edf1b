"""The result of comparing the distributions of two sets of samples in one network."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.html import shown_by
from cnatool._util.text import count_text
from cnatool.metrics.convention import Convention
from cnatool.metrics.drift import Correction


class DriftSide(msgspec.Struct, frozen=True):
    """One of the two sets of samples.

    Attributes
    ----------
    store, split : str
        Where it is.
    samples : int
        Its rows.
    """

    store: str
    split: str
    samples: int


class NumberDrift(msgspec.Struct, frozen=True):
    """How far apart a number that each sample has is in the two sets; the first is the reference.

    Attributes
    ----------
    samples, samples2 : int
        Samples with a finite number.
    mean, mean2 : float or None
        Its means.
    std, std2 : float or None
        Its standard deviations, of the sample (divided by n − 1).
    smd : float or None
        Cohen's d, (mean2 − mean) as a share of the pooled deviation; null where nothing varies.
    ks : float or None
        Kolmogorov–Smirnov distance, from 0 to 1, of the samples that were tested.
    tested, tested2 : int
        How many samples were tested: all, or as many as memory is set aside for, drawn at random.
    p_value : float or None
        Of the Kolmogorov–Smirnov test.
    p_adjusted : float or None
        The same, adjusted for the number of comparisons.
    reason : str or None
        Why a number is missing.
    """

    samples: int
    samples2: int
    mean: float | None
    mean2: float | None
    std: float | None
    std2: float | None
    smd: float | None
    ks: float | None
    tested: int
    tested2: int
    p_value: float | None
    p_adjusted: float | None = None
    reason: str | None = None


class UnitsDrift(msgspec.Struct, frozen=True):
    """How far the units of one tensor drift, in a few numbers.

    Attributes
    ----------
    units : int
        How many there are.
    unit_axis : int, "element" or None
        The axis of a sample's shape that has them; ``element`` where each element is one, and null
        where the tensor is one unit.
    ks_mean : float or None
        Mean over the units of the Kolmogorov–Smirnov distance of all values, at least: at the
        edges of histogram bins.
    ks_high_mean : float or None
        The same at most.
    ks_max : float or None
        The largest distance, at least.
    farthest : int or None
        Number of that unit, from 0.
    smd_mean : float or None
        Mean over the units of the absolute standardised difference of all values.
    comparisons : int
        Units with a p-value.
    drifting : int
        Units whose adjusted p-value does not exceed the level.
    reason : str or None
        Why p-values are missing.
    """

    units: int
    unit_axis: int | Literal["element"] | None
    ks_mean: float | None
    ks_high_mean: float | None
    ks_max: float | None
    farthest: int | None
    smd_mean: float | None
    comparisons: int
    drifting: int
    reason: str | None = None


class TensorDrift(msgspec.Struct, frozen=True):
    """How far a tensor drifts.

    Attributes
    ----------
    name, operator : str
        Its name, and the operator that computes it.
    layer : int or None
        Number of the linear operator whose result, or whose pre-activation, it is.
    shape : tuple of int
        Shape for one sample in the first store.
    means : NumberDrift
        Of a sample's mean over all elements of the tensor.
    units : UnitsDrift or None
        Of its units; null where a store has no values of single units.
    units_reason : str or None
        Why there are none.
    """

    name: str
    operator: str
    layer: int | None
    shape: tuple[int, ...]
    means: NumberDrift
    units: UnitsDrift | None
    units_reason: str | None = None


class Comparisons(msgspec.Struct, frozen=True):
    """How many tests were made together, and how many of them found a difference.

    Attributes
    ----------
    comparisons : int
        p-values, for whose number each is adjusted.
    drifting : int
        Of these, adjusted ones that do not exceed the level.
    """

    comparisons: int
    drifting: int


class DriftResult(Document, frozen=True):
    """The result of `cnatool drift`.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    reference, other : DriftSide
        The two sets of samples.
    level : float
        Significance level that adjusted p-values are compared with.
    correction : str
        How p-values are adjusted for the number of comparisons.
    units, tensors, scores : Comparisons
        The tests of units, of means over tensors, and of α and β, each adjusted for its own number
        of comparisons.
    ordered_by : {"units", "means"}
        What the tensors are ordered by: the mean distance of their units or, if some have no units,
        the distance of means over all elements.
    drift : tuple of TensorDrift
        The tensors, by decreasing drift.
    alpha, beta : NumberDrift
        Drift of input complexity and of the use of depth.
    convention : Convention
        The definitions of α and β.
    meaning_notes : tuple of str
        What the distances and p-values mean.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.drift/1"]
    reference: DriftSide
    other: DriftSide
    level: float
    correction: Correction
    units: Comparisons
    tensors: Comparisons
    scores: Comparisons
    ordered_by: Literal["units", "means"]
    drift: tuple[TensorDrift, ...]
    alpha: NumberDrift
    beta: NumberDrift
    convention: Convention
    meaning_notes: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        first = f", most in {self.drift[0].name}" if self.drift else ""
        units = count_text(self.units.comparisons, "unit")
        return (
            f"<drift between {self.reference.split!r} and {self.other.split!r}: "
            f"{self.units.drifting:,} of {units} at {self.level:g}{first}>"
        )

    _repr_html_ = shown_by("cnatool.comparing.drift.html", "drift_html")
