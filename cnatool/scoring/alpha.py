"""α of each sample of a split. Only this module of scoring reads raw inputs."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool.errors import MetricError
from cnatool.metrics.alpha import entropy, extent, level_entropy, level_extent
from cnatool.metrics.alpha_compression import compression_ratio, describe_codec
from cnatool.records.ragged import Ragged
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import AlphaForm, ConventionFields
    from cnatool.store.store import Split

_LEVELS = 256
_MANY = 1 << 26  # values of all samples
_Measure: TypeAlias = "Callable[..., NDArray[np.float64]]"
# α of splits whose inputs lie in other stores, the latest last: computing it for each network would
# take half the time of a study of many networks over the same data.
_LATEST: dict[tuple[object, ...], NDArray[np.float64]] = {}
_MOST_LATEST = 4


def compute_alpha(
    split: Split, fields: ConventionFields, observer: Observer, rows: int | None = None
) -> NDArray[np.float64]:
    """Return α of each sample, (n,), or of the first `rows`.

    α of inputs that stores share is cached for the stores that follow.
    """
    wanted = range(len(split) if rows is None else rows)
    if split.record.inputs_from is None or not split.record.complete or len(wanted) < len(split):
        return measure_alpha(split, fields, observer, wanted)
    source = split.inputs_split()
    form = (fields.alpha, fields.codec, fields.bins, fields.range, fields.out_of_range)
    key = (real_path(source.path), split.name, source.fingerprint, form)
    alpha = _LATEST.pop(key, None)
    if alpha is None:
        alpha = measure_alpha(split, fields, observer, wanted)
        alpha.flags.writeable = False
    _LATEST[key] = alpha
    while len(_LATEST) > _MOST_LATEST:
        _LATEST.pop(next(iter(_LATEST)), None)
    return alpha


def measure_alpha(
    split: Split, fields: ConventionFields, observer: Observer, rows: range
) -> NDArray[np.float64]:
    """Return α of a range of samples; NaN for a sample of length 0."""
    measure, inputs = _OF_LEVELS[fields.alpha], split.inputs()
    if isinstance(inputs, RaggedArray):
        measure = partial(_measure_each, _OF_VALUES[fields.alpha])
    elif not split.holds_levels():
        many = len(rows) * math.prod(inputs.shape[1:]) >= _MANY
        measure = partial(_OF_VALUES[fields.alpha], many=many)
    alpha = np.empty(len(rows))
    for start, block in _blocks(split, rows):
        done = start - rows.start + len(block)
        alpha[done - len(block) : done] = measure(block, fields, start)
        observer.progress(f"α of {split.name}", done, len(rows))
    return alpha


def describe_alpha_codec(fields: ConventionFields) -> str | None:
    """Describe what compresses the inputs; None if nothing does."""
    return describe_codec(fields.codec) if fields.alpha == "compression" else None


def find_input_range(splits: Iterable[Split]) -> tuple[float, float]:
    """Return the least and the greatest finite value of the raw inputs of all splits."""
    blocks = [
        (level_extent if split.holds_levels() else extent)(values)
        for split in splits
        for _, block in _blocks(split, range(len(split)))
        for values in [block.values if isinstance(block, Ragged) else block]
        if values.size
    ]
    return min(low for low, _ in blocks), max(high for _, high in blocks)


def _blocks(split: Split, rows: range) -> Iterator[tuple[int, Any]]:
    """Yield raw inputs, or the counts of their levels without the checksum behind them."""
    for start, block in split.inputs().blocks(rows.start, rows.stop):
        yield start, block[:, :_LEVELS] if split.holds_levels() else block


def _measure_each(
    measure: _Measure, block: Ragged, fields: ConventionFields, first_row: int
) -> NDArray[np.float64]:
    """Return α of samples that differ in length, each over its own values; NaN without any."""
    alpha = np.full(len(block), np.nan)
    for place, sample in enumerate(block):
        if sample.size:
            alpha[place] = measure(sample[None], fields, first_row + place).item()
    return alpha


def _histogram(measure: _Measure, *, density: bool) -> _Measure:
    def of_block(
        block: NDArray[Any], fields: ConventionFields, first_row: int, **options: bool
    ) -> NDArray[np.float64]:
        return measure(
            block,
            bins=fields.bins,
            range=fields.range,
            out_of_range=fields.out_of_range,
            density=density,
            first_row=first_row,
            **options,
        )

    return of_block


def _no_order(block: NDArray[Any], fields: ConventionFields, first_row: int) -> NDArray[np.float64]:
    raise MetricError(
        "the store holds only how often each level occurs in an input, and compression depends on "
        "their order: dump images of one size, whose inputs are stored whole, or "
        "use `alpha='entropy'`."
    )


_OF_VALUES: Mapping[AlphaForm, _Measure] = {
    "entropy": _histogram(entropy, density=False),
    "entropy-density": _histogram(entropy, density=True),
    "compression": lambda block, fields, row, **_: compression_ratio(block, fields.codec),
}
_OF_LEVELS: Mapping[AlphaForm, _Measure] = {
    "entropy": _histogram(level_entropy, density=False),
    "entropy-density": _histogram(level_entropy, density=True),
    "compression": _no_order,
}
