"""A look into a model without data: its tensors, found by running it on random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.batch_sizes import probe_network
from cnatool.backend.input_range import InputRange, infer_input_range
from cnatool.backend.inputs import Samples, make_constants
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions
from cnatool.backend.tensor_sizes import check_sizes
from cnatool.dumping.feed import wanted_arrays
from cnatool.dumping.results import InspectedInput, InspectionResult
from cnatool.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.records.store import SkippedTensor, TensorRecord

_SAMPLES = 3
# Numbers that one input is fed; a volume of 800³ is less.
_MOST = 1 << 29


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """What is in a model.

    Attributes
    ----------
    network : Network
        The model and its layers.
    tensors : list of TensorRecord
        Tensors with a sample axis, in execution order.
    skipped : list of SkippedTensor
        The others, each with its reason.
    batch : int or None
        The number of samples of every run; None where the model takes any.
    ranges : mapping of str to InputRange
        By input, what the model does to it first that tells which values it is made for.
    """

    network: Network
    tensors: list[TensorRecord]
    skipped: list[SkippedTensor]
    batch: int | None = None
    ranges: Mapping[str, InputRange] = field(default_factory=dict)

    def document(self, path: str | Path) -> InspectionResult:
        """Give what `cnatool inspect --json` prints of the model at a path."""
        return InspectionResult(
            schema="cnatool.inspect/1",
            path=str(path),
            kind="model",
            model=self.network.record,
            runtime=None,
            inputs=tuple(
                InspectedInput(feed.name, str(feed.dtype), feed.dims)
                for feed in self.network.inputs
            ),
            preprocessing=(),
            constants=(),
            tags={},
            splits={},
            tensors=tuple(self.tensors),
            layers=tuple(self.network.layers.layers),
            skipped=tuple(self.skipped),
            unselected=(),
        )


def inspect_model(
    path: str | Path,
    input_shapes: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    *,
    constants: Mapping[str, ArrayLike] | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> ModelInspection:
    """List a model's tensors and layers."""
    network = open_network(Path(path))
    constants = constants or {}
    wanted = wanted_arrays(network, {}, constants)
    bound = network.fixed_batch(wanted.inputs)
    shapes = _shapes(network, wanted.inputs, input_shapes)
    sizes = {
        feed: _sample_shape(network, feed, shapes.get(feed.name))
        for feed in network.inputs
        if feed.name not in constants
    }
    check_sizes(
        network.graph,
        {feed.name: shape for feed, shape in sizes.items()},
        count=bound or _SAMPLES,
        bound=bound,
        together=bound is not None and bound > 1,
    )
    for feed, shape in sizes.items():
        if (bound or _SAMPLES) * math.prod(shape) > _MOST:
            given = "" if bound is None else f"{bound:,} samples of "
            raise ModelError(
                f"{network.graph.path}: input {feed.name!r} takes {given}{shape}, and no more than "
                f"{_MOST:,} numbers are tried. Export the model for smaller inputs to look into it."
            )
    fed = make_constants(
        network.inputs, constants, {feed.name: shape for feed, shape in sizes.items()}
    )

    def samples(count: int | None) -> Samples:
        rng = np.random.default_rng(0)
        count = _SAMPLES if count in (None, 1) else count
        return Samples({f.name: _random(rng, f.dtype, (count, *s)) for f, s in sizes.items()}, fed)

    run = RunOptions(custom_ops=tuple(map(Path, custom_ops)), optimization=network.optimization)
    found = probe_network(network, samples, bound=bound, asked=None, run=run, shapes_only=True)
    ranges = {
        feed.name: takes
        for feed, shape in sizes.items()
        if feed.dtype.kind == "f"
        and (takes := infer_input_range(network.graph, feed.name, shape, found.bound or 1))
        is not None
    }
    return ModelInspection(network, found.probed.tensors, found.probed.skipped, found.bound, ranges)


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    # Whole numbers are classes, tokens or masks: 0 and 1 are valid ones.
    numbers = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
    return numbers.astype(dtype)


def _shapes(
    network: Network,
    fed: Sequence[str],
    wanted: Sequence[int] | Mapping[str, Sequence[int]] | None,
) -> dict[str, tuple[int, ...]]:
    """Give the shapes that the user named, by input."""
    if wanted is None:
        return {}
    if isinstance(wanted, Mapping):
        for name in wanted:
            if name not in fed:
                raise UsageError(
                    f"--input-shape {name}=…: {network.graph.path} takes {', '.join(fed)}."
                )
        return {name: tuple(shape) for name, shape in wanted.items()}
    if len(fed) > 1:
        raise UsageError(
            f"--input-shape: {network.graph.path} takes {', '.join(fed)}. Say which is meant, as "
            f"in --input-shape {fed[0]}={','.join(map(str, wanted))}."
        )
    return {fed[0]: tuple(wanted)}


def _sample_shape(
    network: Network, feed: ModelInput, wanted: tuple[int, ...] | None
) -> tuple[int, ...]:
    if wanted is None:
        if feed.dims is None or None in feed.shape:
            raise ModelError(
                f"{network.graph.path}: input {feed.name!r} leaves its shape open. Give the shape "
                f"of one sample, as in --input-shape {feed.name}=3,224,224."
            )
        return tuple(size for size in feed.shape if size is not None)
    if feed.dims is not None:
        fits = len(wanted) == len(feed.shape) and all(
            size in (None, given) for size, given in zip(feed.shape, wanted, strict=True)
        )
        if not fits:
            raise UsageError(
                f"--input-shape {','.join(map(str, wanted))}: input {feed.name!r} of "
                f"{network.graph.path} takes {feed.shape}."
            )
    return wanted
