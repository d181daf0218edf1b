"""Which elements of a convolution's input meet which taps of its kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

if TYPE_CHECKING:
    from collections.abc import Mapping

    from numpy.typing import NDArray


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Give the attributes of a node by name."""
    return {given.name: onnx.helper.get_attribute_value(given) for given in node.attribute}


def sum_kernel(
    kernel: NDArray[np.float32], weights: NDArray[np.float64], group: int
) -> NDArray[np.float64]:
    """Give the kernel of the one channel that is a weighted sum of all channels given."""
    parts = kernel.reshape(group, -1, *kernel.shape[1:])
    # One group at a time: kernels are large, and float64 doubles them.
    summed = [
        np.tensordot(weight, part.astype(np.float64), axes=1)
        for weight, part in zip(weights.reshape(group, -1), parts, strict=True)
    ]
    return np.concatenate(summed)


def count_taps(
    node: onnx.NodeProto, kernel: tuple[int, ...], given: tuple[int, ...], made: tuple[int, ...]
) -> list[NDArray[np.float64]] | None:
    """Say for each spatial axis how often each tap of the kernel meets each place of the input."""
    options = attributes(node)
    axes = len(kernel)
    strides = options.get("strides") or [1] * axes
    dilations = options.get("dilations") or [1] * axes
    counts = []
    for axis, (taps, length, count) in enumerate(zip(kernel, given, made, strict=True)):
        step, dilation = int(strides[axis]), int(dilations[axis])
        extent = (taps - 1) * dilation + 1
        missing = max(0, (count - 1) * step + extent - length)
        before, after = _padding(options, axis, axes, missing)
        if (length + before + after - extent) // step + 1 != count:
            return None
        meets = np.zeros((taps, length))
        for tap in range(taps):
            places = np.arange(count) * step + tap * dilation - before
            meets[tap, places[(places >= 0) & (places < length)]] = 1
        counts.append(meets)
    return counts


def _padding(options: Mapping[str, Any], axis: int, axes: int, missing: int) -> tuple[int, int]:
    """Give the zeros before the first element of an axis and after the last."""
    automatic = options.get("auto_pad", b"NOTSET")
    if automatic == b"SAME_UPPER":
        return missing // 2, missing - missing // 2
    if automatic == b"SAME_LOWER":
        return missing - missing // 2, missing // 2
    pads = options.get("pads") or [0] * (2 * axes)
    return (0, 0) if automatic == b"VALID" else (int(pads[axis]), int(pads[axes + axis]))
