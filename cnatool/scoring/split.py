"""One split scored sample by sample: α, β, predictions, losses, margins."""

from __future__ import annotations

import dataclasses
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar

import msgspec
import numpy as np

from cnatool.errors import DataError, MetricError
from cnatool.metrics.cna import cna
from cnatool.metrics.correlation import (
    kendall,
    minibatch_pearson,
    pearson,
    smoothed_pearson,
    spearman,
)
from cnatool.metrics.estimate import Cna, Correlation, Estimate, MinibatchCna
from cnatool.metrics.groups import quantile_groups
from cnatool.metrics.length import correlate_with_length
from cnatool.metrics.ranks import rank_pair
from cnatool.scoring.alpha import compute_alpha
from cnatool.scoring.alpha_input import length_unit, measure_lengths
from cnatool.scoring.beta import compute_beta
from cnatool.scoring.labels import COLUMNS_ARE_CLASSES
from cnatool.scoring.performance import Performance, measure_performance
from cnatool.scoring.results import (
    AlphaGroup,
    Coefficients,
    Distribution,
    LengthResult,
    SplitResult,
    TokensResult,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.metrics.ranks import RankedPair, Ranks
    from cnatool.scoring.beta import SplitBeta
    from cnatool.scoring.labels import ClassMapping
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.output import ScoredOutput
    from cnatool.store.store import Split

_Undefinable = TypeVar("_Undefinable", Cna, Correlation, MinibatchCna)


@dataclass(frozen=True)
class ScoredSplit:
    """Per-sample numbers of a split, each of n rows."""

    split: Split
    alpha: NDArray[np.float64]  # NaN where undefined
    split_beta: SplitBeta
    performance: Performance
    lengths: NDArray[np.int64] | None = None  # None if all samples are equally long

    @property
    def beta(self) -> NDArray[np.float64]:
        """β of each sample, (n,)."""
        return self.split_beta.values

    @cached_property
    def rows(self) -> NDArray[np.intp] | None:
        """The m rows that have an α; None if all have."""
        return find_defined(self.alpha)

    def paired(self, values: NDArray[Any]) -> NDArray[Any]:
        """Return numbers of each sample for those that have an α, (m, …)."""
        return values if self.rows is None else values[self.rows]

    @cached_property
    def pair(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """α and β of the samples that have an α, (m,) each."""
        return self.paired(self.alpha), self.paired(self.beta)

    @cached_property
    def ranked(self) -> RankedPair:
        """Ranks of the pair."""
        return rank_pair(*self.pair)

    def result(self, fields: ConventionFields, stream: int, observer: Observer) -> SplitResult:
        """Compute the scores of the split; random draws come from the stream of this number."""
        (alpha, beta), performance = self.pair, self.performance
        accuracy = performance.accuracy()
        split_beta = dataclasses.replace(self.split_beta, values=beta)
        no_cna = split_beta.no_cna(alpha)
        if not len(alpha) and len(self.alpha):
            no_cna = f"no sample has an α: {self.explain_undefined(fields)}"
        correlation = cna(
            alpha,
            beta,
            fields,
            stream=stream,
            progress=partial(observer.progress, f"interval of CNA, {self.split.name}"),
        )
        batches = minibatch_pearson(
            alpha, beta, rows=fields.cna_batch, order=fields.cna_order, seed=fields.resample_seed
        )
        return SplitResult(
            samples=len(self.alpha),
            available=self.split.record.available,
            complete=self.split.record.complete,
            rows=self.split.record.rows,
            skipped=len(self.split.record.skipped),
            accuracy=None if accuracy is None else float(accuracy),
            loss=performance.loss(),
            performance_reason=performance.reason,
            loss_reason=performance.scores_reason if performance.reason is None else None,
            outputs=performance.kind,
            tokens=_token_result(performance),
            alpha=_distribution(alpha),
            beta=_distribution(beta if split_beta.reason is None else beta[:0]),
            beta_reason=split_beta.no_moments(),
            cna=_with_reason(correlation, no_cna),
            coefficients=Coefficients(
                pearson=_as_estimate(_with_reason(pearson(alpha, beta), no_cna)),
                spearman=_as_estimate(
                    _with_reason(spearman(alpha, beta, ranked=self.ranked), no_cna)
                ),
                kendall=_as_estimate(
                    _with_reason(kendall(alpha, beta, ranked=self.ranked), no_cna)
                ),
                smoothed=_as_estimate(
                    _with_reason(
                        smoothed_pearson(alpha, beta, window=fields.window, ranked=self.ranked),
                        no_cna,
                    )
                ),
                minibatches=_with_reason(batches, no_cna),
            ),
            alpha_groups=tuple(self._alpha_groups(fields.alpha_groups, self.ranked.first)),
            alpha_undefined=len(self.alpha) - len(alpha),
            length=self._length(fields, no_cna),
        )

    def explain_undefined(self, fields: ConventionFields) -> str:
        """Explain why samples have no α."""
        if not fields.alpha.endswith("-rate"):
            return "they have no values"
        return f"they are shorter than a window of {fields.alpha_window:,} (`alpha_window`)"

    def _length(self, fields: ConventionFields, no_cna: str | None) -> LengthResult | None:
        """Return how α, β and CNA depend on length, unless all samples with α are equally long."""
        lengths = None if self.lengths is None else self.paired(self.lengths)
        if lengths is None or not len(lengths) or lengths.min() == lengths.max():
            return None
        alpha, beta, fixed = correlate_with_length(*self.pair, lengths, fields.cna)
        return LengthResult(
            unit=length_unit(self.split.store.record, fields),
            samples=_distribution(lengths.astype(np.float64)),
            alpha=alpha,
            beta=beta,
            cna=fixed if no_cna is None else Estimate.undefined(no_cna),
        )

    def _alpha_groups(self, count: int, ranks: Ranks) -> Iterator[AlphaGroup]:
        groups = quantile_groups(self.pair[0], count, ranks)
        numbers = self.rows
        order = np.argsort(groups, kind="stable")
        performance = self.performance
        defined = performance.reason is None
        predictions, tokens = performance.predictions, performance.tokens
        wrong = None if predictions is None else predictions != performance.labels
        for part in np.split(order, np.searchsorted(groups[order], np.arange(1, count))):
            rows = part if numbers is None else numbers[part]
            alpha = _distribution(self.alpha[rows])
            error, loss = _mean(wrong, rows), _mean(performance.losses, rows)
            if tokens is not None:
                of_group = tokens[rows]
                accuracy, loss = of_group.accuracy(), of_group.loss()
                error = None if accuracy is None else float(1 - accuracy)
            yield AlphaGroup(
                samples=len(rows),
                alpha_min=alpha.min,
                alpha_mean=alpha.mean,
                alpha_max=alpha.max,
                error=error if defined else None,
                loss=loss if defined else None,
            )


def score_split(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    output: ScoredOutput,
    observer: Observer,
    classes: ClassMapping = COLUMNS_ARE_CLASSES,
) -> ScoredSplit:
    """Score the samples of a split."""
    with locate_errors(split):
        alpha = compute_alpha(split, fields, observer)
        beta = compute_beta(split, layers, fields)
        performance = measure_performance(split, fields, output, classes)
        lengths = measure_lengths(split, fields)
    return ScoredSplit(split, alpha, beta, performance, lengths)


def find_defined(alpha: NDArray[np.float64]) -> NDArray[np.intp] | None:
    """Return the rows of samples that have an α; None if all have."""
    undefined = np.isnan(alpha)
    return np.flatnonzero(~undefined) if undefined.any() else None


@contextmanager
def locate_errors(split: Split) -> Iterator[None]:
    """Prefix errors of metrics, which know arrays alone, with the store and the split."""
    try:
        yield
    except (DataError, MetricError) as error:
        raise type(error)(f"{split.path}, split {split.name!r}: {error}") from error


def _token_result(performance: Performance) -> TokensResult | msgspec.UnsetType:
    task, tokens = performance.task, performance.tokens
    if task is None:
        return msgspec.UNSET
    loss = None if tokens is None else tokens.loss()
    with np.errstate(over="ignore"):
        perplexity = None if loss is None else finite_or_none(np.exp(loss))
    return TokensResult(task.targets, 0 if tokens is None else tokens.tokens, perplexity)


def _distribution(values: NDArray[np.float64]) -> Distribution:
    if not len(values):
        return Distribution(None, None, None, None)
    with np.errstate(invalid="ignore", over="ignore"):
        numbers = (values.mean(), values.std(), values.min(), values.max())
    return Distribution(*(finite_or_none(number) for number in numbers))


def _mean(values: NDArray[Any] | None, rows: NDArray[np.int64]) -> float | None:
    return None if values is None or not len(rows) else float(values[rows].mean())


def _with_reason(measure: _Undefinable, reason: str | None) -> _Undefinable:
    """Replace the reason why a measure is undefined, if there is a more precise one."""
    return measure if reason is None else msgspec.structs.replace(measure, reason=reason)


def _as_estimate(correlation: Correlation) -> Estimate:
    return Estimate(correlation.value, correlation.reason)


def finite_or_none(number: float | np.floating[Any]) -> float | None:
    """Return a number if it is finite, else None."""
    return float(number) if np.isfinite(number) else None
