"""Operators for ONNX's reference evaluator that replace its own.

Those that it computes in Python loops are computed by PyTorch; what PyTorch has no equal of is left
to the evaluator's own code, and without PyTorch all is. Those that it computes otherwise than the
standard says, as of onnx 1.23, are computed by NumPy: GatherElements, which fails for some shapes;
LRN, which takes the number of samples for that of channels; and BatchNormalization before version
14, which takes the statistics of the batch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx.reference.op_run import OpRun
from onnx.reference.ops import (
    op_average_pool,
    op_batch_normalization,
    op_conv,
    op_conv_transpose,
    op_gather_elements,
    op_grid_sample,
    op_lrn,
    op_max_pool,
    op_resize,
)

from zoo.control_flow import Loop, Scan

try:
    import torch
except ImportError:
    torch = None

_FLOATS = (np.float32, np.float64)


class Conv(op_conv.Conv):
    """Convolution over one to three axes."""

    def _run(self, x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
        axes = x.ndim - 2
        if x.dtype not in _FLOATS or axes > 3 or attributes["auto_pad"] not in ("NOTSET", None):
            return super()._run(x, w, b, **attributes)
        call = getattr(torch.nn.functional, f"conv{axes}d")
        result = call(
            _pad(_tensor(x), attributes["pads"], axes, 0.0),
            _tensor(w),
            None if b is None else _tensor(b),
            stride=tuple(attributes["strides"] or [1] * axes),
            dilation=tuple(attributes["dilations"] or [1] * axes),
            groups=attributes["group"] or 1,
        )
        return (result.numpy(),)


class ConvTranspose(op_conv_transpose.ConvTranspose):
    """Transposed convolution whose padding is the same on both sides."""

    def _run(self, x: Any, w: Any, b: Any = None, **attributes: Any) -> Any:
        axes = x.ndim - 2
        pads = attributes["pads"] or [0] * 2 * axes
        if (
            x.dtype not in _FLOATS
            or axes > 3
            or attributes["auto_pad"] not in ("NOTSET", None)
            or attributes["output_shape"]
            or pads[:axes] != pads[axes:]
        ):
            return super()._run(x, w, b, **attributes)
        call = getattr(torch.nn.functional, f"conv_transpose{axes}d")
        result = call(
            _tensor(x),
            _tensor(w),
            None if b is None else _tensor(b),
            stride=tuple(attributes["strides"] or [1] * axes),
            padding=tuple(pads[:axes]),
            output_padding=tuple(attributes["output_padding"] or [0] * axes),
            groups=attributes["group"] or 1,
            dilation=tuple(attributes["dilations"] or [1] * axes),
        )
        return (result.numpy(),)


class GridSample(op_grid_sample.GridSample):
    """Linear sampling of images at the places of a grid."""

    def _run(self, x: Any, grid: Any, **attributes: Any) -> Any:
        mode = attributes["mode"]
        if x.dtype not in _FLOATS or x.ndim not in (4, 5) or mode not in ("bilinear", "linear"):
            return super()._run(x, grid, **attributes)
        result = torch.nn.functional.grid_sample(
            _tensor(x),
            _tensor(grid),
            padding_mode=attributes["padding_mode"],
            align_corners=bool(attributes["align_corners"]),
        )
        return (result.numpy(),)


class MaxPool(op_max_pool.MaxPool):
    """Pooling by the largest number."""

    def _run(self, x: Any, **attributes: Any) -> Any:
        axes = x.ndim - 2
        if not _pools(x, attributes) or len(self.output) > 1:
            return super()._run(x, **attributes)
        values, padding = _pad_windows(_tensor(x), attributes, -np.inf)
        result = getattr(torch.nn.functional, f"max_pool{axes}d")(
            values,
            tuple(attributes["kernel_shape"]),
            stride=tuple(attributes["strides"] or [1] * axes),
            dilation=tuple(attributes["dilations"] or [1] * axes),
            padding=padding,
            ceil_mode=bool(attributes["ceil_mode"]),
        )
        return (result.numpy(),)


class AveragePool(op_average_pool.AveragePool_19):
    """Pooling by the mean, over all of a window or over what of it lies in the tensor."""

    def _run(self, x: Any, **attributes: Any) -> Any:
        axes = x.ndim - 2
        dilations = attributes.get("dilations") or [1]
        if not _pools(x, attributes) or any(each != 1 for each in dilations):
            return super()._run(x, **attributes)

        def pool(values: Any) -> Any:
            values, padding = _pad_windows(values, attributes, 0.0)
            return getattr(torch.nn.functional, f"avg_pool{axes}d")(
                values,
                tuple(attributes["kernel_shape"]),
                stride=tuple(attributes["strides"] or [1] * axes),
                padding=padding,
                ceil_mode=bool(attributes["ceil_mode"]),
            )

        values = _tensor(x)
        result = pool(values)
        if not attributes["count_include_pad"]:
            result = result / pool(torch.ones_like(values))
        return (result.numpy(),)


class Resize(op_resize.Resize):
    """Interpolation, which is a product with one matrix for each axis that changes."""

    def _run(self, x: Any, roi: Any = None, scales: Any = None, sizes: Any = None, **a: Any) -> Any:
        if (
            a["coordinate_transformation_mode"] == "tf_crop_and_resize"
            or a.get("keep_aspect_ratio_policy") not in ("stretch", None)
            or x.dtype not in _FLOATS
        ):
            return super()._run(x, roi, scales, sizes, **a)
        axes = list(a.get("axes") or range(x.ndim))
        ways = tuple(sorted((name, value) for name, value in a.items() if name != "axes"))
        result = x
        for place, axis in enumerate(axes):
            scale = None if scales is None or not len(scales) else float(scales[place])
            size = None if sizes is None or not len(sizes) else int(sizes[place])
            if size == x.shape[axis] or scale == 1.0:
                continue
            matrix = _resize_matrix(self, x.shape[axis], scale, size, ways)
            result = np.moveaxis(np.moveaxis(result, axis, -1) @ matrix, -1, axis)
        return (result.astype(x.dtype),)

    def resize_unit_vectors(
        self, length: int, scale: float | None, size: int | None, attributes: dict[str, Any]
    ) -> NDArray[Any]:
        """Compute the matrix of an axis by the evaluator's own code."""
        rows = [
            super(Resize, self)._run(
                row,
                np.empty(0, np.float32),
                None if scale is None else np.array([scale], np.float32),
                None if size is None else np.array([size], np.int64),
                **attributes,
            )[0]
            for row in np.eye(length)
        ]
        return np.stack(rows)


class LRN(op_lrn.LRN):
    """Division by a power of the mean square over neighbouring channels."""

    def _run(self, x: Any, **a: Any) -> Any:
        before, after = (a["size"] - 1) // 2, a["size"] // 2
        widths = [(0, 0)] * x.ndim
        widths[1] = (before, after)
        squares = np.pad(x.astype(np.float64) ** 2, widths)
        channels = x.shape[1]
        total = sum(squares[:, i : i + channels] for i in range(a["size"]))
        return ((x / (a["bias"] + a["alpha"] / a["size"] * total) ** a["beta"]).astype(x.dtype),)


class BatchNormalization(op_batch_normalization.BatchNormalization_9):
    """Normalisation by running statistics, of versions that have no training mode."""

    def _run(self, x: Any, scale: Any, bias: Any, mean: Any, var: Any, **attributes: Any) -> Any:
        shape = (-1, *[1] * (x.ndim - 2))
        scale, bias, mean, var = (
            each.astype(np.float64).reshape(shape) for each in (scale, bias, mean, var)
        )
        result = (x - mean) / np.sqrt(var + attributes["epsilon"]) * scale + bias
        return (result.astype(x.dtype),)


class GatherElements(op_gather_elements.GatherElements):
    """Elements at places along one axis, of which there may be more or fewer than in the data."""

    def _run(self, data: Any, indices: Any, axis: int | None = None) -> Any:
        along = (axis or 0) % data.ndim
        part = tuple(
            slice(None) if place == along else slice(length)
            for place, length in enumerate(indices.shape)
        )
        return (np.take_along_axis(data[part], indices, axis=along),)


@lru_cache(256)
def _resize_matrix(
    resize: Resize, length: int, scale: float | None, size: int | None, ways: tuple[Any, ...]
) -> NDArray[Any]:
    return resize.resize_unit_vectors(length, scale, size, dict(ways))


def _tensor(array: NDArray[Any]) -> Any:
    return torch.from_numpy(np.array(array))


def _pad(values: Any, pads: Any, axes: int, fill: float) -> Any:
    """Pad the last axes; ONNX lists where they all begin, then where they all end."""
    if not pads or not any(pads):
        return values
    pairs = [(pads[axis], pads[axes + axis]) for axis in reversed(range(axes))]
    return torch.nn.functional.pad(values, [pad for pair in pairs for pad in pair], value=fill)


def _pad_windows(
    values: Any, attributes: dict[str, Any], fill: float
) -> tuple[Any, tuple[int, ...]]:
    """Pad a tensor, or return by how much the pooling is to pad it.

    Windows over the end count where the padding ends only if the pooling itself knows of it.
    """
    axes = values.ndim - 2
    pads = attributes["pads"] or [0] * 2 * axes
    if attributes["ceil_mode"]:
        return values, tuple(pads[:axes])
    return _pad(values, pads, axes, fill), (0,) * axes


def _pools(x: NDArray[Any], attributes: dict[str, Any]) -> bool:
    axes = x.ndim - 2
    pads, sizes = attributes["pads"] or [0] * 2 * axes, 2 * attributes["kernel_shape"]
    return (
        x.dtype in _FLOATS
        and axes <= 3
        and attributes["auto_pad"] in ("NOTSET", None)
        and (not attributes["ceil_mode"] or pads[:axes] == pads[axes:])
        and all(2 * pad <= size for pad, size in zip(pads, sizes, strict=True))
    )


def list_operators(opset: int) -> list[type[OpRun]]:
    """List the operators that replace the evaluator's own in a version of the operators."""
    operators: list[type[OpRun]] = [GatherElements, LRN, Loop]
    if opset >= 9:  # before, it had an axis of batches
        operators.append(Scan)
    if 7 <= opset < 14:
        operators.append(BatchNormalization)
    if torch is not None:
        operators += [AveragePool, Conv, ConvTranspose, GridSample, MaxPool]
        if opset >= 11:  # before, it had other inputs
            operators.append(Resize)
    return operators
