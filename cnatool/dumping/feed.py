"""Feeding a model: how raw samples become its inputs, a batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from importlib import metadata
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool.backend.derived_rules import find_derived_inputs
from cnatool.backend.input_range import InputRange, infer_input_range
from cnatool.backend.inputs import ConstantInput, Samples, list_known, make_constants
from cnatool.data.preprocess.apply import (
    PreprocessOptions,
    apply_preprocessing,
    plan_preprocessing,
)
from cnatool.data.wrappers import read_first_block
from cnatool.errors import DataError, ModelError, UsageError
from cnatool.metrics.padding import LOOKED_AT, find_padding, padding_text

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.derived_inputs import DerivedInput
    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.data.preprocess.recipe import Recipe
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Block, InputSpec, Source
    from cnatool.records.image_transform import Geometry
    from cnatool.records.run import Preprocessing

PROBE_SAMPLES = 3
# Pixels from 0 to 255 exceed this somewhere in a few samples.
_LEAST_PIXEL = 8.0
# Limits of the rows in which different samples are searched.
_PROBED_ROWS = 64
_PROBED_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Feed:
    """How raw samples become the inputs of a model."""

    preprocessing: tuple[Preprocessing, ...]  # for each input that is fed from data
    constants: tuple[ConstantInput, ...]
    notes: tuple[str, ...]  # a line for each input
    ranges: tuple[InputRange | None, ...]  # values that each input is made for, where that shows
    derived: tuple[DerivedInput, ...] = ()  # inputs that are filled in by rule
    advice: Mapping[str, str] = field(default_factory=dict)  # a constant for each input, as Python

    @classmethod
    def plan(
        cls,
        network: Network,
        source: Source,
        selection: ArraySelection,
        recipe: Recipe,
        constants: Mapping[str, ArrayLike],
    ) -> Feed:
        """Plan the preprocessing of every input, and what fills those that data do not give."""
        inputs = _list_fed(network, source, selection)
        if len(inputs) != len(source.inputs):
            needs = ", ".join(map(str, inputs))
            gives = ", ".join(f"{i.name!r} {i.for_model.shape}" for i in source.inputs)
            missing = inputs[len(source.inputs) :]
            raise DataError(
                f"{network.graph.path} takes {len(inputs)} inputs ({needs}) and {source.name} has "
                f"{len(source.inputs)} ({gives}). Give a .npz or .parquet file with an array for "
                "each, or set those that are the same for every sample, as in "
                + selection.constants_text(target.name for target in missing)
            )
        names = [target.name for target in inputs]
        derived = find_derived_inputs(network.inputs, names, constants)
        _check_rules(network, source, selection, {each.name for each in derived}, names)
        batch = network.fixed_batch(names) or 1
        options = _options_by_input(inputs, source.inputs, recipe.options())
        planned = [
            _plan_input(network.graph, *parts, recipe.geometry(), batch)
            for parts in zip(inputs, source.inputs, options, strict=True)
        ]
        shapes = {step.input: step.shape for step, _, _ in planned}
        steps, notes, ranges = zip(*planned, strict=True)
        fixed = make_constants(network.inputs, constants, shapes)
        return cls(steps, fixed, notes, ranges, derived, selection.constant_advice)

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample of each input that data feed."""
        return {step.input: step.shape for step in self.preprocessing}

    @property
    def known(self) -> tuple[ConstantInput, ...]:
        """The constants, and inputs that rules fill in alike whatever the data."""
        return tuple(list_known(self.constants, self.derived))

    def batches(self, block: Block, batch: int, *, fill: bool) -> Iterator[dict[str, NDArray[Any]]]:
        """Preprocess a block in batches.

        With ``fill``, copies of the last sample make the last batch as long as the others.
        """
        for start in range(0, len(block.ids), batch):
            values = self._preprocess([raw[start : start + batch] for raw in block.for_model])
            missing = batch - len(next(iter(values.values())))
            if fill and missing > 0:
                values = {
                    name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])
                    for name, value in values.items()
                }
            yield Samples(values, self.constants, self.derived).feeds()

    def preprocess(self, block: Block) -> dict[str, NDArray[Any]]:
        """Preprocess a block as one batch, for the inputs that are fed from data."""
        return self._preprocess(block.for_model)

    def doubts(self, samples: Samples) -> Iterator[str]:
        """Describe each input whose values do not look like those it is made for."""
        for step, input_range in zip(self.preprocessing, self.ranges, strict=True):
            if np.dtype(step.dtype).kind == "f":
                line = _describe_doubt(step, input_range, samples.values[step.input])
                if line is not None:
                    yield line

    def padding(self, source: Source) -> str | None:
        """Describe padding in the first samples of a source, if they are texts.

        Raises
        ------
        DataError
            If a rule would fill the mask of such samples, which could not tell padding from tokens.
        """
        rows = [step for step in self.preprocessing if len(step.shape) == 1]
        if not any(np.dtype(step.dtype).kind in "iu" for step in rows):
            return None
        prepared = self.preprocess(read_first_block(source, LOOKED_AT))
        texts = {step.input: prepared[step.input] for step in rows}
        masks = [each.name for each in self.derived if each.rule in ("mask", "lengths")]
        padding = find_padding(texts) if masks else None
        if padding is not None:
            share, how = padding
            raise DataError(
                f"{source.name} seems to be padded, at {share:.0%} of the token positions ({how}), "
                f"and has no {masks[0]!r}, which tells a model where: give it as an array of that "
                "name, as tokenizers return it. If nothing is padding, set "
                f"`constants={{{masks[0]!r}: {self.advice.get(masks[0], '1')}}}`."
            )
        return padding_text(texts)

    def probe(self, source: Source, count: int) -> Samples:
        """Take ``count`` samples from the start of a source, all different if possible.

        Equal ones are left out, and repeated where there are too few others. Floating samples get
        some noise; whole numbers then change places within their sample.
        """
        fed = [spec.for_model for spec in source.inputs]
        size = sum(spec.dtype.itemsize * math.prod(spec.shape) for spec in fed)
        looked_at = max(count, min(_PROBED_ROWS, _PROBED_BYTES // max(1, size)))
        block = read_first_block(source, looked_at)
        seen: dict[tuple[bytes, ...], int] = {}
        for i, row in enumerate(zip(*block.for_model, strict=True)):
            seen.setdefault(tuple(np.asarray(part).tobytes() for part in row), i)
        chosen = list(seen.values())[:count]
        rows = [chosen[i % len(chosen)] for i in range(count)]
        values = self._preprocess([raw[rows] for raw in block.for_model])
        rng = np.random.default_rng(0)
        for name, value in values.items():
            filled = value.copy()
            for i in range(len(chosen), count):
                filled[i] = rng.permutation(filled[i].reshape(-1)).reshape(filled[i].shape)
            if filled.dtype.kind == "f":
                noise = np.asarray(rng.normal(0, _noise(value), filled.shape))
                filled = filled + noise.astype(filled.dtype)
            values[name] = filled
        return Samples(values, self.constants, self.derived)

    def _preprocess(self, raw: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {
            step.input: apply_preprocessing(values, step)
            for values, step in zip(raw, self.preprocessing, strict=True)
        }


def _list_fed(network: Network, source: Source, selection: ArraySelection) -> list[ModelInput]:
    """List the inputs that a source gives: those that no rule fills in, and others by name."""
    fed = [target for target in network.inputs if target.name in selection.inputs]
    required = [target for target in fed if target.name not in selection.optional]
    if len(required) == len(source.inputs):
        return required
    names = {spec.name for spec in source.inputs}
    return [target for target in fed if target in required or target.name in names]


def _check_rules(
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
        raise DataError(
            f"{source.name} gives {', '.join(given)}, and {network.graph.path} takes "
            f"{' and '.join(map(str, unfilled))} as well, which follow{'s' * one} from no rule "
            f"beside {'that' if len(given) == 1 else 'these'}. Give an array for "
            f"{'it' if one else 'each'}, or set "
            + selection.constants_text(target.name for target in unfilled)
        )


def probe_count(bound: int | None) -> int:
    """Return how many samples a probe takes of a model, which may be bound to a batch size."""
    return PROBE_SAMPLES if bound in (None, 1) else bound


def _plan_input(
    graph: Graph,
    target: ModelInput,
    raw: InputSpec,
    options: PreprocessOptions,
    geometry: Geometry | None,
    batch: int,
) -> tuple[Preprocessing, str, InputRange | None]:
    fed = raw.for_model
    if fed is not raw and options.layout is not None:
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
    if fed is raw or geometry is None:
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


def _describe_doubt(
    step: Preprocessing, input_range: InputRange | None, values: NDArray[Any]
) -> str | None:
    """Compare the values that an input receives with those it is made for."""
    low, high = float(values.min()), float(values.max())
    prepared = step.scale != 1.0 or bool(step.mean) or bool(step.std)
    text = f"input {step.input!r} receives values from {low:.3g} to {high:.3g}, "
    if input_range is not None and input_range.expects == "pixels":
        # Images with few levels, or dark ones, are no sign of a mistake.
        if high > _LEAST_PIXEL or (step.source_dtype == "uint8" and not prepared):
            return None
        way = "leave `mean` and `std` out and pass `scale=1`" if prepared else "pass `scale=255`"
        return f"{text}and the model {input_range}: if it was trained on such, {way}"
    if prepared:
        return None
    unit = input_range is not None and input_range.expects == "unit"
    # Tables of numbers may be large; images have at least two axes.
    images = max(len(step.shape), len(step.source_shape)) > 1
    rounded = values.round()
    if rounded.min() >= 0 and 128 <= rounded.max() <= 256 and (images or unit):
        then = "" if input_range is None or not unit else f", and the model {input_range.text}"
        return (
            f"input {step.input!r} receives values up to {rounded.max():g} as they are{then}; if "
            "the model was trained on values from 0 to 1, pass `scale=1/255`"
        )
    return None


def _noise(values: NDArray[Any]) -> float:
    """Choose the noise that tells samples apart and hardly changes them.

    Sums are compared with those of the noisy samples. Noise larger than small samples would hide
    that digits are lost where a network subtracts their mean.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size or not finite.any():
        return 0.1
    # A smaller noise would be lost to rounding where values are nearly equal.
    largest = float(np.abs(finite).max())
    # Scaled first, so that the squares of large values stay finite.
    spread = float((finite / largest).std()) * largest if largest else 0.0
    return 0.1 * min(1.0, max(spread, 1e-3 * largest))


def _options_by_input(
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
