"""One split scored sample by sample: α, β, predictions, losses, margins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError, MetricError
from cnatool.metrics.alpha import entropy, extent, level_entropy, level_extent
from cnatool.metrics.beta import activation_sums, aggregated, slopes
from cnatool.metrics.correlation import pearson
from cnatool.metrics.margin import margin_rows
from cnatool.metrics.performance import cross_entropy
from cnatool.results import Distribution, SplitResult

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention
    from cnatool.metrics.performance import OutputKind
    from cnatool.scored_layers import ScoredLayer
    from cnatool.scored_output import ScoredOutput
    from cnatool.store.reader import Split

__all__ = ["ScoredSplit", "input_extent", "scored_split"]


@dataclass(frozen=True, slots=True)
class ScoredSplit:
    """Per-sample numbers of a split, each of n rows.

    ``margins`` has two columns, what every form of γ is computed from.
    """

    split: Split
    alpha: NDArray[np.float64]
    beta: NDArray[np.float64]
    labels: NDArray[np.int64] | None
    kind: OutputKind | None
    predictions: NDArray[np.int64] | None
    losses: NDArray[np.float64] | None
    margins: NDArray[np.float64] | None
    performance_reason: str | None

    def accuracy(self) -> float | None:
        """Share of right predictions; None where undefined."""
        if self.predictions is None or self.labels is None or self.performance_reason is not None:
            return None
        return float((self.predictions == self.labels).mean())

    def loss(self) -> float | None:
        """Mean cross-entropy in nats; None where undefined."""
        if self.losses is None or self.performance_reason is not None:
            return None
        return float(self.losses.mean())

    def result(self) -> SplitResult:
        """Sum the split up."""
        return SplitResult(
            samples=len(self.alpha),
            available=self.split.record.available,
            complete=self.split.record.complete,
            rows=self.split.record.rows,
            skipped=len(self.split.record.skipped),
            accuracy=self.accuracy(),
            loss=self.loss(),
            performance_reason=self.performance_reason,
            outputs=self.kind,
            alpha=_distribution(self.alpha),
            beta=_distribution(self.beta),
            cna=pearson(self.alpha, self.beta),
        )


def scored_split(
    split: Split, layers: Sequence[ScoredLayer], fields: Convention, output: ScoredOutput
) -> ScoredSplit:
    """Score the samples of a split.

    Parameters
    ----------
    split : Split
    layers : sequence of ScoredLayer
        What β is computed over.
    fields : Convention
    output : ScoredOutput
        What accuracy, loss and margin are taken from.

    Raises
    ------
    DataError, MetricError
        If an input lies outside the histogram, or there are too few layers.
    """
    try:
        alpha = _alpha(split, fields)
        beta = slopes(_z(split, layers, fields), [layer.depth for layer in layers])
        return _with_performance(split, alpha, beta, fields, output)
    except (DataError, MetricError) as error:
        # The metrics know rows of arrays, not where these came from.
        raise type(error)(f"{split.path}, split {split.name!r}: {error}") from error


def _alpha(split: Split, fields: Convention) -> NDArray[np.float64]:
    measure = level_entropy if split.levels() else entropy
    blocks = [
        measure(
            block,
            bins=fields.bins,
            range=fields.range,
            out_of_range=fields.out_of_range,
            density=fields.alpha == "entropy-density",
            first_row=start,
        )
        for start, block in split.inputs().blocks()
    ]
    return np.concatenate(blocks) if blocks else np.empty(0)


def _z(split: Split, layers: Sequence[ScoredLayer], fields: Convention) -> NDArray[np.float64]:
    """Give z_d, (n, L): from the stored sums, or where there are none from whole activations."""
    z = np.empty((len(split), len(layers)))
    if split.has_statistic("sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("sum").blocks():
            z[start : start + len(block)] = block[:, columns]
    else:
        for column, layer in enumerate(layers):
            for start, block in split.activations(layer.tensor.name).blocks():
                z[start : start + len(block), column] = activation_sums(block)
    for column, layer in enumerate(layers):
        if layer.tensor.varies and fields.aggregate != "sum":
            z[:, column] /= _element_counts(split, layer, fields)
        else:
            z[:, column] = aggregated(z[:, column], layer.tensor.shape, fields.aggregate)
    return z


def _element_counts(split: Split, layer: ScoredLayer, fields: Convention) -> NDArray[np.float64]:
    """Give the elements of each sample of a layer whose shape depends on the data."""
    if fields.aggregate != "mean" or not split.has_statistic("count"):
        raise MetricError(
            f"the shape of layer {layer.tensor.name!r} depends on the data, so "
            f"aggregate={fields.aggregate} is not defined for it: --set aggregate=sum."
        )
    counts: NDArray[np.float64] = split.statistics("count")[:][:, layer.tensor.number]
    return np.maximum(counts, 1)


def _with_performance(
    split: Split,
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    fields: Convention,
    output: ScoredOutput,
) -> ScoredSplit:
    stored, stored_labels = split.outputs(output.number), split.labels
    labels = None if stored_labels is None else stored_labels[:]
    if output.kind is None:
        return ScoredSplit(split, alpha, beta, labels, None, None, None, None, output.reason)
    kind = output.kind
    rows = len(stored)
    predicted = np.empty(rows, np.int64)
    for start, block in stored.blocks():
        predicted[start : start + len(block)] = output.predictions(block)
    if labels is None or not rows:
        reason = "the split has no labels" if rows else "the split has no rows"
        return ScoredSplit(split, alpha, beta, labels, kind, predicted, None, None, reason)
    losses, margins = np.empty(rows), np.empty((rows, 2))
    try:
        for start, block in stored.blocks():
            part, scores = slice(start, start + len(block)), output.scores(block)
            losses[part] = cross_entropy(scores, labels[part], kind, first_row=start)
            margins[part] = margin_rows(
                scores, labels[part], form=fields.margin, kind=kind, first_row=start
            )
    except DataError as error:
        # α, β and CNA need no labels: wrong ones must not take them away.
        reason = str(error)
        return ScoredSplit(split, alpha, beta, labels, kind, predicted, None, None, reason)
    broken = rows - int(np.count_nonzero(np.isfinite(losses)))
    problem = f"the outputs are not finite for {broken} of {rows} samples" if broken else None
    return ScoredSplit(split, alpha, beta, labels, kind, predicted, losses, margins, problem)


def _distribution(values: NDArray[np.float64]) -> Distribution:
    if not len(values):
        return Distribution(None, None, None, None)
    with np.errstate(invalid="ignore"):
        numbers = (values.mean(), values.std(), values.min(), values.max())
    return Distribution(*(_finite(number) for number in numbers))


def _finite(number: float | np.floating[Any]) -> float | None:
    return float(number) if np.isfinite(number) else None


def input_extent(splits: Iterable[Split]) -> tuple[float, float]:
    """Give the least and the greatest finite value of the raw inputs of all splits."""
    blocks = [
        (level_extent if split.levels() else extent)(block)
        for split in splits
        for _, block in split.inputs().blocks()
    ]
    return min(low for low, _ in blocks), max(high for _, high in blocks)
