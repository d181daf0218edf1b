"""Columns of a frame of networks: the numbers of a score, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool._util.text import list_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from cnatool.metrics.estimate import Estimate, ResampledEstimate
    from cnatool.metrics.norms import Baseline
    from cnatool.scoring.results import ScoreResult, SplitResult
    from cnatool.studying.results import MeasureKind

TAG = "tag."
TEXTS = ("id", "path", "test_path", "model", "convention")
TARGETS = ("test.accuracy", "gap")
GAPS = ("gap", "gap_accuracy", "gap_loss")

_ESTIMATES = (*GAPS, "cna_area", "margin", "cna_margin")
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
# Baselines that any claim about generalisation must beat.
_TRIVIAL = frozenset(
    {"log.parameter_norm", "log.l1", "log.distance", "log.parameters", "log.depth"}
)
# Of a split: how complex its inputs are and how many there are, whatever the network.
_OF_INPUTS = (".alpha.mean", ".alpha.std")
_OF_DATA = (*_OF_INPUTS, ".samples")
# Columns that depend on the test labels, as the targets do.
_NOT_MEASURES = frozenset({*GAPS, "test.accuracy", "test.loss"})


def tag_column(tag: str) -> str:
    """Name the column of a tag."""
    return f"{TAG}{tag}"


def describe_tags(tags: Sequence[str]) -> str:
    """List the tags that there are, for messages about one that does not exist."""
    return f"there are {list_names(tags)}" if tags else "there are no tags"


def measure_kind(column: str) -> MeasureKind | None:
    """Classify a column of numbers as a measure, a norm or a trivial baseline; None if neither."""
    if column in _NOT_MEASURES:
        return None
    if column in _TRIVIAL or column.endswith((".accuracy", ".loss", *_OF_DATA)):
        return "trivial"
    return "norm" if column.startswith("log.") else "measure"


def is_of_inputs(column: str) -> bool:
    """Whether a column is a function of the inputs of a split alone."""
    return column.endswith(_OF_INPUTS)


def is_share(column: str) -> bool:
    """Whether a column holds shares of samples, or differences of them."""
    return column in GAPS or column.endswith(".accuracy")


def is_variant(column: str) -> bool:
    """Whether a measure is a variant of another column, such as CNA by another coefficient."""
    return ".cna." in column or (column.endswith(".std") and not is_of_inputs(column))


def list_measures(score: ScoreResult) -> Iterator[tuple[str, float | None, str | None]]:
    """Yield each number of a score as (column, value, reason why it is undefined)."""
    for name, split in score.splits.items():
        for column, value, reason in _list_split_measures(split):
            yield f"{name}.{column}", value, reason
    for column in _ESTIMATES:
        estimate: Estimate | ResampledEstimate = getattr(score, column)
        yield column, estimate.value, estimate.reason
    for column in _BASELINES:
        baseline: Baseline = getattr(score.baselines, column)
        yield f"log.{column}", baseline.log, None if baseline.log is not None else baseline.reason


def _list_split_measures(
    split: SplitResult,
) -> Iterator[tuple[str, float | None, str | None]]:
    yield "samples", float(split.samples), None
    yield "accuracy", split.accuracy, split.performance_reason
    yield "loss", split.loss, split.performance_reason
    for name, spread, reason in (
        ("alpha", split.alpha, None if split.samples else "no samples"),
        ("beta", split.beta, split.beta_reason),
    ):
        undefined = reason or f"{name} is not finite"
        yield f"{name}.mean", spread.mean, None if spread.mean is not None else undefined
        yield f"{name}.std", spread.std, None if spread.std is not None else undefined
    yield "cna", split.cna.value, split.cna.reason
    for name in _CNA_FORMS:
        coefficient: Estimate = getattr(split.coefficients, name)
        yield f"cna.{name}", coefficient.value, coefficient.reason
    batches = split.coefficients.minibatches
    yield "cna.minibatches", batches.mean, batches.reason if batches.mean is None else None
    if split.length is not None:
        yield "cna.fixed_length", split.length.cna.value, split.length.cna.reason
