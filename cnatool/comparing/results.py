"""The result of comparing two stores."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool._util.html import shown_by
from cnatool.metrics.convention import Convention


class Difference(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The difference between two arrays.

    Attributes
    ----------
    max_abs : float or None
        Largest absolute difference; null where there is none that is finite.
    max_relative : float or None
        Largest difference as a share of ``scale``.
    scale : str or None
        What it is a share of: ``abs_sum``, the same row's sum of absolute values; ``row``, what the
        statistic is in that row, and no less than its mean size; ``elements``, their number;
        ``largest``, the largest absolute value of the tensor.
    reason : str or None
        Why a number is missing.
    row : int or None
        Row of the largest absolute difference; null where there is none.
    """

    max_abs: float | None
    max_relative: float | None
    scale: str | None
    reason: str | None = None
    row: int | None = None


class Agreement(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How well whole values agree over all samples; the first store is the signal.

    Attributes
    ----------
    sqnr : float or None
        Signal-to-noise ratio in dB, 10 · log10(Σ x² / Σ (x − y)²); null where the values are equal.
    cosine : float or None
        Cosine similarity Σ x·y / √(Σ x² · Σ y²).
    noise : float or None
        Σ (x − y)² / Σ x², the noise as a share of the signal.
    reason : str or None
        Why a number is missing.
    """

    sqnr: float | None
    cosine: float | None
    noise: float | None
    reason: str | None = None


class TensorCompared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tensor of the first store, and the one of the second that it was compared with.

    Attributes
    ----------
    name, name2 : str
        Their names.
    layer, layer2 : int or None
        Numbers of the linear operators that they stand for; null where they stand for none.
    stands_for : {"preactivation", "linear", "tensor"}
        Whether it is what enters a layer's nonlinearity, its linear operator's own result where
        that is another, or a tensor matched by name alone.
    statistics : dict of str to Difference
        Of each statistic that both stores hold.
    activations : Difference
        Of the values, where both stores hold them whole.
    worst : str or None
        Id of the sample with the largest difference of values; null where there is none.
    agreement : Agreement
        Of the values, where both stores hold them whole.
    added_noise : float or None
        How much larger the noise is, as a share of the signal, than in any of the nearest compared
        tensors that this one is computed from; 0 where it is not. Null without noise.
    """

    name: str
    name2: str
    layer: int | None
    layer2: int | None
    stands_for: Literal["preactivation", "linear", "tensor"]
    statistics: dict[str, Difference]
    activations: Difference
    worst: str | None
    agreement: Agreement
    added_noise: float | None


class ArraysCompared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Outputs of the two stores.

    Attributes
    ----------
    name, name2 : str
        Their names.
    values : Difference
        Of the values.
    agreement : Agreement
        Of the values.
    predictions : float or None
        Share of the samples for which the largest score is the same class; null where an output is
        no row of scores.
    """

    name: str
    name2: str
    values: Difference
    agreement: Agreement
    predictions: float | None


class SplitCompared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One split that both stores have.

    Attributes
    ----------
    rows, rows2 : int
        Its rows; as many as both have are compared, in order.
    same_data : bool or None
        Whether raw inputs and labels are the same, byte for byte; null where a store is not
        complete.
    ids, labels : float or None
        Share of rows with the same id, and with the same label; null where a store has no labels.
    tensors : tuple of TensorCompared
        The tensors that could be matched, in execution order.
    outputs : tuple of ArraysCompared
        The outputs, in order.
    first_apart : str or None
        The first tensor, in execution order, of which a difference exceeds the tolerance.
    by_added_noise : tuple of str
        The tensors that add noise, those that add most first.
    """

    rows: int
    rows2: int
    same_data: bool | None
    ids: float | None
    labels: float | None
    tensors: tuple[TensorCompared, ...]
    outputs: tuple[ArraysCompared, ...]
    first_apart: str | None
    by_added_noise: tuple[str, ...]


class ScoreCompared(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One score of both stores.

    Attributes
    ----------
    name : str
        As a path in the result of `cnatool score`: ``splits.train.cna``.
    value, value2 : float or None
        The score; null where it is undefined.
    relative : float or None
        Their difference: of correlations and accuracies as it is; of the mean of β as a share of
        that or of β's deviation, the larger; of others as a share of the larger of the two. Null
        where one alone is undefined.
    """

    name: str
    value: float | None
    value2: float | None
    relative: float | None


class Comparison(Document, frozen=True, forbid_unknown_fields=True):
    """The result of `cnatool compare`.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    store, store2 : str
        What was compared.
    tolerance : float
        Largest relative difference that counts as equal.
    same : bool
        Whether all layers were matched and no relative difference exceeds the tolerance.
    largest : float or None
        The largest relative difference; null where one is undefined.
    largest_of : str
        Where it was found.
    differences : tuple of str
        What differs, in words; empty if nothing does.
    matched : {"name", "order"}
        Whether all layers were matched by name, or some of them by size, path, shortcut and order.
    unmatched, unmatched2 : tuple of str
        Layers of the first and of the second store that have no match.
    splits : dict of str to SplitCompared
        The splits that both stores have.
    convention : Convention
        The convention used for the scores.
    scores : tuple of ScoreCompared
        The scores.
    scores_reason : str or None
        Why there are no scores.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.compare/1"]
    store: str
    store2: str
    tolerance: float
    same: bool
    largest: float | None
    largest_of: str
    differences: tuple[str, ...]
    matched: Literal["name", "order"]
    unmatched: tuple[str, ...]
    unmatched2: tuple[str, ...]
    splits: dict[str, SplitCompared]
    convention: Convention
    scores: tuple[ScoreCompared, ...]
    scores_reason: str | None
    notes: tuple[str, ...]

    @property
    def verdict(self) -> str:
        """Whether the stores are the same, in words."""
        return "the same" if self.same else "not the same"

    def __repr__(self) -> str:
        return (
            f"<comparison of {self.store!r} and {self.store2!r}: {self.verdict} within "
            f"{self.tolerance:g}>"
        )

    _repr_html_ = shown_by("cnatool.comparing.html", "comparison_html")
