"""The columns of a frame of networks: what a score gives as a number, under a name."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from cnatool.metrics.estimate import Estimate, ResampledEstimate
    from cnatool.metrics.norms import Baseline
    from cnatool.scoring.results import ScoreResult, SplitResult
    from cnatool.studying.results import MeasureKind

TAG = "tag."
TEXTS = ("id", "path", "test_path", "model", "convention")
TARGETS = ("test.accuracy", "gap")

_BASELINES = (
    "l2",
    "spectral",
    "l2_path",
    "bound_2018",
    "bound_2018_from_zero",
    "parameter_norm",
    "l1",
    "distance",
    "parameters",
    "depth",
)
_CNA_FORMS = ("pearson", "spearman", "kendall", "smoothed")
# What any claim about generalisation must beat.
_TRIVIAL = frozenset(
    {"log.parameter_norm", "log.l1", "log.distance", "log.parameters", "log.depth"}
)
_GAPS = frozenset({"gap", "gap_accuracy", "gap_loss"})
# What is made of the test labels, as the targets are, and what is no measure of a network.
_NO_MEASURES = _GAPS | {"test.accuracy", "test.loss"}


def tag_column(tag: str) -> str:
    """Name the column of a tag."""
    return f"{TAG}{tag}"


def measure_kind(column: str) -> MeasureKind | None:
    """Say what a column of numbers is: a measure, a norm, a trivial baseline, or None of them."""
    if column in _NO_MEASURES or column.endswith(".samples"):
        return None
    if column in _TRIVIAL or column.endswith((".accuracy", ".loss")):
        return "trivial"
    return "norm" if column.startswith("log.") else "measure"


def is_share(column: str) -> bool:
    """Whether a column holds shares of samples, or differences of them."""
    return column in _GAPS or column.endswith(".accuracy")


def is_variant(column: str) -> bool:
    """Say whether a measure is but another form of one that there is."""
    return ".cna." in column or column.endswith(".std")


def measured(score: ScoreResult) -> Iterator[tuple[str, float | None, str | None]]:
    """Give every number of a score with its column, or the reason why it is undefined."""
    for name, split in score.splits.items():
        for column, value, reason in _of_split(split):
            yield f"{name}.{column}", value, reason
    estimates: tuple[tuple[str, Estimate | ResampledEstimate], ...] = (
        ("gap", score.gap),
        ("gap_accuracy", score.gap_accuracy),
        ("gap_loss", score.gap_loss),
        ("cna_area", score.cna_area),
        ("margin", score.margin),
        ("cna_margin", score.cna_margin),
    )
    for column, estimate in estimates:
        yield column, estimate.value, estimate.reason
    for column in _BASELINES:
        baseline: Baseline = getattr(score.baselines, column)
        yield f"log.{column}", baseline.log, None if baseline.log is not None else baseline.reason


def _of_split(split: SplitResult) -> Iterator[tuple[str, float | None, str | None]]:
    yield "samples", float(split.samples), None
    yield "accuracy", split.accuracy, split.performance_reason
    yield "loss", split.loss, split.performance_reason
    for name, spread, named in (
        ("alpha", split.alpha, None),
        ("beta", split.beta, split.beta_reason),
    ):
        broken = named or f"{name} is not finite"
        yield f"{name}.mean", spread.mean, None if spread.mean is not None else broken
        yield f"{name}.std", spread.std, None if spread.std is not None else broken
    yield "cna", split.cna.value, split.cna.reason
    for name in _CNA_FORMS:
        found: Estimate = getattr(split.coefficients, name)
        yield f"cna.{name}", found.value, found.reason
    batches = split.coefficients.minibatches
    yield "cna.minibatches", batches.mean, batches.reason if batches.mean is None else None
