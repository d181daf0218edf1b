"""α of each sample of a split. Only this module of scoring reads raw inputs, and `alpha_input`."""

from __future__ import annotations

import math
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool.errors import MetricError, UsageError
from cnatool.metrics.alpha import entropy, extent, level_entropy, level_extent, symbol_entropy
from cnatool.metrics.alpha_compression import (
    compression_ratio,
    describe_codec,
    ragged_compression_ratio,
)
from cnatool.metrics.alpha_ragged import ragged_entropy, ragged_symbol_entropy, windowed
from cnatool.metrics.bins import OutsideError, OutsideSoundError, check_no_density
from cnatool.records.ragged import Ragged
from cnatool.scoring.alpha_input import LEVELS, AlphaInput, select_alpha_input
from cnatool.store.ragged import RaggedArray

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.alpha_ragged import WindowMeasure
    from cnatool.metrics.convention import AlphaForm, ConventionFields
    from cnatool.records.ragged import Rows
    from cnatool.store.store import Split

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
    form = tuple(getattr(fields, name) for name in _FIELDS)
    found = select_alpha_input(split.store.record, fields)
    key = (real_path(source.path), split.name, source.fingerprint, form, found)
    alpha = _LATEST.pop(key, None)
    if alpha is None:
        alpha = measure_alpha(split, fields, observer, wanted)
        alpha.flags.writeable = False
    _LATEST[key] = alpha
    while len(_LATEST) > _MOST_LATEST:
        _LATEST.pop(next(iter(_LATEST)), None)
    return alpha


# What α depends on.
_FIELDS = ("alpha", "alpha_window", "codec", "bins", "range", "sound_range", "out_of_range")


def measure_alpha(
    split: Split, fields: ConventionFields, observer: Observer, rows: range
) -> NDArray[np.float64]:
    """Return α of a range of samples; NaN for one without values, or shorter than a window."""
    found = select_alpha_input(split.store.record, fields)
    measure = _choose_measure(split, found, fields, len(rows))
    alpha = np.empty(len(rows))
    for start, block in _blocks(split, found, rows):
        done = start - rows.start + len(block)
        alpha[done - len(block) : done] = measure(block, fields, start)
        observer.progress(f"α of {split.name}", done, len(rows))
    return alpha


def _choose_measure(
    split: Split, found: AlphaInput, fields: ConventionFields, rows: int
) -> _Measure:
    """Return the function that computes α of a block of samples."""
    if split.holds_levels(found.number):
        return _OF_LEVELS[fields.alpha]
    if found.kind == "sound":
        _check_range(fields)
    if fields.alpha in _OF_WINDOWS:
        return partial(_measure_windows, found)
    inputs = split.inputs(found.number)
    if found.symbols and fields.alpha == "entropy-density":
        check_no_density(inputs.dtype, density=True)
    if fields.alpha == "entropy" and (isinstance(inputs, RaggedArray) or found.symbols):
        return partial(_measure_behind_one_another, found)
    if isinstance(inputs, RaggedArray) or found.special:
        return partial(_measure_each, found, _OF_VALUES[fields.alpha])
    many = rows * math.prod(inputs.shape[1:]) >= _MANY
    return partial(_OF_VALUES[fields.alpha], found, many=many)


def _check_range(fields: ConventionFields) -> None:
    """Refuse a range that would have no effect on sound."""
    if fields.alpha.startswith("entropy") and fields.range not in ((0.0, 1.0), fields.sound_range):
        low, high = fields.range
        raise UsageError(
            f"range={low:g}:{high:g} has no effect on sound, whose amplitudes are counted over "
            f"`sound_range`: use `sound_range='{low:g}:{high:g}'`, or leave range out."
        )


def describe_alpha_codec(fields: ConventionFields) -> str | None:
    """Describe what compresses the inputs; None if nothing does."""
    return describe_codec(fields.codec) if fields.alpha.startswith("compression") else None


def find_input_range(splits: Iterable[Split], fields: ConventionFields) -> tuple[float, float]:
    """Return the least and the greatest finite value of the raw inputs that α is computed from."""
    blocks = []
    for split in splits:
        found = select_alpha_input(split.store.record, fields)
        of_levels = split.holds_levels(found.number)
        for _, block in _blocks(split, found, range(len(split))):
            values = block.values if isinstance(block, Ragged) else block
            if values.size:
                blocks.append(level_extent(values) if of_levels else extent(_scale(found, values)))
    return min(low for low, _ in blocks), max(high for _, high in blocks)


def _blocks(split: Split, found: AlphaInput, rows: range) -> Iterator[tuple[int, Any]]:
    """Yield raw inputs, or the counts of their levels without the checksum behind them."""
    of_levels = split.holds_levels(found.number)
    for start, block in split.inputs(found.number).blocks(rows.start, rows.stop):
        yield start, block[:, :LEVELS] if of_levels else block


def _scale(found: AlphaInput, values: NDArray[Any]) -> NDArray[Any]:
    """Return values as they are counted: amplitudes of integer types as shares of full scale."""
    if found.kind != "sound" or values.dtype.kind == "f":
        return values
    bits = 8 * values.dtype.itemsize
    scaled: NDArray[Any] = values.astype(np.float32 if bits <= _EXACT_BITS else np.float64)
    scale = 2.0 ** (bits - 1)
    if values.dtype.kind == "u":
        scaled -= scale
    scaled /= scale
    return scaled


_EXACT_BITS = 16  # of integers that float32 holds


def _histogram_options(found: AlphaInput, fields: ConventionFields) -> dict[str, Any]:
    sound = found.kind == "sound"
    return {
        "bins": fields.bins,
        "range": fields.sound_range if sound else fields.range,
        "out_of_range": fields.out_of_range,
        "outside": OutsideSoundError if sound else OutsideError,
    }


def _measure_behind_one_another(
    found: AlphaInput, block: Rows, fields: ConventionFields, first_row: int
) -> NDArray[np.float64]:
    """Return the entropy of samples that differ in length, or of symbols."""
    values, lengths = found.as_ragged(block)
    if found.symbols:
        return ragged_symbol_entropy(values, lengths)
    options = _histogram_options(found, fields)
    return ragged_entropy(_scale(found, values), lengths, first_row=first_row, **options)


def _measure_windows(
    found: AlphaInput, block: Rows, fields: ConventionFields, first_row: int
) -> NDArray[np.float64]:
    """Return the mean of entropy or compression over the windows of each sample."""
    values, lengths = found.as_ragged(block)
    measure = _OF_WINDOWS[fields.alpha](found, fields)
    return windowed(measure, values, lengths, fields.alpha_window, first_row)


def _entropy_of_windows(found: AlphaInput, fields: ConventionFields) -> WindowMeasure:
    if found.symbols:
        return lambda windows, rows: symbol_entropy(windows)
    options = _histogram_options(found, fields)
    return lambda windows, rows: entropy(
        _scale(found, windows), density=False, rows=rows, **options
    )


def _compression_of_windows(found: AlphaInput, fields: ConventionFields) -> WindowMeasure:
    return lambda windows, rows: compression_ratio(windows, fields.codec)


def _measure_each(
    found: AlphaInput, measure: _Measure, block: Rows, fields: ConventionFields, first_row: int
) -> NDArray[np.float64]:
    """Return α of samples that differ in length, each over its own values; NaN without any."""
    block = found.strip(block)
    if fields.alpha == "compression":
        return ragged_compression_ratio(block, fields.codec)
    alpha = np.full(len(block), np.nan)
    for place, sample in enumerate(block):
        if sample.size:
            alpha[place] = measure(found, sample[None], fields, first_row + place).item()
    return alpha


def _entropy_of_values(
    found: AlphaInput,
    block: NDArray[Any],
    fields: ConventionFields,
    first_row: int,
    *,
    many: bool = False,
) -> NDArray[np.float64]:
    return entropy(
        _scale(found, block),
        density=fields.alpha == "entropy-density",
        first_row=first_row,
        many=many,
        **_histogram_options(found, fields),
    )


def _entropy_of_levels(
    block: NDArray[Any], fields: ConventionFields, first_row: int
) -> NDArray[np.float64]:
    return level_entropy(
        block,
        bins=fields.bins,
        range=fields.range,
        out_of_range=fields.out_of_range,
        density=fields.alpha == "entropy-density",
        first_row=first_row,
    )


def _no_order(block: NDArray[Any], fields: ConventionFields, first_row: int) -> NDArray[np.float64]:
    raise MetricError(
        "the store holds only how often each level occurs in an input, and "
        f"alpha={fields.alpha} depends on their order: dump images of one size, whose inputs are "
        "stored whole, or use `alpha='entropy'`."
    )


_OF_VALUES: Mapping[AlphaForm, _Measure] = {
    "entropy": _entropy_of_values,
    "entropy-density": _entropy_of_values,
    "compression": lambda found, block, fields, row, **_: compression_ratio(block, fields.codec),
}
_OF_WINDOWS: Mapping[AlphaForm, Callable[[AlphaInput, ConventionFields], WindowMeasure]] = {
    "entropy-rate": _entropy_of_windows,
    "compression-rate": _compression_of_windows,
}
_OF_LEVELS: Mapping[AlphaForm, _Measure] = {
    "entropy": _entropy_of_levels,
    "entropy-density": _entropy_of_levels,
    "entropy-rate": _no_order,
    "compression": _no_order,
    "compression-rate": _no_order,
}
