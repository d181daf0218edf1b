"""Arrangements of a raw sample's elements that fit a model's input.

Either the elements keep their order and are only reshaped, or channels move from last to first or
back. All arrangements that fit are listed; nothing is guessed among different ones.
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
    """The layout that the user chose; in ``flat``, elements keep their order."""

    source: str | None = None
    target: str | None = None


@dataclass(frozen=True, slots=True)
class Arrangement:
    """One way to convert a raw sample to the shape that the model takes."""

    # ``chw``, ``hwc``, ``flat-chw`` or ``flat-hwc``; empty without an axis of channels, and then
    # the elements keep their order
    source: str
    target: str
    shape: tuple[int, ...]  # shape of the result
    channels: int | None = None  # number of channels, if there is an axis of them
    moves: bool = False  # whether any element changes its place in C order

    @property
    def name(self) -> str:
        """``SOURCE->TARGET``, or the target if elements keep their order."""
        return f"{self.source}->{self.target}" if self.source and self.target else self.target

    def same_as(self, other: Arrangement) -> bool:
        """Whether both convert a sample to the same array."""
        if self.shape != other.shape or self.moves != other.moves:
            return False
        # Two moves are the same if both start from the same order.
        return not self.moves or self.source[-3:] == other.source[-3:]


def parse_layout(text: str) -> Layout:
    """Parse ``TARGET`` or ``SOURCE->TARGET``, in any case, as in ``NCHW`` or ``hwc->flat-chw``."""
    match = _ASKED.fullmatch(text.strip().lower())
    source, target = (match["source"], match["target"]) if match else (None, "")
    if target not in _NAMES or (source is not None and source not in _NAMES):
        raise UsageError(
            f"`layout` {text!r} is not a layout: give TARGET or SOURCE->TARGET, each one of chw, "
            "hwc, flat-chw, flat-hwc and flat, as in hwc->chw."
        )
    return Layout(_NAMES[source] if source else None, _NAMES[target])


def shape_fits(shape: tuple[int, ...], target: tuple[int | None, ...]) -> bool:
    """Whether a shape is that of the target, whose symbolic axes (None) have any length."""
    return len(shape) == len(target) and all(
        want is None or have == want for have, want in zip(shape, target, strict=True)
    )


def list_arrangements(
    sample: tuple[int, ...], known: str | None, target: tuple[int | None, ...], asked: Layout
) -> list[list[Arrangement]]:
    """List all arrangements of a sample in the target's shape, equivalent ones grouped."""
    ways = list(_find_fitting(sample, known, target, asked, strict=True))
    if not ways and asked.target is not None:
        # The user's choice counts more than what sizes suggest.
        ways = list(_find_fitting(sample, known, target, asked, strict=False))
    groups: list[list[Arrangement]] = []
    for way in ways:
        group = next((group for group in groups if way.same_as(group[0])), None)
        if group is None:
            groups.append([way])
        else:
            group.append(way)
    return groups


def split_axes(
    sample: tuple[int, ...], arrangement: str, shape: tuple[int, ...], channels: int
) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
    """Split a sample and its result into the axes of height, width and channels.

    ``arrangement`` is ``SOURCE->TARGET``. Returns (C, H, W) or (H, W, C) of the raw sample, and of
    the result. From flat to flat, ``channels`` tells their number, and the whole plane counts as
    one axis.
    """
    source, target = arrangement.split("->")
    if source in ("chw", "hwc"):
        c, h, w = _chw(source, sample)
    elif target in ("chw", "hwc"):
        c, h, w = _chw(target, shape)
    else:
        c, h, w = channels, 1, math.prod(shape) // channels
    return _cut(source, c, h, w), _cut(target, c, h, w)


def _find_fitting(
    sample: tuple[int, ...],
    known: str | None,
    target: tuple[int | None, ...],
    asked: Layout,
    *,
    strict: bool,
) -> Iterator[Arrangement]:
    for way in (
        *_in_order(sample, target),
        *_from_image(sample, known, target, asked, strict=strict),
        *_from_flat(sample, target, asked, strict=strict),
    ):
        unnamed = not way.target
        source_fits = asked.source in (None, way.source) or (asked.source == "flat" and unnamed)
        target_fits = asked.target in (None, way.target) or (
            unnamed and (asked.target == "flat" or asked.source == "flat")
        )
        if source_fits and target_fits and shape_fits(way.shape, target):
            yield way


def _in_order(sample: tuple[int, ...], target: tuple[int | None, ...]) -> Iterator[Arrangement]:
    """Arrange without moving elements: add or drop axes of length 1, flatten, or unflatten."""
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


def _from_image(
    sample: tuple[int, ...],
    known: str | None,
    target: tuple[int | None, ...],
    asked: Layout,
    *,
    strict: bool,
) -> Iterator[Arrangement]:
    """Arrange (H, W), (C, H, W) or (H, W, C) with channels first or last, flat or not."""
    if len(sample) == 2:
        # The channel of a grey image may be anywhere; only the target has a name.
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
    """Arrange a flat sample as (C, H, W) or (H, W, C), or keep it."""
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
    """Whether there are up to four channels, or fewer than rows and columns."""
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
    """List shapes of one axis, among axes of length 1 if the target has such."""
    for i in range(len(target)):
        if all(dim == 1 for j, dim in enumerate(target) if j != i):
            yield tuple(size if j == i else 1 for j in range(len(target)))


def _unflat(size: int, target: tuple[int | None, ...]) -> tuple[int, ...] | None:
    """Unflatten to the shape of the target, at most one of whose axes is symbolic."""
    fixed = math.prod(dim for dim in target if dim is not None)
    if target.count(None) > 1 or fixed == 0 or size % fixed:
        return None
    shape = tuple(size // fixed if dim is None else dim for dim in target)
    return shape if math.prod(shape) == size else None
