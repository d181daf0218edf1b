"""Where a dump's samples come from, and how they become what the model takes."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from importlib import metadata
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool._util.text import printable
from cnatool.backend.input_range import InputRange, infer_input_range
from cnatool.backend.inputs import ConstantInput, Samples, constant_advice, make_constants
from cnatool.data.preprocess.apply import (
    PreprocessOptions,
    apply_preprocessing,
    plan_preprocessing,
)
from cnatool.data.source import ArraySelection
from cnatool.data.splits import ReaderOptions, open_splits
from cnatool.data.wrappers import read_first_block
from cnatool.errors import DataError, ModelError, UsageError
from cnatool.metrics.padding import LOOKED_AT, padding_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.data.source import Block, InputSpec, Source
    from cnatool.records.image_transform import Geometry
    from cnatool.records.run import Preprocessing

PROBE_SAMPLES = 3
# What the largest of a few samples' values exceeds, where they are pixels from 0 to 255.
_LEAST_PIXEL = 8.0
# So many rows are looked at for samples that differ.
_PROBED_ROWS = 64
# ... or, of large ones, as many as take this much.
_PROBED_BYTES = 1 << 28


def wanted_arrays(
    network: Network, arrays: Mapping[str, str], constants: Iterable[str]
) -> ArraySelection:
    """Say which arrays of the data become which inputs of a model.

    Parameters
    ----------
    network : Network
    arrays : mapping of str to str
        Names of arrays by input, where they differ.
    constants : iterable of str
        Inputs that data do not feed.

    Raises
    ------
    UsageError
        If the model has no such input, or nothing is left for data to feed.
    """
    names = [feed.name for feed in network.inputs]
    constants = set(constants)
    for option, given in (("--input", arrays), ("--constant", constants)):
        for name in given:
            if name not in names:
                raise UsageError(
                    f"{option} {name}: {network.graph.path} has no such input. It takes "
                    f"{', '.join(map(str, network.inputs))}."
                )
    both = sorted(constants.intersection(arrays))
    if both:
        raise UsageError(f"--constant {both[0]}: --input names it too.")
    fed = tuple(name for name in names if name not in constants)
    if not fed:
        raise UsageError("every input is a --constant, so there is nothing to run the model over.")
    texts = {
        feed.name: tuple(1 if size is None else size for size in feed.shape)
        for feed in network.inputs
        if feed.name in fed and feed.dtype == object
    }
    numbers = [name for name in fed if name not in texts]
    if texts and numbers:
        raise ModelError(
            f"{network.graph.path} takes texts ({', '.join(texts)}) beside numbers "
            f"({', '.join(numbers)}), which cannot be fed together. Give one kind with --constant, "
            "or export the part of the model behind its encoding of texts."
        )
    for name, shape in texts.items():
        if math.prod(shape) != 1:
            raise ModelError(
                f"{network.graph.path}: input {name!r} takes {shape} texts a sample, and one can "
                "be fed. Export the part of the model behind its encoding of texts."
            )
    return ArraySelection(
        fed,
        dict(arrays),
        constant_advice=constant_advice(network.inputs),
        text_shapes=texts,
    )


@dataclass(frozen=True, slots=True)
class Feed:
    """How raw samples become what the model's inputs take.

    Attributes
    ----------
    preprocessing : tuple of Preprocessing
        One for each input that data feed.
    constants : tuple of ConstantInput
        The others.
    batch : int or None
        The number of samples that the model is bound to.
    notes : tuple of str
        A line for the user for each input.
    ranges : tuple of (InputRange or None)
        For each input that data feed, the values that it is made for, where the model tells.
    """

    preprocessing: tuple[Preprocessing, ...]
    constants: tuple[ConstantInput, ...]
    batch: int | None
    notes: tuple[str, ...]
    ranges: tuple[InputRange | None, ...] = ()

    @classmethod
    def planned(
        cls,
        network: Network,
        source: Source,
        wanted: ArraySelection,
        options: PreprocessOptions,
        geometry: Geometry | None,
        constants: Mapping[str, ArrayLike],
    ) -> Feed:
        """Decide how samples are fed.

        ``geometry`` is what the source applies to pictures.

        Raises
        ------
        DataError, ModelError, UsageError
            If model and data do not fit.
        """
        specs = [feed for feed in network.inputs if feed.name in wanted.inputs]
        if len(specs) != len(source.inputs):
            needs = ", ".join(map(str, specs))
            gives = ", ".join(f"{i.name!r} {i.for_model.shape}" for i in source.inputs)
            raise DataError(
                f"{network.graph.path} takes {len(specs)} inputs ({needs}) and {source.name} gives "
                f"{len(source.inputs)} ({gives}). Give a .npz or .parquet file with an array for "
                "each, or say what those that are the same for every sample receive, as in "
                + " ".join(wanted.constant_advice[s.name] for s in specs[len(source.inputs) :])
            )
        batch = network.fixed_batch(wanted.inputs)
        planned = [
            _planned(network.graph, spec, given, chosen, geometry, batch or 1)
            for spec, given, chosen in zip(
                specs, source.inputs, _options_of(specs, source.inputs, options), strict=True
            )
        ]
        return cls(
            tuple(made for made, _, _ in planned),
            make_constants(
                network.inputs, constants, {made.input: made.shape for made, _, _ in planned}
            ),
            batch,
            tuple(note for _, note, _ in planned),
            tuple(takes for _, _, takes in planned),
        )

    @property
    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Shape of one sample of each input that data feed."""
        return {made.input: made.shape for made in self.preprocessing}

    def batches(self, block: Block, batch: int) -> Iterator[dict[str, NDArray[Any]]]:
        """Preprocess a block, a batch of samples at a time.

        The last batch is padded where the model is bound to a number of samples.
        """
        for start in range(0, len(block.ids), batch):
            values = self._preprocessed([raw[start : start + batch] for raw in block.for_model])
            missing = (self.batch or 0) - len(next(iter(values.values())))
            if missing > 0:
                values = {
                    name: np.concatenate([value, np.repeat(value[-1:], missing, axis=0)])
                    for name, value in values.items()
                }
            samples = len(next(iter(values.values())))
            yield values | {one.name: one.array(samples) for one in self.constants}

    def prepared(self, block: Block) -> dict[str, NDArray[Any]]:
        """Preprocess a block as one batch, not padded, for the inputs that data feed."""
        return self._preprocessed(block.for_model)

    def doubts(self, samples: Samples) -> Iterator[str]:
        """Give a line for each input whose values do not look like those it is made for."""
        for given, takes in zip(self.preprocessing, self.ranges, strict=True):
            if np.dtype(given.dtype).kind == "f":
                line = _doubt(given, takes, samples.values[given.input])
                if line is not None:
                    yield line

    def padding(self, source: Source) -> str | None:
        """Say so where the first samples of a source are texts with padding."""
        rows = [made for made in self.preprocessing if len(made.shape) == 1]
        if not any(np.dtype(made.dtype).kind in "iu" for made in rows):
            return None
        prepared = self.prepared(read_first_block(source, LOOKED_AT))
        return padding_text({made.input: prepared[made.input] for made in rows})

    def probe(self, source: Source, count: int | None = None) -> Samples:
        """Give samples from the start of a source, no two of them the same if that can be.

        Equal ones are left out, and repeated where there are too few others. Floating samples get
        some noise; whole numbers then change places within their sample.

        Parameters
        ----------
        source : Source
        count : int, optional
            How many; by default as many as the model is bound to, or three where it takes any
            number or one.
        """
        count = count or (PROBE_SAMPLES if self.batch in (None, 1) else self.batch)
        fed = [spec.for_model for spec in source.inputs]
        size = sum(spec.dtype.itemsize * math.prod(spec.shape) for spec in fed)
        looked_at = max(count, min(_PROBED_ROWS, _PROBED_BYTES // max(1, size)))
        block = read_first_block(source, looked_at)
        rows = zip(*block.for_model, strict=True)
        seen: dict[tuple[bytes, ...], int] = {}
        for i, row in enumerate(rows):
            seen.setdefault(tuple(np.asarray(part).tobytes() for part in row), i)
        chosen = list(seen.values())[:count]
        taken = [chosen[i % len(chosen)] for i in range(count)]
        values = self._preprocessed([raw[taken] for raw in block.for_model])
        rng = np.random.default_rng(0)
        for name, value in values.items():
            filled = value.copy()
            for i in range(len(chosen), count):
                filled[i] = rng.permutation(filled[i].reshape(-1)).reshape(filled[i].shape)
            if filled.dtype.kind == "f":
                noise = np.asarray(rng.normal(0, _noise(value), filled.shape))
                filled = filled + noise.astype(filled.dtype)
            values[name] = filled
        return Samples(values, self.constants)

    def _preprocessed(self, raw: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
        return {
            made.input: apply_preprocessing(values, made)
            for values, made in zip(raw, self.preprocessing, strict=True)
        }


def _planned(
    graph: Graph,
    target: ModelInput,
    given: InputSpec,
    options: PreprocessOptions,
    geometry: Geometry | None,
    batch: int,
) -> tuple[Preprocessing, str, InputRange | None]:
    fed = given.for_model
    if fed is not given and options.layout is not None:
        # How the arrays held the pictures; these are height, width, channels by now.
        options = replace(options, layout=options.layout.rpartition("->")[2])
    # Of a model that declares no shape every axis is free.
    model_input = (
        replace(target, dims=(None,) * (1 + len(fed.shape))) if target.dims is None else target
    )
    try:
        made, text = plan_preprocessing(fed, model_input, options)
    except (DataError, UsageError) as error:
        if _is_one_sample(target, fed.shape):
            raise ModelError(
                f"{graph.path}: input {target} takes one sample, {fed.shape} in the data, and has "
                "no axis for several. Export the model with a batch axis in front, of length 1 or "
                "free."
            ) from error
        raise
    takes = None
    if target.dtype.kind == "f":
        takes = infer_input_range(graph, target.name, made.shape, batch)
    by_default = fed.dtype == np.uint8 and options.scale is None
    if takes is not None and by_default and not options.mean and not options.std:
        if takes.takes == "pixels":
            made, text = plan_preprocessing(fed, model_input, replace(options, scale=1.0))
            text += f"; not divided by 255, since the model {takes.text} (--scale 1/255 does)"
        elif takes.takes is None:
            text += (
                f". Whether that is right is in doubt, since the model {takes.text}: --scale 1 "
                "feeds the values as they are, --scale 1/255 confirms the division"
            )
    if fed is given or geometry is None:
        return made, text, takes
    recorded = msgspec.structs.replace(
        made, geometry=geometry, resized_by=f"Pillow {metadata.version('pillow')}"
    )
    return recorded, f"{geometry}; then {text}", takes


def _is_one_sample(target: ModelInput, shape: tuple[int, ...]) -> bool:
    """Say whether an input takes as many numbers as one sample has, with no axis for several."""
    dims = target.dims or ()
    sizes = [size for size in dims if isinstance(size, int)]
    return bool(dims) and len(sizes) == len(dims) and math.prod(sizes) == math.prod(shape)


def _doubt(given: Preprocessing, takes: InputRange | None, values: NDArray[Any]) -> str | None:
    """Compare the values that an input receives with those it is made for."""
    low, high = float(values.min()), float(values.max())
    prepared = given.scale != 1.0 or bool(given.mean) or bool(given.std)
    said = f"input {given.input!r} receives values from {low:.3g} to {high:.3g}, "
    if takes is not None and takes.takes == "pixels":
        # Few levels, or dark pictures, are what they are.
        if high > _LEAST_PIXEL or (given.source_dtype == "uint8" and not prepared):
            return None
        way = "leave --mean and --std out and pass --scale 1" if prepared else "pass --scale 255"
        return f"{said}and the model {takes}: if it was trained on such, {way}"
    if prepared:
        return None
    unit = takes is not None and takes.takes == "unit"
    # Tables of numbers may be large; pictures have at least two axes.
    pictures = max(len(given.shape), len(given.source_shape)) > 1
    rounded = values.round()
    if rounded.min() >= 0 and 128 <= rounded.max() <= 256 and (pictures or unit):
        then = "" if takes is None or not unit else f", and the model {takes.text}"
        return (
            f"input {given.input!r} receives values up to {rounded.max():g} as they are{then}; if "
            "the model was trained on values from 0 to 1, pass --scale 1/255"
        )
    return None


def _noise(values: NDArray[Any]) -> float:
    """Say how much noise tells samples apart and leaves them what they are.

    Sums are compared with those of the noisy samples. Noise larger than small samples would hide
    that digits are lost where a network takes a mean off them.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size or not finite.any():
        return 0.1
    # Of values that are nearly the same less would be lost to rounding.
    largest = float(np.abs(finite).max())
    # Of scaled values, so that the squares of large ones stay finite.
    spread = float((finite / largest).std()) * largest if largest else 0.0
    return 0.1 * min(1.0, max(spread, 1e-3 * largest))


def _options_of(
    specs: Sequence[ModelInput], given: Sequence[InputSpec], options: PreprocessOptions
) -> list[PreprocessOptions]:
    """Give each input its options: of several inputs, the floating one has them, or the picture."""
    if len(specs) == 1 or options == PreprocessOptions():
        return [options] * len(specs)
    floating = [spec.name for spec in specs if spec.dtype.kind == "f"]
    pictures = [
        spec.name
        for spec, samples in zip(specs, given, strict=True)
        if spec.name in floating and max(len(spec.shape), len(samples.for_model.shape)) > 2
    ]
    meant = floating if len(floating) == 1 else pictures
    only_layout = options == PreprocessOptions(layout=options.layout)
    if not meant or (len(meant) > 1 and not only_layout):
        raise UsageError(
            "--scale, --mean, --std and --layout are for a model's one floating input, or its one "
            f"picture, and this one has {len(floating)} floating inputs, {len(pictures)} of them "
            "pictures: prepare the data beforehand."
        )
    return [options if spec.name in meant else PreprocessOptions() for spec in specs]


def opened_sources(
    data: str | Path | None,
    splits: Mapping[str, str | Path],
    wanted: ArraySelection,
    reading: ReaderOptions,
    note: Callable[[str], None],
) -> dict[str, Source]:
    """Open the samples of each split."""
    sources = open_splits(data, splits, wanted, reading, note)
    (first, reference), *others = sources.items()
    for name, source in others:
        if _forms(source) != _forms(reference):
            raise DataError(
                f"splits {first!r} and {name!r} hold different samples: "
                f"{_inputs_text(reference)} and {_inputs_text(source)}. "
                "One store holds samples of one shape and type."
            )
    labelled = {name: source for name, source in sources.items() if source.labelled}
    for first, name in pairwise(labelled):
        mine, theirs = labelled[first].classes, labelled[name].classes
        if mine != theirs:
            raise DataError(
                f"splits {first!r} and {name!r} have different classes, so one label would mean "
                f"two things: {_difference(mine, theirs)}. Give both the same classes, or each "
                "a store of its own."
            )
    return sources


def _forms(source: Source) -> list[tuple[object, ...]]:
    return [(i.shape, i.dtype, i.for_model.shape, i.for_model.dtype) for i in source.inputs]


def _difference(first: tuple[str, ...] | None, second: tuple[str, ...] | None) -> str:
    names = sorted(set(first or ()) ^ set(second or ()))
    return f"only one of them has {', '.join(map(printable, names[:5]))}"


def _inputs_text(source: Source) -> str:
    return ", ".join(f"{i.for_model.shape} {i.for_model.dtype}" for i in source.inputs)
