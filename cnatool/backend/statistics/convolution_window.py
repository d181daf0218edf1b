"""Which elements of its input a convolution meets, and with which tap of its kernel."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.products import multiply
from cnatool.backend.graph.nodes import attributes

if TYPE_CHECKING:
    import onnx
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class ConvolutionWindow:
    """A convolution over two axes: how often each tap meets each row, and each column.

    ``rows`` are (kernel height, H) and ``columns`` (kernel width, W), zeros and ones.
    """

    rows: NDArray[np.float64]
    columns: NDArray[np.float64]
    group: int

    @property
    def meets_each_once(self) -> bool:
        """Whether the kernel has one tap, which meets every element."""
        return all(len(axis) == 1 and axis.all() for axis in (self.rows, self.columns))

    def spread_taps(self, taps: NDArray[np.float64]) -> NDArray[np.float64]:
        """Sum the taps that meet each element: (C, H, W) from (C, kernel height, width)."""
        spread: NDArray[np.float64] = np.einsum("cij,ih,jw->chw", taps, self.rows, self.columns)
        return spread


def read_window(
    node: onnx.NodeProto,
    kernel: tuple[int, ...],
    source: tuple[int, ...],
    made: tuple[int, ...],
) -> ConvolutionWindow:
    """Read the window of a Conv from its attributes and shapes, those of one sample."""
    settings = attributes(node)
    strides, gaps = settings.get("strides") or [1, 1], settings.get("dilations") or [1, 1]
    pads = settings.get("pads") or [0] * 4
    automatic = settings.get("auto_pad", b"NOTSET")
    axes = []
    for axis in range(2):
        taps, length, count = kernel[2 + axis], source[1 + axis], made[1 + axis]
        stride, gap, pad = strides[axis], gaps[axis], pads[axis]
        if automatic in (b"SAME_UPPER", b"SAME_LOWER"):
            missing = max(0, (count - 1) * stride + (taps - 1) * gap + 1 - length)
            pad = missing // 2 if automatic == b"SAME_UPPER" else missing - missing // 2
        met = np.zeros((taps, length))
        for tap in range(taps):
            places = np.arange(count) * stride - pad + tap * gap
            met[tap, places[(places >= 0) & (places < length)]] = 1
        axes.append(met)
    return ConvolutionWindow(axes[0], axes[1], int(settings.get("group", 1)))


def sum_kernel(
    kernel: NDArray[np.float32], weights: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Sum a kernel over its outputs, each with a weight: (C, height, width)."""
    # One group at a time: kernels are large, and float64 doubles them.
    parts = zip(
        weights.reshape(group, -1), kernel.reshape(group, len(weights) // group, -1), strict=True
    )
    summed = np.concatenate([multiply(weight, part.astype(np.float64)) for weight, part in parts])
    return summed.reshape(-1, *kernel.shape[2:])
