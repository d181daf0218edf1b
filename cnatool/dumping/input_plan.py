"""How each input of a model is fed: which inputs data give, and how their values are prepared."""

from __future__ import annotations

import math
from dataclasses import replace
from importlib import metadata
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool.backend.input_range import infer_input_range
from cnatool.data.preprocess.apply import PreprocessOptions, plan_preprocessing
from cnatool.data.preprocess.lengths import record_length
from cnatool.data.preprocess.sound import record_sound
from cnatool.errors import DataError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.input_range import InputRange
    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.data.preprocess.lengths import LengthPlan
    from cnatool.data.preprocess.recipe import Recipe
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import InputSpec, Source
    from cnatool.records.run import Preprocessing


def list_fed(network: Network, source: Source, selection: ArraySelection) -> list[ModelInput]:
    """List the inputs that a source gives: those that no rule fills in, and others by name."""
    specs = [spec for spec in source.inputs if spec.fed]
    fed = [target for target in network.inputs if target.name in selection.inputs]
    required = [target for target in fed if target.name not in selection.optional]
    if len(required) == len(specs):
        return required
    names = {spec.name for spec in specs}
    return [target for target in fed if target in required or target.name in names]


def check_rules(
    network: Network,
    source: Source,
    selection: ArraySelection,
    derived: Collection[str],
    fed: Collection[str],
) -> None:
    """Refuse data that give an input on which the rule of another one depends."""
    unfilled = [
        target
        for target in network.inputs
        if target.name in selection.optional and target.name not in (*derived, *fed)
    ]
    if unfilled:
        given = [name for name in fed if name in selection.optional]
        one = len(unfilled) == 1
        hints = [selection.hints[t.name] for t in unfilled if t.name in selection.hints]
        raise DataError(
            f"{source.name} gives {', '.join(given)}, and {network.graph.path} takes "
            f"{' and '.join(map(str, unfilled))} as well, which follow{'s' * one} from no rule "
            f"beside {'that' if len(given) == 1 else 'these'}. Give an array for "
            f"{'it' if one else 'each'}, or set "
            + " ".join((f"{selection.constants_text(t.name for t in unfilled)}.", *hints))
        )


def assign_options(
    inputs: Sequence[ModelInput], raw: Sequence[InputSpec], options: PreprocessOptions
) -> list[PreprocessOptions]:
    """Assign the options to inputs: of several, to the floating one, or to the image."""
    if len(inputs) == 1 or options == PreprocessOptions():
        return [options] * len(inputs)
    floating = [target.name for target in inputs if target.dtype.kind == "f"]
    images = [
        target.name
        for target, samples in zip(inputs, raw, strict=True)
        if target.name in floating and max(len(target.shape), len(samples.for_model.shape)) > 2
    ]
    meant = floating if len(floating) == 1 else images
    only_layout = options == PreprocessOptions(layout=options.layout)
    if not meant or (len(meant) > 1 and not only_layout):
        raise UsageError(
            "`scale`, `mean`, `std` and `layout` apply to the only floating input of a model, or "
            f"to its only image, and this one has {len(floating)} floating inputs, {len(images)} "
            "of them images: preprocess the data beforehand."
        )
    return [options if target.name in meant else PreprocessOptions() for target in inputs]


def plan_input(
    graph: Graph,
    target: ModelInput,
    raw: InputSpec,
    options: PreprocessOptions,
    length: LengthPlan | None,
    recipe: Recipe,
    batch: int,
) -> tuple[Preprocessing, str, InputRange | None]:
    """Plan the preprocessing of an input; return also a line about it, and the values it expects.

    ModelError if it takes one sample and no more, DataError or UsageError if the data do not fit.
    """
    fed = raw.for_model if length is None else length.with_length(raw.for_model)
    transformed = raw.transformed is not None
    if transformed and options.layout is not None:
        # The layout of the stored arrays; images are height, width, channels by now.
        options = replace(options, layout=options.layout.rpartition("->")[2])
    # Every axis is free in a model that declares no shape.
    model_input = (
        replace(target, dims=(None,) * (1 + len(fed.shape))) if target.dims is None else target
    )
    try:
        step, text = plan_preprocessing(fed, model_input, options)
    except (DataError, UsageError) as error:
        if _is_one_sample(target, fed.shape):
            raise ModelError(
                f"{graph.path}: input {target} takes one sample, {fed.shape} in the data, and has "
                "no axis for several. Export the model with a batch axis in front, of length 1 or "
                "free."
            ) from error
        raise
    input_range = None
    if target.dtype.kind == "f":
        input_range = infer_input_range(graph, target.name, step.shape, batch)
    by_default = fed.dtype == np.uint8 and options.scale is None
    if input_range is not None and by_default and not options.mean and not options.std:
        if input_range.expects == "pixels":
            step, text = plan_preprocessing(fed, model_input, replace(options, scale=1.0))
            text += f"; not divided by 255, since the model {input_range.text} (`scale=1/255` does)"
        elif input_range.expects is None:
            text += (
                f". Whether that is right is in doubt, since the model {input_range.text}: "
                "`scale=1` feeds the values as they are, `scale=1/255` confirms the division"
            )
    if length is not None:
        step = record_length(step, length)
        text += (
            "; each sample in its own length"
            if length.fixed is None
            else f"; shorter samples are continued with {length.padding:g} to {length.fixed}"
        )
    if raw.sound is not None:
        step, how = record_sound(step, raw.sound, recipe.sound().transform)
        return step, f"{how}; then {text}", input_range
    geometry = recipe.geometry()
    if not transformed or geometry is None:
        return step, text, input_range
    recorded = msgspec.structs.replace(
        step, geometry=geometry, resized_by=f"Pillow {metadata.version('pillow')}"
    )
    return recorded, f"{geometry}; then {text}", input_range


def _is_one_sample(target: ModelInput, shape: tuple[int, ...]) -> bool:
    """Whether an input takes the numbers of one sample, with no axis for several."""
    dims = target.dims or ()
    sizes = [size for size in dims if isinstance(size, int)]
    return bool(dims) and len(sizes) == len(dims) and math.prod(sizes) == math.prod(shape)
