"""z_d and β of each sample of a split, and whether samples differ by more than rounding."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import count_text
from cnatool.errors import MetricError
from cnatool.metrics.beta import aggregate, slope_coefficients, slopes
from cnatool.metrics.correlation import is_constant
from cnatool.metrics.rounding import Rounding, rounding_share
from cnatool.store.statistics import row_statistics

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.metrics.convention import ConventionFields
    from cnatool.records.ragged import Rows
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.store.ragged import RaggedArray
    from cnatool.store.store import Split
    from cnatool.store.stored_array import StoredArray

_ELEMENTS = 1 << 17  # of z that are summed at a time


@dataclass(frozen=True, slots=True)
class SplitBeta:
    """β of n samples."""

    # One value for all samples that differ by rounding alone; NaN where the layers have no slope
    values: NDArray[np.float64]
    rounding: float | None = None  # for such samples, the deviation that rounding can cause
    # Why there is no β: it is 0 for every sample but for rounding, or the layers have no slope
    reason: str | None = None

    def no_cna(self, alpha: NDArray[np.float64]) -> str | None:
        """Return why β has no correlation with α, unless α is the cause."""
        if self.rounding is None and self.reason is not None:
            return self.reason
        if self.rounding is None or is_constant(alpha):
            return None
        return f"β is the same for all {count_text(self.values.size, 'sample')} but for rounding"

    def no_moments(self) -> str | None:
        """Return why β has no mean or no deviation."""
        if self.reason is not None:
            return self.reason
        n = self.values.size
        broken = n - int(np.count_nonzero(np.isfinite(self.values)))
        if broken or not n:
            samples = count_text(n, "sample")
            return f"β is not finite for {broken:,} of {samples}" if n else "no samples"
        with np.errstate(over="ignore", invalid="ignore"):
            known = np.isfinite([self.values.mean(), self.values.std()]).all()
        return None if known else "β is too large for float64"

    def alike(self, other: SplitBeta) -> bool:
        """Whether the samples of both differ by rounding alone."""
        if self.rounding is None or other.rounding is None:
            return False
        return bool(abs(self.values[0] - other.values[0]) <= self.rounding + other.rounding)


def compute_beta(
    split: Split, layers: Sequence[ScoredLayer], fields: ConventionFields
) -> SplitBeta:
    """Compute β of each sample of a split, block by block."""
    return finish_beta(split, layers, fields, compute_slopes(split, layers, fields))


def compute_slopes(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    rows: range | None = None,
) -> NDArray[np.float64]:
    """Compute β of all samples or a range of them as it is before rounding is looked at.

    NaN where the layers have no slope. Where sums are stored, NumPy adds those of one sample alone
    in another order than those of several, so that ranges may differ in the last digit from all.
    """
    rows = range(len(split)) if rows is None else rows
    if _explain_no_slope(layers) is not None:
        return np.full(len(rows), np.nan)
    depths = [layer.depth for layer in layers]
    beta = np.empty(len(rows))
    step = max(1, _ELEMENTS // len(layers))
    for start, z in read_z(split, layers, fields, rows):
        for first in range(0, len(z), step):
            part = z[first : first + step]
            place = start - rows.start + first
            beta[place : place + len(part)] = slopes(part, depths)
    return beta


def finish_beta(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    beta: NDArray[np.float64],
) -> SplitBeta:
    """Make β of a split from the slopes of all its samples."""
    reason = _explain_no_slope(layers)
    if reason is not None:
        return SplitBeta(beta, reason=reason)
    return resolve_rounding(beta, measure_rounding(split, layers, fields))


def _explain_no_slope(layers: Sequence[ScoredLayer]) -> str | None:
    """Explain why layers have no slope; None if they have one."""
    try:
        slope_coefficients([layer.depth for layer in layers])
    except MetricError as error:
        return str(error).rstrip(".")
    return None


def measure_rounding(
    split: Split, layers: Sequence[ScoredLayer], fields: ConventionFields
) -> Rounding:
    """Bound the rounding errors of β and z; 0 where the store holds no magnitudes."""
    rounding = Rounding(
        slope_coefficients([layer.depth for layer in layers]),
        np.array([_rounding_share(split, layer) for layer in layers]),
    )
    for magnitudes in read_magnitudes(split, layers, fields):
        rounding.add(magnitudes)
    return rounding


def resolve_rounding(beta: NDArray[np.float64], rounding: Rounding) -> SplitBeta:
    """Replace β of samples that differ by rounding alone by one value."""
    bound = rounding.of_beta()
    if beta.size < 2:
        return SplitBeta(beta)
    with np.errstate(invalid="ignore", over="ignore"):
        mean, deviation = float(beta.mean()), float(beta.std())
    # Both are NaN where β is not finite; then neither comparison holds.
    if not (0 < bound < np.inf and deviation <= bound):
        return SplitBeta(beta)
    if abs(mean) <= bound:
        reason = (
            f"the layers' sums give a β of 0 for all {count_text(beta.size, 'sample')} but for "
            f"rounding (deviation {deviation:.1g}, rounding up to {bound:.1g})"
        )
        return SplitBeta(np.zeros_like(beta), bound, reason)
    return SplitBeta(np.full_like(beta, mean) if deviation else beta, bound)


def _rounding_share(split: Split, layer: ScoredLayer) -> float:
    """Return the share of a layer's absolute sum by which rounding can move its sum."""
    tensor = layer.tensor
    known = "bfloat16" if tensor.onnx_type == "bfloat16" else tensor.dtype
    # Without stored sums, z is computed from the activations in the type that is stored.
    narrowed = known if split.has_statistic("sum") else tensor.stored or known
    return max(rounding_share(known), rounding_share(narrowed))


# Rows of whole activations from which the magnitude of their elements is measured.
_ROWS = 64
# Sums of all layers held at a time. Each layer is read in chunks of its own.
_SUM_BYTES = 64 << 20


def read_z(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    rows: range | None = None,
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield ``(first row, z)`` of all rows or a range in order, z of shape (rows, L)."""
    varying = [layer for layer in layers if layer.tensor.varies and fields.aggregate != "sum"]
    if varying and (fields.aggregate != "mean" or not split.has_statistic("count")):
        raise MetricError(
            f"the shape of layer {varying[0].tensor.name!r} depends on the data, so "
            f"aggregate={fields.aggregate} is not defined for it: use `aggregate='sum'`."
        )
    for start, z in _read_sums(split, layers, range(len(split)) if rows is None else rows):
        _aggregate(split, layers, fields, start, z)
        yield start, z


def read_magnitudes(
    split: Split, layers: Sequence[ScoredLayer], fields: ConventionFields
) -> Iterator[NDArray[np.float64]]:
    """Yield z of the elements' absolute values, (rows, L); nothing where they are unknown.

    From ``abs_sum`` of all rows if the store has it, else from the first rows of whole activations,
    else one row from the samples that the model was probed with.
    """
    probed = dict(enumerate(split.store.record.magnitudes))
    magnitudes = [probed.get(layer.tensor.number) for layer in layers]
    if split.has_statistic("abs_sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("abs_sum").blocks():
            sums = block[:, columns]
            _aggregate(split, layers, fields, start, sums)
            yield sums
    elif all(layer.tensor.stored or layer.tensor.output is not None for layer in layers):
        heads = [split.activations(layer.tensor.name)[:_ROWS] for layer in layers]
        sums = np.stack([row_statistics(x, ["abs_sum"])["abs_sum"] for x in heads], axis=1)
        _aggregate(split, layers, fields, 0, sums)
        yield sums
    elif None not in magnitudes:
        sums = np.array([magnitudes], np.float64)
        _aggregate(split, layers, fields, 0, sums)
        yield sums


def _aggregate(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    start: int,
    sums: NDArray[np.float64],
) -> None:
    """Aggregate sums over elements in place, as the convention says."""
    for column, layer in enumerate(layers):
        if layer.tensor.varies and fields.aggregate == "mean":
            counts = split.statistics("count")[start : start + len(sums)]
            sums[:, column] /= np.maximum(counts[:, layer.tensor.number], 1)
        elif not layer.tensor.varies:
            sums[:, column] = aggregate(sums[:, column], layer.tensor.shape, fields.aggregate)


def _read_sums(
    split: Split, layers: Sequence[ScoredLayer], rows: range
) -> Iterator[tuple[int, NDArray[np.float64]]]:
    """Yield the sums over each layer's elements, as `read_z` does."""
    if split.has_statistic("sum"):
        columns = [layer.tensor.number for layer in layers]
        for start, block in split.statistics("sum").blocks(rows.start, rows.stop):
            yield start, block[:, columns]
        return
    arrays = [split.activations(layer.tensor.name) for layer in layers]
    step = _rows_of_sums(arrays)
    for start in range(rows.start, rows.stop, step):
        z = np.empty((min(step, rows.stop - start), len(layers)))
        for column, array in enumerate(arrays):
            blocks: Iterator[tuple[int, Rows]] = array.blocks(start, start + len(z))
            for first, part in blocks:
                sums = row_statistics(part, ["sum"])["sum"]
                z[first - start : first - start + len(sums), column] = sums
        yield start, z


def _rows_of_sums(arrays: Sequence[StoredArray | RaggedArray]) -> int:
    """Return how many rows of sums to hold: some megabytes, and whole chunks of every layer."""
    rows = max(1, _SUM_BYTES // (8 * max(1, len(arrays))))
    chunk = max((array.chunk_rows for array in arrays), default=1)
    return rows // chunk * chunk or rows
