"""Convolution and pooling of non-negative arrays in float64, which the runtime does not offer.

ONNX's reference evaluator offers both, and takes many times as long.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from cnatool._util.products import multiply

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import NDArray


# Elements that are convolved at a time.
_CACHED = 1 << 17


class _Windows:
    """The windows of a convolution or a pooling along the spatial axes of an array."""

    def __init__(
        self, settings: Mapping[str, Any], lengths: Sequence[int], kernel: Sequence[int]
    ) -> None:
        axes = len(lengths)
        self.strides = tuple(settings.get("strides") or [1] * axes)
        self.dilations = tuple(settings.get("dilations") or [1] * axes)
        self.extents = [(k - 1) * d + 1 for k, d in zip(kernel, self.dilations, strict=True)]
        pads = tuple(settings.get("pads") or [0] * (2 * axes))
        automatic = settings.get("auto_pad", b"NOTSET")
        up = bool(settings.get("ceil_mode", 0))
        self.padding: list[tuple[int, int]] = []
        self.counts: list[int] = []
        for axis, length in enumerate(lengths):
            extent, step = self.extents[axis], self.strides[axis]
            if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
                count = math.ceil(length / step)
                missing = max(0, (count - 1) * step + extent - length)
                smaller, larger = missing // 2, missing - missing // 2
                before = smaller if automatic == b"SAME_UPPER" else larger
                after = missing - before
            else:
                before, after = (0, 0) if automatic == b"VALID" else (pads[axis], pads[axes + axis])
                room = (length + before + after - extent) / step
                count = (math.ceil(room) if up else math.floor(room)) + 1
                if up and (count - 1) * step >= length + before:
                    count -= 1  # a window that would lie in the padding alone
            self.padding.append((before, after))
            self.counts.append(count)

    def pad(self, values: NDArray[np.float64], fill: float) -> NDArray[np.float64]:
        """Pad an array; rounding up may need more than the padding that is asked for."""
        needed = [
            max(after, (count - 1) * step + extent - length - before)
            for (before, after), count, step, extent, length in zip(
                self.padding, self.counts, self.strides, self.extents, values.shape[2:], strict=True
            )
        ]
        widths = [(before, end) for (before, _), end in zip(self.padding, needed, strict=True)]
        return np.pad(values, [(0, 0), (0, 0), *widths], constant_values=fill)

    def taps(self, padded: NDArray[np.float64]) -> Iterator[NDArray[np.float64]]:
        """Yield views of a padded array: the elements that each tap of the kernel meets."""
        spatial = tuple(range(2, padded.ndim))
        view = sliding_window_view(padded, self.extents, spatial, writeable=True)
        places = tuple(
            slice(0, (count - 1) * step + 1, step)
            for count, step in zip(self.counts, self.strides, strict=True)
        )
        dilated = tuple(slice(None, None, step) for step in self.dilations)
        windows = view[(slice(None), slice(None), *places, *dilated)]
        for tap in np.ndindex(windows.shape[padded.ndim :]):
            yield windows[(..., *tap)]


def convolve(
    values: NDArray[np.float64], kernel: NDArray[np.float64], settings: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Compute the operator Conv with a kernel (groups, out, in, …)."""
    group, rows, _, *taps = kernel.shape
    windows = _Windows(settings, values.shape[2:], taps)
    flat = kernel.reshape(group, rows, -1)
    parts = list(windows.taps(windows.pad(values, 0.0)))
    first, *others = windows.counts
    total = np.empty((len(values), group, rows, first, math.prod(others)))
    # Some lines at a time, so that the elements in their windows stay in the cache.
    lines = max(1, _CACHED // max(1, group * flat.shape[2] * math.prod(others)))
    for start in range(0, first, lines):
        elements = [part[:, :, start : start + lines] for part in parts]
        columns = np.stack(elements, axis=2).reshape(len(values), group, flat.shape[2], -1)
        total[:, :, :, start : start + lines] = multiply(flat, columns).reshape(
            len(values), group, rows, -1, math.prod(others)
        )
    return total.reshape(len(values), group * rows, *windows.counts)


def convolve_transposed(
    values: NDArray[np.float64], kernel: NDArray[np.float64], settings: Mapping[str, Any]
) -> NDArray[np.float64]:
    """Compute the operator ConvTranspose, with a padding that is set."""
    group, rows, channels, *taps = kernel.shape
    axes = len(taps)
    pads = list(settings.get("pads") or [0] * (2 * axes))
    extra = list(settings.get("output_padding") or [0] * axes)
    # The elements that a window meets when the result is convolved are those that it adds to here.
    windows = _Windows({**settings, "pads": None}, taps, taps)
    windows.counts = list(values.shape[2:])
    lengths = [
        (count - 1) * step + extent + more
        for count, step, extent, more in zip(
            windows.counts, windows.strides, windows.extents, extra, strict=True
        )
    ]
    total = np.zeros((len(values), group * rows, *lengths))
    flat = values.reshape(len(values), group, channels, -1)
    flat_kernel = kernel.reshape(group, rows, channels, -1)
    for tap, part in enumerate(windows.taps(total)):
        part += multiply(flat_kernel[..., tap], flat).reshape(part.shape)
    inside = (slice(pads[i], lengths[i] - pads[axes + i]) for i in range(axes))
    return total[(slice(None), slice(None), *inside)]


def max_pool(values: NDArray[np.float64], settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """Compute the values of the operator MaxPool."""
    windows = _Windows(settings, values.shape[2:], settings["kernel_shape"])
    first, *others = windows.taps(windows.pad(values, -np.inf))
    total = first.copy()
    for part in others:
        np.maximum(total, part, out=total)
    return total


def average_pool(values: NDArray[np.float64], settings: Mapping[str, Any]) -> NDArray[np.float64]:
    """Compute the operator AveragePool."""
    windows = _Windows(settings, values.shape[2:], settings["kernel_shape"])
    # Padding counts where the operator says so; what only rounding up adds never does.
    inside = np.ones((1, 1, *values.shape[2:]))
    if settings.get("count_include_pad", 0):
        inside = np.pad(inside, [(0, 0), (0, 0), *windows.padding], constant_values=1)
        ends = [(0, 0)] * len(windows.padding)
    else:
        ends = windows.padding
    padded = windows.pad(values, 0.0)
    room = [
        (before, size - length - before)
        for (before, _), size, length in zip(ends, padded.shape[2:], inside.shape[2:], strict=True)
    ]
    counted = np.pad(inside, [(0, 0), (0, 0), *room])
    total: NDArray[np.float64] = sum(windows.taps(padded)) / sum(windows.taps(counted))  # type: ignore[assignment]
    return total
