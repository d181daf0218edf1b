"""Scoring: a store's arrays in, one typed result out. No model, no runtime, no framework."""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np

from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.alpha import entropy
from cnatool.metrics.area import curve_area
from cnatool.metrics.beta import activation_sums, aggregated, slopes
from cnatool.metrics.convention import convention as named_convention
from cnatool.metrics.correlation import pearson
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.margin import margin_estimate, margin_rows, output_kind
from cnatool.metrics.performance import OutputKind, cross_entropy, predictions
from cnatool.results import (
    ConventionResult,
    Distribution,
    LayerResult,
    ScoreResult,
    SplitResult,
)
from cnatool.scored_layers import scored_layers
from cnatool.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    import polars
    from numpy.typing import NDArray

    from cnatool.metrics.convention import Convention
    from cnatool.scored_layers import ScoredLayer
    from cnatool.store.reader import Split

__all__ = ["Scored", "score", "score_all", "score_samples"]

_NO_OVERRIDES: Mapping[str, str] = MappingProxyType({})
_TRAIN, _TEST = "train", "test"
# The split of a store that was dumped without names.
_UNNAMED = "all"


def score(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, str] = _NO_OVERRIDES,
) -> ScoreResult:
    """Score a store: α, β and CNA of each split, CNA-A and CNA-M between train and test.

    Parameters
    ----------
    store : str, Path or Store
        The store. Its splits ``train`` and ``test`` are compared, where it has both.
    test : str, Path or Store, optional
        A second store that holds the test split; ``store`` then holds the training split.
    convention : {"paper", "reference", "legacy"}
        Which definitions to follow.
    overrides : mapping of str to str
        Fields of the convention to set, as one writes them for ``--set``.

    Returns
    -------
    ScoreResult

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If there is no store, or it is broken.
    MetricError
        If the store lacks what the convention needs.
    UsageError
        If the convention or a field does not exist.
    DataError
        If inputs lie outside the histogram's range, or labels outside the classes.
    """
    return score_all(store, test, convention=convention, overrides=overrides).result()


def score_samples(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, str] = _NO_OVERRIDES,
) -> polars.DataFrame:
    """Score a store sample by sample.

    Parameters and errors are those of `score`.

    Returns
    -------
    polars.DataFrame
        Columns ``split``, ``id``, ``label``, ``prediction``, ``alpha``, ``beta``, ``margin``; null
        where a store has no labels, or outputs that are no class scores. The margin is in
        probabilities for the form ``paper``, else in logits.
    """
    return score_all(store, test, convention=convention, overrides=overrides).frame()


@dataclass(frozen=True, slots=True)
class _ScoredSplit:
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
        if self.predictions is None or self.labels is None or self.performance_reason is not None:
            return None
        return float((self.predictions == self.labels).mean())

    def loss(self) -> float | None:
        if self.losses is None or self.performance_reason is not None:
            return None
        return float(self.losses.mean())

    def result(self) -> SplitResult:
        return SplitResult(
            samples=len(self.alpha),
            complete=self.split.record.complete,
            accuracy=self.accuracy(),
            loss=self.loss(),
            performance_reason=self.performance_reason,
            outputs=self.kind,
            alpha=_distribution(self.alpha),
            beta=_distribution(self.beta),
            cna=pearson(self.alpha, self.beta),
        )


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored store: everything a result and a frame of samples are made from."""

    store: Store
    test_store: Store | None
    convention: Convention
    described: ConventionResult
    layers: list[ScoredLayer]
    splits: dict[str, _ScoredSplit]

    def result(self) -> ScoreResult:
        """Give the scores of the splits and what is measured between them."""
        gap = self._pair(_gap, self.convention)
        area = self._pair(_area, self.convention)
        margin = self._margin()
        return ScoreResult(
            schema="cnatool.score/1",
            store=str(self.store.path),
            test_store=None if self.test_store is None else str(self.test_store.path),
            tags=self.store.record.tags,
            convention=self.described,
            layers=tuple(
                LayerResult(number, layer.tensor.name, layer.operator, layer.depth)
                for number, layer in enumerate(self.layers, start=1)
            ),
            splits={name: split.result() for name, split in self.splits.items()},
            gap=gap,
            cna_area=area,
            margin=margin,
            cna_margin=_product(margin, area),
        )

    def _pair(self, measure: Any, convention: Convention) -> Estimate:
        missing = [name for name in (_TRAIN, _TEST) if name not in self.splits]
        if missing:
            return Estimate.undefined(f"no split called {' or '.join(missing)}")
        estimate: Estimate = measure(self.splits[_TRAIN], self.splits[_TEST], convention)
        return estimate

    def _margin(self) -> Estimate:
        split = self.splits.get(_TRAIN)
        if split is None:
            return Estimate.undefined(f"no split called {_TRAIN}")
        if split.margins is None or split.kind is None:
            return Estimate.undefined(split.performance_reason or "no outputs")
        return margin_estimate(
            split.margins,
            form=self.convention.margin,
            kind=split.kind,
            fraction=self.convention.margin_fraction,
            seed=self.convention.margin_seed,
            percentile=self.convention.margin_percentile,
            batch=self.convention.margin_batch,
        )

    def frame(self) -> polars.DataFrame:
        """Give one row a sample; see `score_samples`."""
        import polars as pl

        schema = {
            "split": pl.String,
            "id": pl.String,
            "label": pl.Int64,
            "prediction": pl.Int64,
            "alpha": pl.Float64,
            "beta": pl.Float64,
            "margin": pl.Float64,
        }
        frames = []
        for name, split in self.splits.items():
            ids = [str(value) for value in split.split.ids[:]]
            empty = [None] * len(ids)
            columns = {
                "split": [name] * len(ids),
                "id": ids,
                "label": empty if split.labels is None else split.labels,
                "prediction": empty if split.predictions is None else split.predictions,
                "alpha": split.alpha,
                "beta": split.beta,
                "margin": empty if split.margins is None else split.margins[:, 0],
            }
            frames.append(pl.DataFrame(columns, schema=schema))
        return pl.concat(frames)


def score_all(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, str] = _NO_OVERRIDES,
) -> Scored:
    """Score a store once, for both its result and its frame of samples.

    Parameters and errors are those of `score`.
    """
    fields, typed = named_convention(convention, overrides)
    first = store if isinstance(store, Store) else open_store(store)
    second = test if isinstance(test, Store) or test is None else open_store(test)
    layers = scored_layers(first, fields)
    if second is None:
        parts = {name: (split, layers) for name, split in first.splits.items()}
    else:
        others = scored_layers(second, fields)
        _check_same_network(first, second)
        parts = {
            _TRAIN: (_only_split(first, _TRAIN), layers),
            _TEST: (_only_split(second, _TEST), others),
        }
    kind = _output_kind([split for split, _ in parts.values()])
    return Scored(
        store=first,
        test_store=second,
        convention=fields,
        described=ConventionResult(convention, typed, fields),
        layers=layers,
        splits={
            name: _scored_split(split, of, fields, kind) for name, (split, of) in parts.items()
        },
    )


def _only_split(store: Store, name: str) -> Split:
    """Give the split of this name, or the one split of a store that was dumped without names."""
    if name in store.splits:
        return store.splits[name]
    if list(store.splits) == [_UNNAMED]:
        return store.splits[_UNNAMED]
    raise UsageError(
        f"{store.path} has the splits {', '.join(store.splits) or '(none)'}, and with --test it "
        f"should have one called {name!r}, or just {_UNNAMED!r}."
    )


def _check_same_network(first: Store, second: Store) -> None:
    """Refuse to compare a training split of one network with a test split of another."""
    one, other = first.record, second.record
    files = [None if r.model is None else [f.sha256 for f in r.model.files] for r in (one, other)]
    classes = [
        {split.record.classes for split in store.splits.values()} for store in (first, second)
    ]
    for what, same in (
        ("models", None in files or files[0] == files[1]),
        ("layers", one.layers == other.layers),
        ("outputs", one.outputs == other.outputs),
        ("preprocessing", one.preprocessing == other.preprocessing),
        ("classes", classes[0] == classes[1]),
    ):
        if not same:
            raise MetricError(
                f"{first.path} and {second.path} cannot be compared: their {what} are not the same."
            )


def _scored_split(
    split: Split, layers: Sequence[ScoredLayer], fields: Convention, kind: OutputKind | str
) -> _ScoredSplit:
    try:
        alpha = _alpha(split, fields)
        beta = slopes(_z(split, layers, fields), [layer.depth for layer in layers])
        return _with_performance(split, alpha, beta, fields, kind)
    except (DataError, MetricError) as error:
        # The metrics know rows of arrays, not where these came from.
        raise type(error)(f"{split.path}, split {split.name!r}: {error}") from error


def _alpha(split: Split, fields: Convention) -> NDArray[np.float64]:
    blocks = [
        entropy(
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
        z[:, column] = aggregated(z[:, column], layer.tensor.shape, fields.aggregate)
    return z


def _output_kind(splits: Sequence[Split]) -> OutputKind | str:
    """Say what the first output holds, the same for all splits; or why it is no class scores.

    What the graph says counts first: the operator that makes the output. Where it is not known or
    tells nothing, the values decide.
    """
    if not splits:
        return "the store has no splits"
    outputs = splits[0].outputs()
    if len(outputs.shape) != 2 or outputs.shape[1] < 2 or outputs.dtype.kind != "f":
        return f"the output has shape {outputs.shape[1:]} a sample, not one score a class"
    operator = splits[0].output_operator()
    if operator == "Softmax":
        return "probabilities"
    if operator == "Sigmoid":
        return "the output is a sigmoid a unit: independent scores, not one distribution"
    kinds = {output_kind(block) for split in splits for _, block in split.outputs().blocks()}
    return "probabilities" if kinds == {"probabilities"} else "logits"


def _with_performance(
    split: Split,
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    fields: Convention,
    kind: OutputKind | str,
) -> _ScoredSplit:
    outputs, stored_labels = split.outputs(), split.labels
    labels = None if stored_labels is None else stored_labels[:]
    if kind not in get_args(OutputKind):
        return _ScoredSplit(split, alpha, beta, labels, None, None, None, None, kind)
    kind = cast("OutputKind", kind)
    rows = len(outputs)
    predicted = np.empty(rows, np.int64)
    for start, block in outputs.blocks():
        predicted[start : start + len(block)] = predictions(block)
    if labels is None or not rows:
        reason = "the split has no labels" if rows else "the split has no rows"
        return _ScoredSplit(split, alpha, beta, labels, kind, predicted, None, None, reason)
    losses, margins = np.empty(rows), np.empty((rows, 2))
    for start, block in outputs.blocks():
        part = slice(start, start + len(block))
        losses[part] = cross_entropy(block, labels[part], kind, first_row=start)
        margins[part] = margin_rows(
            block, labels[part], form=fields.margin, kind=kind, first_row=start
        )
    broken = rows - int(np.count_nonzero(np.isfinite(losses)))
    problem = f"the outputs are not finite for {broken} of {rows} samples" if broken else None
    return _ScoredSplit(split, alpha, beta, labels, kind, predicted, losses, margins, problem)


def _gap(train: _ScoredSplit, test: _ScoredSplit, fields: Convention) -> Estimate:
    performances = {
        "accuracy": (train.accuracy(), test.accuracy()),
        "loss": (train.loss(), test.loss()),
    }
    first, second = performances[fields.gap]
    if first is None or second is None:
        reason = train.performance_reason or test.performance_reason
        return Estimate.undefined(reason or f"a split has no {fields.gap}")
    return Estimate(first - second if fields.gap == "accuracy" else abs(first - second))


def _area(train: _ScoredSplit, test: _ScoredSplit, fields: Convention) -> Estimate:
    return curve_area(
        (train.alpha, train.beta),
        (test.alpha, test.beta),
        form=fields.area,
        window=fields.window,
        points=fields.points,
    )


def _product(margin: Estimate, area: Estimate) -> Estimate:
    if margin.value is None:
        return Estimate.undefined(f"the margin is undefined: {margin.reason}")
    if area.value is None:
        return Estimate.undefined(f"CNA-A is undefined: {area.reason}")
    return Estimate(margin.value * area.value)


def _distribution(values: NDArray[np.float64]) -> Distribution:
    if not len(values):
        return Distribution(None, None, None, None)
    with np.errstate(invalid="ignore"):
        numbers = (values.mean(), values.std(), values.min(), values.max())
    return Distribution(*(_finite(number) for number in numbers))


def _finite(number: float | np.floating[Any]) -> float | None:
    return float(number) if np.isfinite(number) else None
