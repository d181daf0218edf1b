"""Scoring: a store's arrays in, one typed result out. No model, no runtime, no framework."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.observer import Silent
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.scoring.alpha import alpha_codec
from cnatool.scoring.baselines import scored_baselines
from cnatool.scoring.labels import class_reading
from cnatool.scoring.layer_selection import missing_layers
from cnatool.scoring.notes import notes
from cnatool.scoring.output import scored_output
from cnatool.scoring.results import (
    LayerResult,
    ModelResult,
    OutputResult,
    ScoreResult,
)
from cnatool.scoring.samples import sample_frames, sample_schema
from cnatool.scoring.split import scored_split
from cnatool.scoring.split_selection import range_advice, scored_parts
from cnatool.scoring.train_test import TRAIN, pair_scores

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import polars

    from cnatool._util.observer import Observer
    from cnatool.scoring.labels import ClassReading
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.split import ScoredSplit
    from cnatool.store.store import Store


def score(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
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
    inputs : str, Path or iterable of these
        Stores that hold the raw inputs of those that refer to another store for them, where they
        are not where that says.

    Returns
    -------
    ScoreResult

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If there is no store, or it is broken.
    MetricError
        If the store lacks what the convention needs, or refers to raw inputs that are not there.
    UsageError
        If the convention, a field or the output does not exist.
    DataError
        If inputs lie outside the histogram's range.
    """
    return score_all(
        store, test, Convention.named(convention, overrides), output=output, inputs=inputs
    ).result()


def score_samples(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
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
    return score_all(
        store, test, Convention.named(convention, overrides), output=output, inputs=inputs
    ).frame()


@dataclass(frozen=True, slots=True)
class Scored:
    """A scored store: everything a result and a frame of samples are made from."""

    store: Store
    test_store: Store | None
    convention: Convention
    layers: list[ScoredLayer]
    missing: list[str]
    output: ScoredOutput
    reading: ClassReading
    splits: dict[str, ScoredSplit]

    def result(self, observer: Observer | None = None) -> ScoreResult:
        """Give the scores of the splits and what is measured between them.

        Parameters
        ----------
        observer : Observer, optional
            Is told how far it is.
        """
        fields, observer = self.convention.fields, observer or Silent()
        pair = pair_scores(self.splits, fields, observer)
        model = self.store.record.model
        splits = {
            # By its name, whatever other splits there are.
            name: split.result(fields, zlib.crc32(name.encode()), observer)
            for name, split in self.splits.items()
        }
        return ScoreResult(
            schema="cnatool.score/1",
            store=str(self.store.path),
            test_store=None if self.test_store is None else str(self.test_store.path),
            model=None if model is None else ModelResult(model.name, model.files[0].sha256),
            tags=self.store.record.tags,
            convention=self.convention,
            alpha_codec=alpha_codec(fields),
            layers=tuple(
                LayerResult(number, layer.tensor.name, layer.operator, layer.depth)
                for number, layer in enumerate(self.layers, start=1)
            ),
            layers_missing=tuple(self.missing),
            output=OutputResult(self.output.number, self.output.name, self.output.others),
            splits=splits,
            gap=pair.gaps[fields.gap],
            gap_accuracy=pair.gaps["accuracy"],
            gap_loss=pair.gaps["loss"],
            cna_area=pair.area,
            cna_area_by_chance=pair.chance,
            margin=pair.margin,
            cna_margin=pair.product,
            baselines=scored_baselines(self.store, pair.margin, self.splits.get(TRAIN)),
            notes=(
                *self.reading.notes,
                *notes(
                    self.store,
                    fields,
                    self.missing,
                    self.output,
                    self.layers,
                    self.splits,
                    pair,
                ),
            ),
        )

    def frame(self) -> polars.DataFrame:
        """Give one row a sample; see `score_samples`."""
        import polars as pl

        return pl.concat([pl.DataFrame(schema=sample_schema()), *self.frames()])

    def frames(self) -> Iterator[polars.DataFrame]:
        """Give the rows of `frame`, a block at a time."""
        return sample_frames(self.splits)


def score_all(
    store: str | Path | Store,
    test: str | Path | Store | None,
    convention: Convention,
    *,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    observer: Observer | None = None,
) -> Scored:
    """Score a store once, for both its result and its frame of samples.

    Parameters and errors are those of `score`; the observer is told how far it is.
    """
    fields = convention.fields
    parts = scored_parts(store, test, fields, inputs)
    chosen = scored_output(parts.store, [split for split, _ in parts.splits.values()], output)
    reading = class_reading(
        parts.store, [split for split, _ in parts.splits.values()], chosen, chosen=bool(output)
    )
    with range_advice(parts):
        scored = {
            name: scored_split(split, layers, fields, chosen, observer or Silent(), reading)
            for name, (split, layers) in parts.splits.items()
        }
    return Scored(
        store=parts.store,
        test_store=parts.test_store,
        convention=convention,
        layers=parts.layers,
        missing=missing_layers(parts.store, fields),
        output=chosen,
        reading=reading,
        splits=scored,
    )
