"""Which arrangement of a raw sample's elements fits a model's input, and whether that is certain.

A sample fits in two ways: its elements keep their order and only the axes are cut differently, or
channels move from last to first or back. All ways that fit are listed; where they do not come to
the same, nothing is guessed.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

_ASKED = re.compile(r"(?:(?P<source>[a-z-]+?)\s*->\s*)?(?P<target>[a-z-]+)")
_NAMES = {
    "chw": "chw",
    "nchw": "chw",
    "hwc": "hwc",
    "nhwc": "hwc",
    "flat-chw": "flat-chw",
    "flat-hwc": "flat-hwc",
    "flat": "flat",
}


@dataclass(frozen=True, slots=True)
class Layout:
    """What ``--layout`` said; ``flat`` stands for elements that keep their order."""

    source: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One way to make the model's sample from the raw one.

    Attributes
    ----------
    source, target : str
        ``chw``, ``hwc``, ``flat-chw`` or ``flat-hwc``; empty where no channel axis is assumed,
        and then the elements keep their order.
    shape : tuple of int
        The result's.
    channels : int or None
        How many, where the arrangement says which axis they are.
    moves : bool
        Whether any element changes its place in C order.
    """

    source: str
    target: str
    shape: tuple[int, ...]
    channels: int | None = None
    moves: bool = False

    @property
    def name(self) -> str:
        """``SOURCE->TARGET``, or what keeps the order."""
        return f"{self.source}->{self.target}" if self.source and self.target else self.target

    def same_as(self, other: Arrangement) -> bool:
        """Tell whether both give the same numbers in the same shape, from the same sample."""
        if self.shape != other.shape or self.moves != other.moves:
            return False
        # Two moves are one if both go the same way.
        return not self.moves or self.source[-3:] == other.source[-3:]


def parse_layout(text: str) -> Layout:
    """Read ``TARGET`` or ``SOURCE->TARGET``, in any case, as in ``NCHW`` or ``hwc->flat-chw``."""
    match = _ASKED.fullmatch(text.strip().lower())
    source, target = (match["source"], match["target"]) if match else (None, "")
    if target not in _NAMES or (source is not None and source not in _NAMES):
        raise UsageError(
            f"--layout {text!r} is not understood: give TARGET or SOURCE->TARGET out of chw, hwc, "
            "flat-chw, flat-hwc and flat, as in hwc->chw."
        )
    return Layout(_NAMES[source] if source else None, _NAMES[target])


def fits(shape: tuple[int, ...], target: tuple[int | None, ...]) -> bool:
    """Tell whether a shape is the target's, whose symbolic axes (None) take any length."""
    return len(shape) == len(target) and all(
        want is None or have == want for have, want in zip(shape, target, strict=True)
    )


def list_arrangements(
    sample: tuple[int, ...], known: str | None, target: tuple[int | None, ...], asked: Layout
) -> list[list[Arrangement]]:
    """List all ways to make the target's shape from a sample, equivalent ones grouped."""
    found = list(_matching(sample, known, target, asked, strict=True))
    if not found and asked.target is not None:
        # What the user says is more than what sizes suggest.
        found = list(_matching(sample, known, target, asked, strict=False))
    groups: list[list[Arrangement]] = []
    for one in found:
        for group in groups:
            if one.same_as(group[0]):
                group.append(one)
                break
        else:
            groups.append([one])
    return groups


def split_axes(
    sample: tuple[int, ...], arrangement: str, shape: tuple[int, ...], channels: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Cut a sample and its result along height, width and channels.

    Parameters
    ----------
    sample, shape : tuple of int
        One raw sample, and one as the model takes it.
    arrangement : str
        ``SOURCE->TARGET``.
    channels : int
        Only used where both are flat, and so do not tell.

    Returns
    -------
    tuple, tuple
        (C, H, W) or (H, W, C) of the raw sample and of the result. From flat to flat, the whole
        plane counts as one axis.
    """
    source, target = arrangement.split("->")
    if source in ("chw", "hwc"):
        c, h, w = _chw(source, sample)
    elif target in ("chw", "hwc"):
        c, h, w = _chw(target, shape)
    else:
        c, h, w = channels, 1, math.prod(shape) // channels
    return _cut(source, c, h, w), _cut(target, c, h, w)


def _matching(
    sample: tuple[int, ...],
    known: str | None,
    target: tuple[int | None, ...],
    asked: Layout,
    *,
    strict: bool,
) -> Iterator[Arrangement]:
    for one in (
        *_in_order(sample, target),
        *_from_picture(sample, known, target, asked, strict=strict),
        *_from_flat(sample, target, asked, strict=strict),
    ):
        unnamed = not one.target
        source_fits = asked.source in (None, one.source) or (asked.source == "flat" and unnamed)
        target_fits = asked.target in (None, one.target) or (
            unnamed and (asked.target == "flat" or asked.source == "flat")
        )
        if source_fits and target_fits and fits(one.shape, target):
            yield one


def _in_order(sample: tuple[int, ...], target: tuple[int | None, ...]) -> Iterator[Arrangement]:
    """As it is, with axes of length 1 added or dropped, flattened, or unflattened."""
    more = len(target) - len(sample)
    shapes = {sample: None} if more == 0 else {}
    if more > 0:
        for places in combinations(range(len(target)), more):
            rest = iter(sample)
            shapes[tuple(1 if i in places else next(rest) for i in range(len(target)))] = None
    if more < 0:
        ones = [i for i, dim in enumerate(sample) if dim == 1]
        for places in combinations(ones, -more):
            shapes[tuple(dim for i, dim in enumerate(sample) if i not in places)] = None
    if len(sample) > 1:
        shapes.update(dict.fromkeys(_flat(math.prod(sample), target)))
    elif len(sample) == 1 and (shape := _unflat(sample[0], target)):
        shapes[shape] = None
    for shape in shapes:
        yield Arrangement("", "", shape)


def _from_picture(
    sample: tuple[int, ...],
    known: str | None,
    target: tuple[int | None, ...],
    asked: Layout,
    *,
    strict: bool,
) -> Iterator[Arrangement]:
    """From (H, W), (C, H, W) or (H, W, C) to channels first or last, flat or not."""
    if len(sample) == 2:
        # A grey picture has its one channel anywhere; only the target has a name.
        for name in ("chw", "hwc", "flat-chw", "flat-hwc"):
            for shape in _shapes(name, 1, *sample, target):
                yield Arrangement("", name, shape, 1)
    if len(sample) != 3:
        return
    for source in ("chw", "hwc"):
        sure = source in (known, asked.source)
        if (known and not sure) or (strict and not sure and not _plausible(source, sample)):
            continue
        c, h, w = _chw(source, sample)
        for name in ("chw", "hwc", "flat-chw", "flat-hwc"):
            moves = name[-3:] != source and c > 1 and h * w > 1
            for shape in _shapes(name, c, h, w, target):
                yield Arrangement(source, name, shape, c, moves)


def _from_flat(
    sample: tuple[int, ...], target: tuple[int | None, ...], asked: Layout, *, strict: bool
) -> Iterator[Arrangement]:
    """From a flat sample to (C, H, W) or (H, W, C), or to itself."""
    if len(sample) != 1:
        return
    for source in ("flat-chw", "flat-hwc"):
        if len(target) == 1:
            yield Arrangement(source, source, sample)
    shape = _unflat(sample[0], target)
    if shape is None or len(shape) != 3:
        return
    for name in ("chw", "hwc"):
        if strict and name != asked.target and not _plausible(name, shape):
            continue
        c, h, w = _chw(name, shape)
        for source in ("flat-chw", "flat-hwc"):
            moves = source[-3:] != name and c > 1 and h * w > 1
            yield Arrangement(source, name, shape, c, moves)


def _plausible(layout: str, shape: tuple[int, ...]) -> bool:
    """Whether sizes allow channels there: up to four of them, or fewer than rows and columns."""
    c, h, w = _chw(layout, shape)
    other = shape[-1] if layout == "chw" else shape[0]
    if other == 1:
        # (1, 4, 4) is one channel of 4 by 4, not one row of four columns with four channels.
        return c == 1
    return c <= 4 or (c < h and c < w)


def _chw(layout: str, shape: tuple[int, ...]) -> tuple[int, int, int]:
    a, b, c = shape
    return (a, b, c) if layout == "chw" else (c, a, b)


def _cut(layout: str, c: int, h: int, w: int) -> tuple[int, int, int]:
    return (c, h, w) if layout.endswith("chw") else (h, w, c)


def _shapes(
    name: str, c: int, h: int, w: int, target: tuple[int | None, ...]
) -> Iterator[tuple[int, ...]]:
    if name.startswith("flat"):
        yield from _flat(c * h * w, target)
    else:
        yield _cut(name, c, h, w)


def _flat(size: int, target: tuple[int | None, ...]) -> Iterator[tuple[int, ...]]:
    """One axis, among axes of length 1 where the target has such."""
    for i in range(len(target)):
        if all(dim == 1 for j, dim in enumerate(target) if j != i):
            yield tuple(size if j == i else 1 for j in range(len(target)))


def _unflat(size: int, target: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """Cut a flat sample like the target, at most one of whose axes is symbolic."""
    fixed = math.prod(dim for dim in target if dim is not None)
    if target.count(None) > 1 or fixed == 0 or size % fixed:
        return None
    shape = tuple(size // fixed if dim is None else dim for dim in target)
    return shape if math.prod(shape) == size else None
