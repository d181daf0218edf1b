"""Which input of a model says where samples are padded: by their values, or as the user says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import UsageError
from cnatool.metrics.padding import OTHER_NAMES, SHORTEST
from cnatool.records.masks import MaskRecord

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

# Masks of something else than padding, besides those of `OTHER_NAMES`.
_OTHER_MASKS = ("head", "causal")
# Share of padded samples whose last real position differs from padding, where a number is a length.
_TIGHT = 0.9


@dataclass(frozen=True, slots=True)
class _Candidate:
    """An input that may say where padding is."""

    mask: MaskRecord
    real: NDArray[np.bool_]  # (n, positions)

    @property
    def has_padding(self) -> bool:
        """Whether any of the samples is padded."""
        return not self.real.all()


def find_mask(
    inputs: Mapping[str, NDArray[Any]], asked: str | None = None
) -> tuple[MaskRecord | None, list[MaskRecord]]:
    """Find what says where samples, (n, …) by input, are padded; or take what is asked for.

    Masks without padding in these samples come second.
    """
    if asked is not None:
        return _take_asked(asked, inputs), []
    unpadded, found = _find_candidates(inputs)
    return _choose(found), [each.mask for each in unpadded]


def describe_holes(inputs: Mapping[str, NDArray[Any]]) -> str | None:
    """Describe a mask that may hide positions for another reason than padding, if there is one."""
    for name, values in inputs.items():
        ones = _as_mask(values)
        if ones is None or "mask" not in name.lower() or ones.all():
            continue
        lengths = {size for other, v in inputs.items() if other != name for size in v.shape[1:]}
        if ones.shape[1] in lengths and not _is_of_something_else(name):
            return (
                f"{name!r} is 0 at {1 - float(ones.mean()):.0%} of the positions of the first "
                "samples, not only at the end of each, and these count: if they are padding, "
                f"`mask={name!r}` leaves them out of sums and of what is stored"
            )
    return None


def _is_of_something_else(name: str) -> bool:
    """Whether an input's name is that of other zeros and ones than a mask of padding."""
    return any(word in name.lower() for word in (*OTHER_NAMES, *_OTHER_MASKS))


def _choose(found: Sequence[_Candidate]) -> MaskRecord | None:
    """Choose the mask; UsageError where inputs contradict each other."""
    if not found:
        return None
    first = found[0]
    for other in found[1:]:
        if not np.array_equal(first.real, other.real):
            names = " and ".join(repr(each.mask.input) for each in (first, other))
            raise UsageError(
                f"{names} disagree on where samples are padded, and only the padding of one can "
                f"be excluded: pass `mask={first.mask.input!r}`, `mask={other.mask.input!r}`, or "
                "`mask='none'` to count all padding."
            )
    return first.mask


def _find_candidates(
    inputs: Mapping[str, NDArray[Any]],
) -> tuple[list[_Candidate], list[_Candidate]]:
    """Find masks without padding in these samples, and then what says where padding is.

    A number of real positions is taken only where no mask says the same.
    """
    binary = {
        name: rows for name, values in inputs.items() if (rows := _as_mask(values)) is not None
    }
    masks = [
        candidate
        for name, rows in binary.items()
        if (candidate := _try_mask(name, rows, inputs, binary)) is not None
    ]
    padded = [each for each in masks if each.has_padding]
    if not padded:
        lengths = (_try_lengths(name, values, inputs) for name, values in inputs.items())
        padded = [each for each in lengths if each is not None]
    return [each for each in masks if not each.has_padding], padded


def _as_mask(values: NDArray[Any]) -> NDArray[np.bool_] | None:
    """Return which numbers of an input are 1, (n, positions); None unless all are 0 or 1."""
    long = [size for size in values.shape[1:] if size > 1]
    if len(long) != 1 or long[0] < SHORTEST or not ((values == 0) | (values == 1)).all():
        return None
    return np.asarray(values.reshape(len(values), -1) == 1)


def _try_mask(
    name: str,
    ones: NDArray[np.bool_],
    inputs: Mapping[str, NDArray[Any]],
    binary: Mapping[str, NDArray[np.bool_]],
) -> _Candidate | None:
    """Describe an input of zeros and ones as a mask of padding, if it is one."""
    lower = name.lower()
    if _is_of_something_else(name):
        return None
    length = ones.shape[1]
    padded = [
        values
        for other, values in inputs.items()
        if other != name and other not in binary and length in values.shape[1:]
    ]
    if not padded:
        return None
    named, marks_padding = "mask" in lower, "pad" in lower
    if ones.all() or not ones.any():
        # Without padding, a mask of padding is 0 everywhere, and one of real positions 1.
        is_plain = named and ones.all() != marks_padding
        return _candidate(name, ones, int(marks_padding), inputs) if is_plain else None
    fits = [
        _lies_at_end(rows) and any(_is_constant(values, rows) for values in padded)
        for rows in (~ones, ones)
    ]
    if fits[0] != fits[1]:
        return _candidate(name, ones, int(fits[1]), inputs)
    if not named:
        return None
    if marks_padding:
        raise UsageError(
            f"input {name!r} may be a padding mask, but does not show which of its values marks "
            f"padding: pass `mask='{name}=0'`, `mask='{name}=1'`, or `mask='none'` if it is none."
        )
    # Zeros among ones may hide positions for another reason than padding.
    return (
        _candidate(name, ones, 0, inputs) if "attention" in lower or _lies_at_end(~ones) else None
    )


def _candidate(
    name: str, ones: NDArray[np.bool_], padding: int, inputs: Mapping[str, NDArray[Any]]
) -> _Candidate:
    real = ones != bool(padding)
    axes = _find_all_axes({o: v for o, v in inputs.items() if o != name}, real)
    axes[name] = (inputs[name].shape[1:].index(real.shape[1]),)
    return _Candidate(MaskRecord(name, "mask", padding, real.shape[1], axes), real)


def _try_lengths(
    name: str, values: NDArray[Any], inputs: Mapping[str, NDArray[Any]]
) -> _Candidate | None:
    """Describe an input as the number of real positions, if other inputs are padded behind it."""
    if values.dtype.kind not in "iu" or values[0].size != 1 or (values < 0).any():
        return None
    counts, named = values.reshape(-1), "len" in name.lower()
    for other, padded in inputs.items():
        for axis, size in enumerate(padded.shape[1:]):
            if size < SHORTEST or (counts > size).any() or (counts == size).all():
                continue
            real = np.arange(size) < counts[:, None]
            along = _along(padded, axis)
            if other == name or not _is_constant(padded, ~real, axis):
                continue
            rows = np.flatnonzero((counts > 0) & (counts < size))
            last, behind = along[rows, counts[rows] - 1], along[rows, counts[rows]]
            ends = (last != behind).any(axis=1)
            if len(np.unique(counts)) > 1 and (named or (len(ends) and ends.mean() >= _TIGHT)):
                return _lengths(name, size, real, inputs)
    return None


def _lengths(
    name: str, size: int, real: NDArray[np.bool_], inputs: Mapping[str, NDArray[Any]]
) -> _Candidate:
    axes = _find_all_axes({o: v for o, v in inputs.items() if o != name}, real)
    return _Candidate(MaskRecord(name, "lengths", 0, size, axes), real)


def _take_asked(asked: str, inputs: Mapping[str, NDArray[Any]]) -> MaskRecord:
    """Take the mask that the user names, perhaps with the number that stands for padding."""
    name, _, number = asked.partition("=") if asked not in inputs else (asked, "", "")
    subject = f"`mask={asked!r}`"
    if name not in inputs:
        raise UsageError(
            f"{subject}: the data feed no input of this name, only {', '.join(map(repr, inputs))}."
        )
    if number not in ("", "0", "1"):
        raise UsageError(f"{subject}: either 0 or 1 marks padding, as in `mask='{name}=0'`.")
    values = inputs[name]
    ones = _as_mask(values)
    if ones is not None:
        if number:
            return _candidate(name, ones, int(number), inputs).mask
        found = _try_mask(name, ones, inputs, {})
        return (found or _candidate(name, ones, 0, inputs)).mask
    if values.dtype.kind in "iu" and values[0].size == 1 and not number:
        found = _try_lengths(name, values, inputs)
        if found is not None:
            return found.mask
        counts = values.reshape(-1)
        sizes = {size for v in inputs.values() for size in v.shape[1:] if size >= counts.max()}
        sizes -= {1}
        if len(sizes) == 1 and counts.min() >= 0:
            (size,) = sizes
            return _lengths(name, size, np.arange(size) < counts[:, None], inputs).mask
        raise UsageError(
            f"{subject}: no other input has an axis that is padded behind these lengths."
        )
    raise UsageError(
        f"{subject}: a mask has 0 or 1 for each position, or is one whole number, the length; this "
        f"input has {values.dtype} of shape {values.shape[1:]}."
    )


def _along(values: NDArray[Any], axis: int) -> NDArray[Any]:
    """Arrange samples as (n, positions, rest)."""
    moved = np.moveaxis(values, axis + 1, 1)
    return moved.reshape(*moved.shape[:2], -1)


def _find_all_axes(
    inputs: Mapping[str, NDArray[Any]], real: NDArray[np.bool_]
) -> dict[str, tuple[int, ...]]:
    """Find the axes of one sample of each input along which padding lies."""
    length = real.shape[1]
    axes = {
        name: [axis for axis, size in enumerate(values.shape[1:]) if size == length]
        for name, values in inputs.items()
    }
    # Another axis may be as long by chance.
    padded = {
        name: [axis for axis in found if _is_padded(_along(inputs[name], axis), real)]
        for name, found in axes.items()
    }
    if not any(padded.values()):
        padded = axes
    return {
        # A mask of pairs of positions, of two numbers, has two such axes, anything else one.
        name: tuple(found) if len(np.unique(inputs[name])) <= 2 else (found[0],)
        for name, found in padded.items()
        if found
    }


def _is_padded(along: NDArray[Any], real: NDArray[np.bool_]) -> bool:
    """Whether samples, (n, positions, rest), hold the same at all padding, or at each position."""
    gone = along[~real]
    if _same(gone, gone[:1]):
        return True
    places = np.broadcast_to(np.arange(real.shape[1]), real.shape)[~real]
    firsts = np.unique(places, return_index=True)[1]
    by_place = np.zeros((real.shape[1], *gone.shape[1:]), gone.dtype)
    by_place[places[firsts]] = gone[firsts]
    return len(firsts) < len(gone) and _same(gone, by_place[places])


def _same(first: NDArray[Any], second: NDArray[Any]) -> bool:
    return bool(((first == second) | ((first != first) & (second != second))).all())


def _lies_at_end(marked: NDArray[np.bool_]) -> bool:
    """Whether what is marked lies at one end of each row, the same in all."""
    steps = np.diff(marked.astype(np.int8), axis=1)
    return bool((steps >= 0).all() or (steps <= 0).all())


def _is_constant(values: NDArray[Any], marked: NDArray[np.bool_], axis: int | None = None) -> bool:
    """Whether an input is the same at all marked positions, along an axis or any that fits."""
    axes = [axis] if axis is not None else [
        k for k, size in enumerate(values.shape[1:]) if size == marked.shape[1]
    ]  # fmt: skip
    for place in axes:
        rows = _along(values, place)[marked]
        if _same(rows, rows[:1]):
            return True
    return False
