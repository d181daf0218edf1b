"""The demo: small networks at several epochs of training, dumped and scored over digits.

The networks and digits in ``data`` were written by `examples/train_demo_networks.py` and
`examples/convert_digits.py`; the demo needs no training framework.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib.resources import as_file, files
from types import MappingProxyType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from cnatool._util.observer import Observer
    from cnatool.metrics.estimate import Cna, Estimate, ResampledEstimate
    from cnatool.scoring.results import ScoreResult, SplitResult

__all__ = ["CONVENTION", "MEASURES", "DemoCorrelation", "DemoRow", "correlate_measures", "run_demo"]

CONVENTION = "paper"
# The tables of the demo do not show intervals, which would take most of the time.
_WITHOUT_INTERVALS = {"resamples": "0", "area_resamples": "0", "permutations": "0"}
# Each run differs from another in only one of these.
_HYPERPARAMETERS = {
    run: {"architecture": architecture, "optimizer": optimizer, "random_labels": share}
    for run, architecture, optimizer, share in (
        ("sgd", "perceptron", "sgd", "0"),
        ("adam", "perceptron", "adam", "0"),
        ("noisy-labels", "perceptron", "sgd", "0.5"),
        ("conv", "convolutional", "adam", "0"),
    )
}


@dataclass(frozen=True, slots=True)
class DemoRow:
    """One network: a run at one of its epochs, its store, and its score."""

    run: str  # name of the run
    epoch: int  # epochs of training
    store: Path  # store of its activation sums
    # Splits ``train`` and ``test``, by the convention `CONVENTION`, without intervals
    score: ScoreResult

    @property
    def train(self) -> SplitResult:
        """The training split's scores."""
        return self.score.splits["train"]

    @property
    def test(self) -> SplitResult:
        """The test split's scores."""
        return self.score.splits["test"]


@dataclass(frozen=True, slots=True)
class DemoCorrelation:
    """Correlation of a measure with test accuracy over some of the networks.

    It has no interval, since epochs of one run are not independent.
    """

    measure: str  # A key of `MEASURES`
    run: str | None  # the run, or None for all networks
    networks: int  # networks that have both numbers
    pearson: Estimate  # the coefficients
    spearman: Estimate


MEASURES: Mapping[str, Callable[[DemoRow], Cna | Estimate | ResampledEstimate]] = MappingProxyType(
    {
        "CNA train": lambda row: row.train.cna,
        "CNA test": lambda row: row.test.cna,
        "CNA-A": lambda row: row.score.cna_area,
        "margin": lambda row: row.score.margin,
        "CNA-M": lambda row: row.score.cna_margin,
    }
)


def run_demo(folder: Path, observer: Observer) -> list[DemoRow]:
    """Dump each network over the digits into ``folder/<run>-epoch<EEE>.zarr``, and score it.

    Parameters
    ----------
    folder : Path
        An existing folder. Stores of the same names in it are replaced.
    observer : Observer
        Receives the progress through all networks together.

    Returns
    -------
    list of DemoRow
        Run by run, by rising epoch.

    Raises
    ------
    NotAStoreError
        If something that is not a store has a store's name in `folder`.
    StoreWriteError
        If a store cannot be written.
    """
    from cnatool.data.detect import open_source
    from cnatool.data.find_splits import find_splits
    from cnatool.dumping.dump import dump
    from cnatool.scoring.score import score
    from cnatool.store.replace import check_free

    rows = []
    with as_file(files("cnatool.demo") / "data") as data:
        models = sorted((data / "networks").glob("*.onnx"))
        splits = {n: place.path for n, place in find_splits(data / "digits", {}).items()}
        samples = sum(open_source(split).rows for split in splits.values())
        stores = {model: folder / f"{model.stem}.zarr" for model in models}
        for store in stores.values():
            # All are checked before the first one is replaced.
            check_free(store, overwrite=True)
        progress = _TotalProgress(observer, f"{len(models)} networks", len(models) * samples)
        for model, path in stores.items():
            run, _, epoch = model.stem.rpartition("-epoch")
            dumped = dump(
                model,
                store=path,
                splits=splits,
                keep="statistics",
                tags={"run": run, "epoch": str(int(epoch)), **_HYPERPARAMETERS.get(run, {})},
                overwrite=True,
                observer=progress,
            )
            scored = score(dumped, convention=CONVENTION, overrides=_WITHOUT_INTERVALS)
            rows.append(DemoRow(run, int(epoch), path, scored))
    return rows


def correlate_measures(rows: Sequence[DemoRow]) -> list[DemoCorrelation]:
    """Correlate each measure with test accuracy, over all networks and within each run."""
    runs = dict.fromkeys(row.run for row in rows)
    return [
        _correlate(measure, run, [row for row in rows if run in (None, row.run)])
        for measure in MEASURES
        for run in (None, *runs)
    ]


def _correlate(measure: str, run: str | None, rows: Sequence[DemoRow]) -> DemoCorrelation:
    from cnatool.metrics.correlation import pearson, spearman
    from cnatool.metrics.estimate import Estimate

    pairs = [
        (value, accuracy)
        for row in rows
        if (value := MEASURES[measure](row).value) is not None
        and (accuracy := row.test.accuracy) is not None
    ]
    values, accuracies = [value for value, _ in pairs], [accuracy for _, accuracy in pairs]
    names = (measure, "test accuracy")
    linear = pearson(values, accuracies, names)
    ranked = spearman(values, accuracies, names)
    return DemoCorrelation(
        measure,
        run,
        len(pairs),
        Estimate(linear.value, linear.reason),
        Estimate(ranked.value, ranked.reason),
    )


class _TotalProgress:
    """Observer that adds up the progress of consecutive dumps, and ignores their notes."""

    def __init__(self, observer: Observer, name: str, rows: int) -> None:
        self._observer = observer
        self._name = name
        self._rows = rows
        self._finished = 0

    def note(self, text: str) -> None:
        pass

    def progress(self, split: str, done: int, rows: int) -> None:
        self._observer.progress(self._name, self._finished + done, self._rows)
        if done == rows:
            self._finished += rows
