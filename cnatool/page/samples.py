"""The samples that a page shows: which ones, and their numbers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.text import printable, shorten
from cnatool.metrics.smoothing import smooth_curve
from cnatool.page.packed import Packed, Quantised, pack, quantise

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from numpy.typing import NDArray

    from cnatool.scoring.score import StoreScores
    from cnatool.scoring.split import ScoredSplit
    from cnatool.store.store import Split

SEED = 0
# Bytes of all numbers of samples on a page, and of a sample without its z.
_BUDGET = 4_000_000
_SAMPLE_BYTES = 56
_LEAST = 100
_LONGEST_ID = 80
# Characters of all texts, and of one.
_TEXT_BUDGET = 1_000_000
_SHORTEST_TEXT, _LONGEST_TEXT = 60, 400
_TEXTS = 64  # read at a time
# Points of a curve, and windows side by side along it: more would be a scribble.
_CURVE, _WINDOWS = 400, 50
_MISSING = np.iinfo(np.int32).min


class SplitSamples(msgspec.Struct, frozen=True):
    """The samples of one split.

    Attributes
    ----------
    name : str
        Of the split.
    shown, total : int
        Samples on the page, and of the split.
    window : int
        Samples behind each point of the curve.
    curve : (Packed, Packed) or None
        Running means of α and β over all samples; None where there are too few.
    """

    name: str
    shown: int
    total: int
    window: int
    curve: tuple[Packed, Packed] | None


class Samples(msgspec.Struct, frozen=True):
    """The samples of a store, split by split and by rising row.

    Attributes
    ----------
    splits : tuple of SplitSamples
        The splits, in order.
    id : tuple of str
        Where each sample came from.
    row : Packed
        Its row in the split.
    label, prediction : Packed or None
        −2³¹ where there is none; None where no sample has one.
    alpha, beta, loss, margin : Packed or None
        NaN where undefined; None where undefined for all.
    z : Quantised or None
        z of each layer; None where the layers could not be scored.
    text : tuple of str or None
        The beginning of each text; None where samples are no texts.
    """

    splits: tuple[SplitSamples, ...]
    id: tuple[str, ...]
    row: Packed
    label: Packed | None
    prediction: Packed | None
    alpha: Packed | None
    beta: Packed | None
    loss: Packed | None
    margin: Packed | None
    z: Quantised | None
    text: tuple[str, ...] | None = None


class LayerValues:
    """z of the samples that a page shows, collected block by block.

    Parameters
    ----------
    rows : mapping of str to ndarray
        Rows of each split, rising.
    layers : int
        Number of layers.
    """

    def __init__(self, rows: Mapping[str, NDArray[np.intp]], layers: int) -> None:
        self._rows = rows
        self._z = {name: np.full((len(chosen), layers), np.nan) for name, chosen in rows.items()}

    def take(self, split: str, start: int, z: NDArray[np.float64]) -> None:
        """Keep the chosen rows of a block that begins with a row of a split."""
        rows = self._rows[split]
        low, high = np.searchsorted(rows, (start, start + len(z)))
        self._z[split][low:high] = z[rows[low:high] - start]

    def whole(self) -> NDArray[np.float64]:
        """Return z of all chosen samples, (n, L)."""
        return np.concatenate(list(self._z.values()))


def most_samples(layers: int, stores: int, wanted: int) -> int:
    """Return how many samples of one of several stores fit the page, at most those wanted."""
    fit = _BUDGET // max(1, stores) // (_SAMPLE_BYTES + 2 * layers)
    return min(wanted, max(_LEAST, fit))


def choose_rows(counts: Mapping[str, int], most: int) -> dict[str, NDArray[np.intp]]:
    """Choose rows of each split at random, the same ones each time.

    Splits share the samples evenly, and a small split leaves what it cannot use to the others.
    """
    shares = {}
    left = most
    for place, (name, count) in enumerate(sorted(counts.items(), key=lambda item: item[1])):
        shares[name] = min(count, left // (len(counts) - place))
        left -= shares[name]
    return {name: _draw(count, shares[name]) for name, count in counts.items()}


def _draw(count: int, most: int) -> NDArray[np.intp]:
    if count <= most:
        return np.arange(count)
    drawn = np.random.default_rng(SEED).choice(count, most, replace=False, shuffle=False)
    return np.sort(drawn)


def collect_samples(
    scored: StoreScores, rows: Mapping[str, NDArray[np.intp]], z: NDArray[np.float64] | None
) -> Samples:
    """Collect the numbers of the chosen samples."""
    splits = scored.splits
    measured = [split.performance for split in splits.values()]
    least = scored.convention.fields.window

    def column(values: Iterable[NDArray[Any] | None]) -> Packed | None:
        parts = [
            np.full(len(chosen), np.nan) if part is None else part[chosen]
            for part, chosen in zip(values, rows.values(), strict=True)
        ]
        joined = np.concatenate([np.asarray(part, np.float64) for part in parts])
        known = np.isfinite(joined)
        with np.errstate(over="ignore"):
            return pack(np.where(known, joined, np.nan), "f4") if known.any() else None

    return Samples(
        splits=tuple(
            SplitSamples(
                name,
                len(rows[name]),
                len(split.alpha),
                window,
                _curve(split, window),
            )
            for name, split in splits.items()
            for window in [max(least, len(split.alpha) // _WINDOWS)]
        ),
        id=tuple(
            shorten(printable(sample), _LONGEST_ID)
            for name, split in splits.items()
            for sample in split.split.ids[rows[name]]
        ),
        row=pack(np.concatenate(list(rows.values())), "u4"),
        label=_pack_classes([each.labels for each in measured], rows),
        prediction=_pack_classes([each.predictions for each in measured], rows),
        alpha=column(split.alpha for split in splits.values()),
        beta=column(
            None if split.split_beta.reason is not None else split.beta for split in splits.values()
        ),
        loss=column(each.sample_losses for each in measured),
        margin=column(None if each.margins is None else each.margins[:, 0] for each in measured),
        z=None if z is None else quantise(z),
        text=_read_texts({name: split.split for name, split in splits.items()}, rows),
    )


def _read_texts(
    splits: Mapping[str, Split], rows: Mapping[str, NDArray[np.intp]]
) -> tuple[str, ...] | None:
    """Return the beginnings of the texts of the chosen samples; None where there are none."""
    if not all(split.holds_texts() for split in splits.values()):
        return None
    shown = sum(map(len, rows.values()))
    longest = min(_LONGEST_TEXT, max(_SHORTEST_TEXT, _TEXT_BUDGET // max(1, shown)))
    return tuple(
        shorten(printable(text), longest)
        for name, split in splits.items()
        for start in range(0, len(rows[name]), _TEXTS)
        for text in split.texts(rows[name][start : start + _TEXTS])
    )


def _pack_classes(
    values: Iterable[NDArray[Any] | None], rows: Mapping[str, NDArray[np.intp]]
) -> Packed | None:
    """Pack labels; None where there are none, or where they exceed 32 bits."""
    parts = [
        np.full(len(chosen), _MISSING, np.int64) if part is None else part[chosen].astype(np.int64)
        for part, chosen in zip(values, rows.values(), strict=True)
    ]
    joined = np.concatenate(parts)
    known = joined != _MISSING
    fits = (np.abs(joined[known]) < -_MISSING).all()
    return pack(joined, "i4") if known.any() and fits else None


def _curve(split: ScoredSplit, window: int) -> tuple[Packed, Packed] | None:
    """Return the smoothed curve over all samples of a split, thinned."""
    alpha, beta = split.pair
    if len(alpha) < window or split.split_beta.reason is not None:
        return None
    if not (np.isfinite(alpha).all() and np.isfinite(beta).all()):
        return None
    alpha, beta = smooth_curve(alpha, beta, window, split.ranked)
    places = np.arange(len(alpha))
    if len(alpha) > _CURVE:
        places = np.linspace(0, len(alpha) - 1, _CURVE).round().astype(np.intp)
    return pack(alpha[places], "f4"), pack(beta[places], "f4")
