"""Preprocessing of raw samples: planned once, recorded, and applied to every batch.

The arithmetic is that of the usual training code, in single precision: 8-bit values are divided by
255 (not multiplied by the nearest float to 1/255, which differs in the last bit), then the mean is
subtracted, then the result is divided by the standard deviation.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.data.preprocess.layout import (
    Arrangement,
    Layout,
    list_arrangements,
    parse_layout,
    split_axes,
)
from cnatool.errors import DataError, UsageError
from cnatool.records.run import Preprocessing

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from cnatool.backend.inputs import ModelInput
    from cnatool.data.source import InputSpec


@dataclass(frozen=True, slots=True)
class PreprocessOptions:
    """The options for preprocessing.

    ``scale`` is a factor; ``mean`` and ``std`` are empty, one value, or one value per channel, in
    units of the scaled values.
    """

    scale: float | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    layout: str | None = None


def plan_preprocessing(
    spec: InputSpec, target: ModelInput, options: PreprocessOptions
) -> tuple[Preprocessing, str]:
    """Plan how samples become the model's input.

    What the options leave open is chosen here if it is unambiguous. Otherwise a DataError names the
    values of the layout to choose from. A UsageError is raised for options that do not fit.

    Returns
    -------
    Preprocessing
        All that `apply_preprocessing` needs, as the store records it.
    str
        A line that describes it to the user.
    """
    scale = _plan_scale(spec, target, options)
    group = _arrange(spec, target, options)
    layout = _name_layout(spec, target, options, group)
    shape = group[0].shape
    plan = Preprocessing(
        input=target.name,
        source_dtype=spec.dtype.name,
        source_shape=spec.shape,
        layout=layout,
        shape=shape,
        dtype=target.dtype.name,
        scale=scale,
        mean=options.mean,
        std=options.std,
    )
    steps = []
    if spec.shape != shape or group[0].moves:
        steps.append(_describe_layout(spec.shape, shape, layout))
    if scale == 1 / 255:
        steps.append("divided by 255")
    elif scale != 1.0:
        steps.append(f"times {scale:g}")
    elif spec.dtype != target.dtype:
        steps.append(f"cast to {target.dtype.name}")
    steps += [
        f"{word} {' '.join(f'{value:g}' for value in values)}"
        for word, values in (("minus", options.mean), ("over", options.std))
        if values
    ]
    length = None if spec.ragged_axis is None else spec.shape[spec.ragged_axis]
    sizes: list[int | None] = [*shape]
    if length in sizes and len(target.shape) == len(shape):
        axis = sizes.index(length)
        sizes[axis] = target.shape[axis]
    planned = replace(target, dims=(None, *sizes))
    return plan, f"{_describe(spec, planned)}: {', '.join(steps) or 'as it is'}"


def apply_preprocessing(block: NDArray[Any], plan: Preprocessing) -> NDArray[Any]:
    """Preprocess a block of raw samples.

    Computes ``(x * scale - mean) / std`` in float32 (float64 for a float64 input). A scale that is
    1/k for a whole k, such as 1/255, divides by k. A DataError is raised if a value does not fit
    the model's dtype.

    Parameters
    ----------
    block : ndarray
        Shape (n, *plan.source_shape), of ``plan.source_dtype``.
    plan : Preprocessing

    Returns
    -------
    ndarray
        C-contiguous (n, *plan.shape) of ``plan.dtype``; it shares memory with ``block`` if nothing
        is to be done.
    """
    dtype = np.dtype(plan.dtype)
    count = len(block)
    if block.shape[1:] != plan.source_shape or block.dtype.name != plan.source_dtype:
        raise DataError(
            f"samples of shape {block.shape[1:]} and dtype {block.dtype.name} do not match "
            f"{plan.source_shape} and {plan.source_dtype}, as planned for input '{plan.input}'."
        )
    channels = max(len(plan.mean), len(plan.std))
    cut = plan.shape
    if "->" in plan.layout:
        source, cut = split_axes(
            plan.source_shape,
            plan.layout,
            plan.shape,
            channels or 1,
        )
        block = block.reshape(count, *source)
        start, end = plan.layout.split("->")
        if start[-3:] != end[-3:]:
            block = block.transpose((0, 3, 1, 2) if end.endswith("chw") else (0, 2, 3, 1))
    else:
        block = block.reshape(count, *cut)
    if plan.scale == 1.0 and not channels and block.dtype == dtype:
        return np.ascontiguousarray(block).reshape(count, *plan.shape)
    if dtype.kind == "f":
        channels_first = _channels_first(plan.layout)
        out = _to_float(block, plan, dtype, channels_first=channels_first)
    else:
        out = _to_integer(block, plan, dtype)
    return out.reshape(count, *plan.shape)


def _to_float(
    block: NDArray[Any],
    plan: Preprocessing,
    dtype: np.dtype[Any],
    *,
    channels_first: bool,
) -> NDArray[Any]:
    # Half precision is computed in single and rounded once.
    work = np.dtype(np.float64 if dtype == np.float64 else np.float32)
    out: NDArray[Any] = np.empty(block.shape, work)
    number = work.type
    divisor = round(1 / plan.scale) if abs(plan.scale) < 1 else 0
    try:
        with np.errstate(over="raise"):
            # One pass that casts and scales, straight into the result: this competes with the
            # model's own time.
            if plan.scale == 1.0:
                np.copyto(out, block, casting="same_kind")
            elif divisor and 1 / divisor == plan.scale:
                np.divide(block, number(divisor), out=out, dtype=work, casting="same_kind")
            else:
                np.multiply(
                    block,
                    number(plan.scale),
                    out=out,
                    dtype=work,
                    casting="same_kind",
                )
            if plan.mean:
                out -= _broadcast(plan.mean, work, channels_first=channels_first)
            if plan.std:
                out /= _broadcast(plan.std, work, channels_first=channels_first)
            return out.astype(dtype, copy=False)
    except FloatingPointError as error:
        raise DataError(
            f"a value does not fit input '{plan.input}', which takes {plan.dtype}: scale the data "
            "with `scale`."
        ) from error


def _broadcast(
    values: tuple[float, ...], dtype: np.dtype[Any], *, channels_first: bool
) -> NDArray[Any]:
    array = np.array(values, dtype)
    return array.reshape(-1, 1, 1) if channels_first and len(values) > 1 else array


def _to_integer(block: NDArray[Any], plan: Preprocessing, dtype: np.dtype[Any]) -> NDArray[Any]:
    if not np.can_cast(block.dtype, dtype, "safe") and block.size:
        low, high = int(block.min()), int(block.max())
        limits = np.iinfo(dtype)
        if low < limits.min or high > limits.max:
            raise DataError(
                f"values from {low} to {high} do not fit input '{plan.input}', which takes "
                f"{plan.dtype}: store the data in that range."
            )
    return np.ascontiguousarray(block).astype(dtype)


def _channels_first(layout: str) -> bool:
    return "->" in layout and layout.endswith("chw")


def _plan_scale(spec: InputSpec, target: ModelInput, options: PreprocessOptions) -> float:
    source, dtype = spec.dtype, target.dtype
    if source.hasobject and dtype.hasobject:
        return 1.0  # texts are passed on unchanged
    if dtype.kind not in "biuf":
        raise DataError(
            f"{_describe(spec, target)}: an input of {dtype} cannot be read from arrays of "
            "numbers. Export the model with a float input."
        )
    if dtype.kind != "f":
        if source.kind == "f" or (dtype.kind == "b" and source.kind != "b"):
            raise DataError(
                f"{_describe(spec, target)}: {source.name} would be truncated to {dtype.name}. "
                f"Store the data as {dtype.name}."
            )
        # A preprocessing file may state explicitly that nothing is done.
        if options.scale not in (None, 1.0) or options.mean or options.std:
            raise UsageError(
                f"input '{target.name}' takes {dtype.name}, and `scale`, `mean` and `std` are for "
                "float inputs: leave them out."
            )
        return 1.0
    for option, values in (
        ("`scale`", () if options.scale is None else (options.scale,)),
        ("`mean`", options.mean),
        ("`std`", options.std),
    ):
        # Beyond these limits float32 is 0 or infinity. NaN fails every comparison.
        least = 0.0 if option == "`mean`" else 1e-30
        if not all(least <= abs(value) <= 1e30 for value in values):
            raise UsageError(
                f"{option} {' '.join(f'{value:g}' for value in values)}: give finite numbers"
                f"{' other than 0' if least else ''}."
            )
    if options.scale is not None:
        return options.scale
    return 1 / 255 if source == np.uint8 else 1.0


def _arrange(spec: InputSpec, target: ModelInput, options: PreprocessOptions) -> list[Arrangement]:
    asked = Layout() if options.layout is None else parse_layout(options.layout)
    groups = list_arrangements(spec.shape, spec.layout, target.shape, asked)
    if len(groups) == 1:
        return groups[0]
    shapes = f"a sample of {spec.name} is {spec.shape} and input '{target.name}' takes "
    shapes += _shape(target.shape)
    if not groups and options.layout is not None:
        raise UsageError(f"`layout={options.layout}` does not convert one to the other: {shapes}.")
    if not groups:
        raise DataError(f"{shapes}: no layout converts one to the other. {_advise(spec, target)}")
    names = [next((way.name for way in group if way.name), "") for group in groups]
    ways = [f"`layout={name}`" for name in names if name]
    if len(set(ways)) < 2:
        raise DataError(
            f"{shapes}: the order of its axes is ambiguous. Export the model with fixed sizes, or "
            "reshape the samples to the model's shape."
        )
    raise DataError(
        f"{shapes}: the order of its elements is ambiguous. Choose {' or '.join(ways)}."
    )


def _advise(spec: InputSpec, target: ModelInput) -> str:
    """Suggest options that would make images fit the model's input."""
    raw_size, target_size = _image_size(spec.shape, spec.layout), _image_size(target.shape, None)
    if raw_size is None or target_size is None:
        return "Check that the model was trained on such data."
    (*size, channels), (height, width, target_channels) = raw_size, target_size
    ways = []
    if size != [height, width]:
        # Most networks for images are evaluated on 224 of 256 pixels.
        side = int(min(height, width) / 0.875)
        ways.append(
            f"`resize=({height}, {width})` squeezes each image into that size, and `resize={side}` "
            f"with `crop=({height}, {width})` keeps its proportions and takes the middle; choose "
            "the one used in training"
        )
    if channels != target_channels:
        ways.append(f"`colour={'rgb' if target_channels == 3 else 'grey'}` makes the channels fit")
    return f"{'; '.join(ways)}."


def _image_size(shape: tuple[int | None, ...], layout: str | None) -> tuple[int, int, int] | None:
    """Interpret a shape as height, width and channels of an image; None if it is none."""
    if len(shape) == 2 and None not in shape:
        shape = (*shape, 1)
    if len(shape) != 3 or None in shape:
        return None
    first, second, last = (dim or 0 for dim in shape)
    if last in (1, 3) or layout == "hwc":
        return first, second, last
    return (second, last, first) if first in (1, 3) else None


def _name_layout(
    spec: InputSpec, target: ModelInput, options: PreprocessOptions, group: list[Arrangement]
) -> str:
    """Return the layout as recorded, with its channel axis if mean or std need one."""
    counts = {len(values) for values in (options.mean, options.std) if len(values) > 1}
    first = group[0]
    plain = "as is" if first.shape == spec.shape else "reshape"
    named = [way for way in group if way.source and way.target]
    if not counts:
        if first.moves:
            return first.name
        chosen = options.layout is not None and named and (named[0].channels or 1) > 1
        return named[0].name if chosen else plain
    values = f"`mean` has {len(options.mean)} and `std` {len(options.std)} values"
    if len(counts) > 1:
        raise UsageError(f"{values}: give one value, or one for each channel.")
    [count] = counts
    # From flat to flat, the number of channels is that of the values of mean or std.
    fitting = [
        way
        for way in named
        if way.channels == count or (way.channels is None and first.shape[-1] % count == 0)
    ]
    if options.layout is None:
        fitting = [way for way in fitting if way.channels is not None]
    if len({way.target[-3:] for way in fitting}) == 1:
        return fitting[0].name
    if not fitting and len(first.shape) == 1 and first.shape[0] == count and not first.moves:
        return plain
    channels = sorted({way.channels for way in group if way.channels is not None})
    if fitting or not channels:
        names = [way.name for way in fitting or named] or ["chw->chw", "hwc->hwc"]
        ways = " or ".join(f"`layout={name}`" for name in names)
        raise UsageError(
            f"{values}, and which axis of {first.shape}, the shape that input '{target.name}' "
            f"takes, are the channels is ambiguous: choose {ways}."
        )
    raise UsageError(
        f"{values}, and a sample of {spec.name} has {' or '.join(map(str, channels))} channels: "
        "give one value, or one for each channel."
    )


def _describe_layout(source: tuple[int, ...], shape: tuple[int, ...], layout: str) -> str:
    if "->" in layout and layout.split("->")[0][-3:] != layout[-3:]:
        return f"arranged {layout}"
    return "flattened" if len(source) > len(shape) == 1 else "reshaped"


def _describe(spec: InputSpec, target: ModelInput) -> str:
    return (
        f"{spec.name} {spec.form_text} {spec.dtype.name} -> input '{target.name}' "
        f"{_shape(target.shape)} {target.dtype.name}"
    )


def _shape(shape: tuple[int | None, ...]) -> str:
    dims = ["?" if dim is None else str(dim) for dim in shape]
    return f"({dims[0]},)" if len(dims) == 1 else f"({', '.join(dims)})"
