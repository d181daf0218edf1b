"""A store's arrays → one typed result. No model, no runtime, no framework."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cnatool._util.observer import Silent
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.scoring.baselines import compute_baselines
from cnatool.scoring.labels import map_classes
from cnatool.scoring.layer_selection import find_missing_layers
from cnatool.scoring.notes import score_notes
from cnatool.scoring.output import select_output
from cnatool.scoring.results import OutputResult, ScoreResult
from cnatool.scoring.samples import sample_frames, sample_schema
from cnatool.scoring.split import score_split
from cnatool.scoring.split_selection import select_splits, suggest_range
from cnatool.scoring.train_test import TRAIN, score_train_test
from cnatool.store.reader import as_paths

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from pathlib import Path

    import polars
    from distributed import Client

    from cnatool._util.observer import Observer
    from cnatool.scoring.labels import ClassMapping
    from cnatool.scoring.output import ScoredOutput
    from cnatool.scoring.split import ScoredSplit
    from cnatool.scoring.split_selection import SelectedSplits
    from cnatool.store.store import Store


def score(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    client: Client | None = None,
) -> ScoreResult:
    """Score a store: α, β and CNA of each split, CNA-A and CNA-M between train and test.

    Parameters
    ----------
    store : str, Path or Store
        The store. Its splits ``train`` and ``test`` are compared, if it has both.
    test : str, Path or Store, optional
        A second store that contains the test split; ``store`` then contains the training split.
    convention : {"paper", "reference", "legacy"}
        Which definitions to follow.
    overrides : mapping of str to object
        Fields of the convention to set, typed or as text: ``{"bins": 64}`` or ``{"bins": "64"}``.
    output : str, optional
        The model output that contains the class scores. By default the first floating-point output
        that the last layer leads to and that has one score per class.
    inputs : str, Path or iterable of these
        Stores that contain the raw inputs of other stores, if they have moved since those were
        dumped.
    client : distributed.Client, optional
        Client of a Dask cluster, whose workers score ranges of rows; they need access to the store.

    Returns
    -------
    ScoreResult

    Raises
    ------
    NotAStoreError, StoreDamagedError
        If there is no store, or it is damaged.
    MetricError
        If the store lacks what the convention needs, or refers to raw inputs that are missing.
    UsageError
        If the convention, a field or the output does not exist.
    DataError
        If inputs lie outside the histogram's range.
    """
    return score_store(
        store,
        test,
        Convention.named(convention, overrides),
        output=output,
        inputs=inputs,
        client=client,
    ).result()


def score_samples(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    client: Client | None = None,
) -> polars.DataFrame:
    """Score a store sample by sample.

    Parameters and errors are those of `score`.

    Returns
    -------
    polars.DataFrame
        Columns ``split``, ``id``, ``label``, ``prediction``, ``alpha``, ``beta``, ``margin``,
        ``length``; a value is null if the store has no labels or its outputs are not class scores,
        if a sample has no α, or if all samples are equally long. The margin is in probabilities for
        the form ``paper``, and otherwise in logits. If each token has scores, there are also
        ``tokens``, the number of tokens that have a target, and ``loss``, their mean cross-entropy
        in nats.
    """
    return score_store(
        store,
        test,
        Convention.named(convention, overrides),
        output=output,
        inputs=inputs,
        client=client,
    ).frame()


@dataclass(frozen=True, slots=True)
class StoreScores:
    """The numbers of each sample of a store, from which a result and a frame are made."""

    selected: SelectedSplits
    convention: Convention
    missing: list[str]
    output: ScoredOutput
    classes: ClassMapping
    splits: dict[str, ScoredSplit]

    def result(self, observer: Observer | None = None) -> ScoreResult:
        """Compute the scores of the splits, and those between train and test."""
        fields, observer = self.convention.fields, observer or Silent()
        pair = score_train_test(self.splits, fields, observer)
        store, layers = self.selected.store, self.selected.layers
        results = {
            # Random streams follow the name, whatever other splits there are.
            name: split.result(fields, zlib.crc32(name.encode()), observer)
            for name, split in self.splits.items()
        }
        return ScoreResult(
            schema="cnatool.score/1",
            **self.selected.header(self.convention),
            layers_missing=tuple(self.missing),
            output=OutputResult(self.output.number, self.output.name, self.output.others),
            splits=results,
            gap=pair.gaps[fields.gap],
            gap_accuracy=pair.gaps["accuracy"],
            gap_loss=pair.gaps["loss"],
            cna_area=pair.area,
            cna_area_by_chance=pair.chance,
            margin=pair.margin,
            cna_margin=pair.product,
            baselines=compute_baselines(store, pair.margin, self.splits.get(TRAIN)),
            notes=(
                *self.selected.unfinished_notes(),
                *self.classes.notes,
                *score_notes(
                    store, fields, self.missing, self.output, layers, self.splits, results, pair
                ),
            ),
        )

    def frame(self) -> polars.DataFrame:
        """Return one row per sample, with the columns of `score_samples`."""
        import polars as pl

        return pl.concat([pl.DataFrame(schema=sample_schema(self.splits)), *self.frames()])

    def frames(self) -> Iterator[polars.DataFrame]:
        """Yield the rows of `frame`, a block at a time."""
        return sample_frames(self.splits)


def score_store(
    store: str | Path | Store,
    test: str | Path | Store | None,
    convention: Convention,
    *,
    output: str | None = None,
    inputs: str | Path | Iterable[str | Path] = (),
    client: Client | None = None,
    observer: Observer | None = None,
) -> StoreScores:
    """Score every sample of a store, for both its result and its frame.

    Parameters and errors are those of `score`.
    """
    fields, observer = convention.fields, observer or Silent()
    selected = select_splits(store, test, fields, inputs)
    for note in selected.unfinished_notes():
        observer.note(note)
    splits = [split for split, _ in selected.splits.values()]
    scored_output = select_output(selected.store, splits, output)
    classes = map_classes(selected.store, splits, scored_output, named=output is not None)
    if client is not None:
        from cnatool.scoring.cluster import score_splits_on_cluster

        scored = score_splits_on_cluster(
            client, selected, fields, scored_output, classes, as_paths(inputs), observer
        )
    else:
        with suggest_range(selected, fields):
            scored = {
                name: score_split(split, layers, fields, scored_output, observer, classes)
                for name, (split, layers) in selected.splits.items()
            }
    return StoreScores(
        selected=selected,
        convention=convention,
        missing=find_missing_layers(selected.store, fields),
        output=scored_output,
        classes=classes,
        splits=scored,
    )
