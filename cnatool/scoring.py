"""Scoring: a store's arrays in, one typed result out. No model, no runtime, no framework."""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from cnatool.errors import DataError, MetricError, UsageError
from cnatool.metrics.alpha import OutsideError
from cnatool.metrics.area import curve_area
from cnatool.metrics.convention import convention as named_convention
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.margin import margin_estimate
from cnatool.results import (
    ConventionResult,
    LayerResult,
    ModelResult,
    OutputResult,
    ScoreResult,
)
from cnatool.score_notes import notes
from cnatool.scored_baselines import scored_baselines
from cnatool.scored_layers import missing_layers, scored_layers
from cnatool.scored_output import scored_output
from cnatool.scored_splits import input_extent, scored_split
from cnatool.store.reader import Store, open_store

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import polars

    from cnatool.metrics.convention import Convention
    from cnatool.scored_layers import ScoredLayer
    from cnatool.scored_output import ScoredOutput
    from cnatool.scored_splits import ScoredSplit
    from cnatool.store.reader import Split

__all__ = ["Scored", "score", "score_all", "score_samples"]

_NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})
_TRAIN, _TEST = "train", "test"
# The split of a store that was dumped without names.
_UNNAMED = "all"


def score(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    output: str | None = None,
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
    overrides : mapping of str to object
        Fields of the convention to set, typed or as one writes them for ``--set``.
    output : str, optional
        The model output that holds the class scores. By default, of those that are no whole
        numbers, the first that the last layer leads to and that has one score a class.

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
        If the convention, a field or the output does not exist.
    DataError
        If inputs lie outside the histogram's range.
    """
    return score_all(
        store, test, convention=convention, overrides=overrides, output=output
    ).result()


def score_samples(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    output: str | None = None,
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
    return score_all(store, test, convention=convention, overrides=overrides, output=output).frame()


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored store: everything a result and a frame of samples are made from."""

    store: Store
    test_store: Store | None
    convention: Convention
    described: ConventionResult
    layers: list[ScoredLayer]
    missing: list[str]
    output: ScoredOutput
    splits: dict[str, ScoredSplit]

    def result(self) -> ScoreResult:
        """Give the scores of the splits and what is measured between them."""
        gap = self._pair(_gap, self.convention)
        area = self._pair(_area, self.convention)
        margin = self._margin()
        model = self.store.record.model
        splits = {name: split.result() for name, split in self.splits.items()}
        return ScoreResult(
            schema="cnatool.score/1",
            store=str(self.store.path),
            test_store=None if self.test_store is None else str(self.test_store.path),
            model=None if model is None else ModelResult(model.name, model.files[0].sha256),
            tags=self.store.record.tags,
            convention=self.described,
            layers=tuple(
                LayerResult(number, layer.tensor.name, layer.operator, layer.depth)
                for number, layer in enumerate(self.layers, start=1)
            ),
            layers_missing=tuple(self.missing),
            output=OutputResult(self.output.number, self.output.name, self.output.others),
            splits=splits,
            gap=gap,
            cna_area=area,
            margin=margin,
            cna_margin=_product(margin, area),
            baselines=scored_baselines(self.store, margin, self.splits.get(_TRAIN)),
            notes=tuple(notes(self.store, self.convention, self.missing, self.output, splits)),
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
        import polars.selectors as cs

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
            # Undefined is null, here as everywhere, and never NaN.
            finite = pl.when(cs.float().is_finite()).then(cs.float())
            frames.append(pl.DataFrame(columns, schema=schema).with_columns(finite))
        return pl.concat(frames)


def score_all(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = _NO_OVERRIDES,
    output: str | None = None,
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
    splits = [split for split, _ in parts.values()]
    chosen = scored_output(first, splits, output)
    try:
        scored = {
            name: scored_split(split, of, fields, chosen) for name, (split, of) in parts.items()
        }
    except OutsideError as error:
        low, high = input_extent(splits)
        raise DataError(
            f"{error} The inputs of all splits go from {low:g} to {high:g}, which "
            f"--set range={_range_around(low, high)} takes in."
        ) from error
    return Scored(
        store=first,
        test_store=second,
        convention=fields,
        described=ConventionResult(convention, typed, fields),
        layers=layers,
        missing=missing_layers(first, fields),
        output=chosen,
        splits=scored,
    )


def _range_around(low: float, high: float) -> str:
    """Write a range that takes both in, to three digits of its width."""
    width = min(high - low, sys.float_info.max) or abs(high) or 1.0
    step = 10.0 ** (math.floor(math.log10(width)) - 2)
    first, last = math.floor(low / step), math.ceil(high / step)
    return f"{first * step:.12g}:{max(last, first + 1) * step:.12g}"


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


def _gap(train: ScoredSplit, test: ScoredSplit, fields: Convention) -> Estimate:
    performances = {
        "accuracy": (train.accuracy(), test.accuracy()),
        "loss": (train.loss(), test.loss()),
    }
    first, second = performances[fields.gap]
    if first is None or second is None:
        reason = train.performance_reason or test.performance_reason
        return Estimate.undefined(reason or f"a split has no {fields.gap}")
    return Estimate(first - second if fields.gap == "accuracy" else abs(first - second))


def _area(train: ScoredSplit, test: ScoredSplit, fields: Convention) -> Estimate:
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
