"""Labels, predictions, losses and margins of each sample of a split."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import DataError
from cnatool.metrics.compact import compact
from cnatool.metrics.margin import MarginColumns, margin_rows
from cnatool.metrics.performance import cross_entropy
from cnatool.scoring.tokens import explain_label_lists, measure_tokens
from cnatool.store.ragged import as_plain

if TYPE_CHECKING:
    from collections.abc import Iterator

    from numpy.typing import NDArray

    from cnatool.metrics.compact import Integers
    from cnatool.metrics.convention import ConventionFields
    from cnatool.metrics.performance import OutputKind
    from cnatool.metrics.tokens import TokenScores
    from cnatool.scoring.labels import ClassMapping
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.tokens import TokenTask
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

_ELEMENTS = 1 << 16  # scores that are turned into losses and margins at a time


class Performance(NamedTuple):
    """What a network does with the samples of a split, each array of n rows.

    ``margins`` holds the columns that the convention's form of γ needs; the first is the margin.
    ``reason`` explains why there is neither accuracy nor loss, ``scores_reason`` why
    there is no loss and no margin beside an accuracy.
    """

    labels: Integers | None
    kind: OutputKind | None
    predictions: Integers | None
    losses: NDArray[np.float64] | None
    margins: NDArray[np.float64] | None
    reason: str | None
    scores_reason: str | None = None
    # Sums over the tokens of each sample, where these are what is scored, and against what
    tokens: TokenScores | None = None
    task: TokenTask | None = None

    @property
    def margin_reason(self) -> str | None:
        """Why there is no margin."""
        no_margin = None if self.task is None else self.task.no_margin
        return self.reason or self.scores_reason or no_margin

    def accuracy(self) -> Fraction | None:
        """Return the exact share of right predictions; None where undefined."""
        if self.tokens is not None:
            return self.tokens.accuracy()
        if self.predictions is None or self.labels is None or self.reason is not None:
            return None
        return Fraction(int((self.predictions == self.labels).sum()), len(self.labels))

    @property
    def sample_losses(self) -> NDArray[np.float64] | None:
        """Cross-entropy of each sample, or its mean over the tokens; NaN without any."""
        if self.tokens is None:
            return self.losses
        with np.errstate(invalid="ignore"):
            return self.tokens.losses / self.tokens.counts

    def loss(self) -> float | None:
        """Return the mean cross-entropy in nats; None where undefined."""
        if self.tokens is not None:
            return self.tokens.loss()
        if self.losses is None or self.reason is not None:
            return None
        return float(self.losses.mean())


def measure_performance(
    split: Split, fields: ConventionFields, output: ScoredOutput, classes: ClassMapping
) -> Performance:
    """Read labels, predictions, losses and margins of a split, as far as it has them."""
    if output.tokens is not None and output.kind is not None:
        return _measure_tokens(split, output, output.tokens, output.kind)
    stored_labels = split.sample_labels
    labels = None if stored_labels is None else compact(b for _, b in stored_labels.blocks())
    kind = output.kind if output.number is not None else None
    if output.number is None or (kind is None and classes.labels_from is None):
        return Performance(labels, None, None, None, None, output.reason)
    stored = as_plain(split.outputs(output.number))
    rows = len(stored)
    predicted = _predictions(split, stored, output, classes)
    if labels is None or not rows:
        reason = "the split has no labels" if rows else "the split has no rows"
        if split.record.labels and rows:
            reason = explain_label_lists(output.name)
        return Performance(labels, kind, predicted, None, None, reason)
    places = classes.columns_of(labels)
    unread = classes.scores_reason
    if kind is not None and unread is None and places is None:
        unread = f"which column of {output.name!r} stands for some of the labels is not known"
    if kind is None or places is None or unread is not None:
        # Without the model's own labels there is no prediction either.
        both = None if classes.labels_from is not None else unread
        return Performance(labels, kind, predicted, None, None, both, unread)
    losses, margins = np.empty(rows), MarginColumns(rows, fields.margin)
    try:
        for start, block in _read_small_blocks(stored):
            part, scores = slice(start, start + len(block)), output.scores(block)
            losses[part] = cross_entropy(scores, places[part], kind, first_row=start)
            margins.add(
                start,
                margin_rows(scores, places[part], form=fields.margin, kind=kind, first_row=start),
            )
    except DataError as error:
        # α, β and CNA need no labels, and must not fail because of wrong ones.
        reason = str(error)
        return Performance(labels, kind, predicted, None, None, reason)
    broken = rows - int(np.count_nonzero(np.isfinite(losses)))
    problem = None
    if broken:
        problem = f"the outputs are not finite for {broken:,} of {count_text(rows, 'sample')}"
    with np.errstate(over="ignore"):
        if not broken and not np.isfinite(losses.mean()):
            problem = "the losses are too large for float64"
    return Performance(labels, kind, predicted, losses, margins.rows(), problem)


def _measure_tokens(
    split: Split, output: ScoredOutput, task: TokenTask, kind: OutputKind
) -> Performance:
    found = measure_tokens(split, task, output.number, kind)
    if isinstance(found, str):
        return Performance(None, kind, None, None, None, found, task=task)
    return Performance(None, kind, None, None, None, None, tokens=found, task=task)


def _predictions(
    split: Split, stored: StoredArray, output: ScoredOutput, classes: ClassMapping
) -> Integers:
    """Return the predicted label of each row: the model's own, or that of the greatest score."""
    if classes.labels_from is not None:
        return compact(classes.predictions(split))
    return compact(
        classes.predicted_labels(output.predictions(block)) for _, block in stored.blocks()
    )


def _read_small_blocks(stored: StoredArray) -> Iterator[tuple[int, NDArray[Any]]]:
    """Yield rows in parts of which several float64 copies fit the processor's cache."""
    step = max(1, _ELEMENTS // max(1, math.prod(stored.shape[1:])))
    for start, block in stored.blocks():
        for first in range(0, len(block), step):
            yield start + first, block[first : first + step]
