"""α of each sample of a split: the one place where scoring reads raw inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np

from cnatool._util.local_paths import real_path
from cnatool.errors import MetricError
from cnatool.metrics.alpha import entropy, extent, level_entropy, level_extent
from cnatool.metrics.alpha_compression import codec_text, compressed_share

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import AlphaForm, ConventionFields
    from cnatool.store.store import Split

_LEVELS = 256
# α of splits that referred to other stores, the latest last. In a study of many networks over the
# same data it would else take half of the time.
_LATEST: dict[tuple[object, ...], NDArray[np.float64]] = {}
_MOST_LATEST = 4


def split_alpha(
    split: Split, fields: ConventionFields, observer: Observer, rows: int | None = None
) -> NDArray[np.float64]:
    """Give α of each sample, (n,), or of the first `rows`; the observer is told how far that is.

    Of inputs that stores share it is computed once for all that come one after the other.

    Raises
    ------
    DataError, MetricError
        If the inputs are not what the form takes.
    """
    wanted = len(split) if rows is None else rows
    if split.record.inputs_from is None or not split.record.complete or wanted < len(split):
        return _alpha(split, fields, observer, wanted)
    held = split.inputs_split()
    form = (fields.alpha, fields.codec, fields.bins, fields.range, fields.out_of_range)
    key = (real_path(held.path), split.name, held.record.fingerprint, form)
    found = _LATEST.pop(key, None)
    if found is None:
        found = _alpha(split, fields, observer, wanted)
        found.flags.writeable = False
    _LATEST[key] = found
    while len(_LATEST) > _MOST_LATEST:
        _LATEST.pop(next(iter(_LATEST)), None)
    return found


def _alpha(
    split: Split, fields: ConventionFields, observer: Observer, rows: int
) -> NDArray[np.float64]:
    measure = (_OF_LEVELS if split.holds_levels() else _OF_VALUES)[fields.alpha]
    alpha = np.empty(rows)
    for start, block in _blocks(split, rows):
        alpha[start : start + len(block)] = measure(block, fields, start)
        observer.progress(f"α of {split.name}", start + len(block), rows)
    return alpha


def alpha_codec(fields: ConventionFields) -> str | None:
    """Say what compresses the inputs; None where nothing does."""
    return codec_text(fields.codec) if fields.alpha == "compression" else None


def input_extent(splits: Iterable[Split]) -> tuple[float, float]:
    """Give the least and the greatest finite value of the raw inputs of all splits."""
    blocks = [
        (level_extent if split.holds_levels() else extent)(block)
        for split in splits
        for _, block in _blocks(split)
    ]
    return min(low for low, _ in blocks), max(high for _, high in blocks)


def _blocks(split: Split, rows: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
    """Give raw inputs, or the counts of their levels without the checksum that follows these."""
    for start, block in split.inputs().blocks():
        if rows is not None and start >= rows:
            return
        wanted = block if rows is None else block[: rows - start]
        yield start, wanted[:, :_LEVELS] if split.holds_levels() else wanted


def _histogram(
    measure: Callable[..., NDArray[np.float64]], *, density: bool
) -> Callable[[NDArray[Any], ConventionFields, int], NDArray[np.float64]]:
    def of_block(
        block: NDArray[Any], fields: ConventionFields, first_row: int
    ) -> NDArray[np.float64]:
        return measure(
            block,
            bins=fields.bins,
            range=fields.range,
            out_of_range=fields.out_of_range,
            density=density,
            first_row=first_row,
        )

    return of_block


def _no_order(block: NDArray[Any], fields: ConventionFields, first_row: int) -> NDArray[np.float64]:
    raise MetricError(
        "only how often each level occurs is stored of the inputs, and their compression depends "
        "on the order: dump pictures of one size, whose inputs are stored whole, or "
        "--set alpha=entropy."
    )


_Measure: TypeAlias = "Callable[[NDArray[Any], ConventionFields, int], NDArray[np.float64]]"

_OF_VALUES: Mapping[AlphaForm, _Measure] = {
    "entropy": _histogram(entropy, density=False),
    "entropy-density": _histogram(entropy, density=True),
    "compression": lambda block, fields, row: compressed_share(block, fields.codec),
}
_OF_LEVELS: Mapping[AlphaForm, _Measure] = {
    "entropy": _histogram(level_entropy, density=False),
    "entropy-density": _histogram(level_entropy, density=True),
    "compression": _no_order,
}
