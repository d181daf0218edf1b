"""Convolution and pooling of non-negative arrays in float64, which the runtime does not offer."""

from __future__ import annotations

import itertools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray


class _Windows:
    """Where the windows of a convolution or a pooling lie along each spatial axis."""

    def __init__(
        self, given: Mapping[str, Any], lengths: Sequence[int], kernel: Sequence[int]
    ) -> None:
        axes = len(lengths)
        self.kernel = tuple(kernel)
        self.strides = tuple(given.get("strides") or [1] * axes)
        self.dilations = tuple(given.get("dilations") or [1] * axes)
        pads = tuple(given.get("pads") or [0] * (2 * axes))
        automatic = given.get("auto_pad", b"NOTSET")
        whole = math.ceil if given.get("ceil_mode", 0) else math.floor
        self.before: list[int] = []
        self.after: list[int] = []
        self.counts: list[int] = []
        for axis, length in enumerate(lengths):
            extent, step = (kernel[axis] - 1) * self.dilations[axis] + 1, self.strides[axis]
            if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
                count = math.ceil(length / step)
                missing = max(0, (count - 1) * step + extent - length)
                smaller = missing // 2
                before = smaller if automatic == b"SAME_UPPER" else missing - smaller
                after = missing - before
            else:
                before, after = (0, 0) if automatic == b"VALID" else (pads[axis], pads[axes + axis])
                count = whole((length + before + after - extent) / step) + 1
                if whole is math.ceil and (count - 1) * step >= length + before:
                    count -= 1  # a window that would lie in the padding alone
            self.before.append(before)
            self.after.append(after)
            self.counts.append(count)

    def padded(self, values: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        # Rounding up may need more than the padding says.
        room = [
            max(after, (count - 1) * step + (taps - 1) * dilation + 1 - length - before)
            for after, count, step, taps, dilation, length, before in zip(
                self.after,
                self.counts,
                self.strides,
                self.kernel,
                self.dilations,
                values.shape[2:],
                self.before,
                strict=True,
            )
        ]
        widths = [(0, 0), (0, 0), *zip(self.before, room, strict=True)]
        return np.pad(values, widths, constant_values=fill)

    def taps(self) -> Iterator[tuple[slice, ...]]:
        """Return for each tap of the kernel the places of the padded input that it meets."""
        for tap in itertools.product(*map(range, self.kernel)):
            starts = [t * d for t, d in zip(tap, self.dilations, strict=True)]
            ends = [
                start + (count - 1) * step + 1
                for start, count, step in zip(starts, self.counts, self.strides, strict=True)
            ]
            places = map(slice, starts, ends, self.strides)
            yield (slice(None), slice(None), *places)


def convolve(
    values: NDArray[np.float64], kernel: NDArray[np.float64], given: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Convolve as the operator Conv does."""
    group, rows, channels, *taps = kernel.shape
    windows = _Windows(given, values.shape[2:], taps)
    padded = windows.padded(values, 0.0)
    total = np.zeros((len(values), group, rows, math.prod(windows.counts)))
    for weights, places in zip(_by_tap(kernel), windows.taps(), strict=True):
        total += weights @ padded[places].reshape(len(values), group, channels, -1)
    return total.reshape(len(values), group * rows, *windows.counts)


def convolve_transposed(
    values: NDArray[np.float64], kernel: NDArray[np.float64], given: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Do what the operator ConvTranspose does, where its padding is given and not to be found."""
    group, rows, channels, *taps = kernel.shape
    axes = len(taps)
    pads = list(given.get("pads") or [0] * (2 * axes))
    extra = list(given.get("output_padding") or [0] * axes)
    # The places that a window meets when the result is convolved are those that it adds to here.
    windows = _Windows({**given, "pads": None}, taps, taps)
    windows.counts = list(values.shape[2:])
    extents = [
        (count - 1) * step + (size - 1) * dilation + 1
        for count, step, size, dilation in zip(
            windows.counts, windows.strides, taps, windows.dilations, strict=True
        )
    ]
    longer = [n + more for n, more in zip(extents, extra, strict=True)]
    total = np.zeros((len(values), group * rows, *longer))
    flat = values.reshape(len(values), group, channels, -1)
    for weights, places in zip(_by_tap(kernel), windows.taps(), strict=True):
        spread = weights @ flat
        total[places] += spread.reshape(len(values), group * rows, *windows.counts)
    inside = (slice(pads[i], longer[i] - pads[axes + i]) for i in range(axes))
    return total[(slice(None), slice(None), *inside)]


def _by_tap(kernel: NDArray[np.float64]) -> NDArray[np.float64]:
    """Arrange a kernel as (taps, g, out, c)."""
    flat = kernel.reshape(*kernel.shape[:3], -1)
    return np.ascontiguousarray(np.moveaxis(flat, -1, 0))


def max_pool(values: NDArray[np.float64], given: Mapping[str, Any]) -> NDArray[np.float64]:
    """Do what the operator MaxPool does, for its values."""
    windows = _Windows(given, values.shape[2:], given["kernel_shape"])
    padded = windows.padded(values, -np.inf)
    first, *others = windows.taps()
    total = padded[first].copy()
    for places in others:
        np.maximum(total, padded[places], out=total)
    return total


def average_pool(values: NDArray[np.float64], given: Mapping[str, Any]) -> NDArray[np.float64]:
    """Do what the operator AveragePool does."""
    windows = _Windows(given, values.shape[2:], given["kernel_shape"])
    padded = windows.padded(values, 0.0)
    # Padding counts where the operator says so; what only rounding up adds never does.
    inside = np.zeros((1, 1, *padded.shape[2:]))
    counted = bool(given.get("count_include_pad", 0))
    inside[
        (
            slice(None),
            slice(None),
            *(
                slice(0 if counted else before, before + length + (after if counted else 0))
                for before, after, length in zip(
                    windows.before, windows.after, values.shape[2:], strict=True
                )
            ),
        )
    ] = 1
    total: Any = 0.0
    count: Any = 0.0
    for places in windows.taps():
        total, count = total + padded[places], count + inside[places]
    result: NDArray[np.float64] = total / count
    return result
