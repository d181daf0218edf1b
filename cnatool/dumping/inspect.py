"""Inspecting a model without data: its tensors, from runs on random numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from cnatool.backend.batch_first import find_unfit_inputs, join_errors
from cnatool.backend.batch_sizes import probe_network
from cnatool.backend.derived_rules import find_derived_inputs
from cnatool.backend.input_range import InputRange, infer_input_range
from cnatool.backend.inputs import Samples, list_known, make_constants
from cnatool.backend.network import open_network
from cnatool.backend.session import RunOptions
from cnatool.backend.tensor_sizes import check_sizes, check_total
from cnatool.dumping.results import InspectedInput, InspectionResult
from cnatool.dumping.sources import select_arrays
from cnatool.errors import ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.inputs import ModelInput
    from cnatool.backend.network import Network
    from cnatool.data.selection import ArraySelection
    from cnatool.records.run import Rule
    from cnatool.records.store import SkippedTensor, TensorRecord

_SAMPLES = 3
# Numbers in one input; a volume of 800³ is less.
_MOST = 1 << 29


@dataclass(frozen=True, slots=True)
class ModelInspection:
    """The tensors, layers and inputs of a model."""

    network: Network
    tensors: list[TensorRecord]  # with a sample axis, in execution order
    skipped: list[SkippedTensor]
    batch: int | None = None  # samples of every run; None if any number runs
    ranges: Mapping[str, InputRange] = field(default_factory=dict)  # by input, where it shows
    rules: Mapping[str, Rule] = field(default_factory=dict)  # what fills inputs without data

    def document(self, path: str | Path) -> InspectionResult:
        """Convert to the JSON document of the model at a path."""
        return InspectionResult(
            schema="cnatool.inspect/1",
            path=str(path),
            kind="model",
            model=self.network.record,
            runtime=None,
            inputs=tuple(
                InspectedInput(
                    target.name,
                    str(target.dtype),
                    target.dims,
                    self.rules.get(target.name, msgspec.UNSET),
                )
                for target in self.network.inputs
            ),
            preprocessing=(),
            constants=(),
            tags={},
            splits={},
            tensors=tuple(self.tensors),
            layers=tuple(self.network.layers.layers),
            skipped=tuple(self.skipped),
            unselected=(),
            branches=self.network.branch_record or msgspec.UNSET,
        )


def inspect_model(
    path: str | Path,
    input_shapes: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    *,
    constants: Mapping[str, ArrayLike] | None = None,
    custom_ops: Sequence[str | Path] = (),
) -> ModelInspection:
    """List a model's tensors and layers."""
    network = open_network(path)
    constants = constants or {}
    selection = select_arrays(network, {}, constants)
    shapes = _shapes_by_input(network, selection, constants, input_shapes)
    given = [n for n in selection.inputs if n in shapes or n not in selection.optional]
    derived = find_derived_inputs(network.inputs, given, constants)
    rules = {each.name: each.rule for each in derived}
    fed = [
        target
        for target in network.inputs
        if target.name in selection.inputs and target.name not in rules
    ]
    network = network.put_samples_first([target.name for target in fed])
    fed = [target for target in network.inputs if target in fed or target.name in network.moved]
    unfit = find_unfit_inputs(fed)
    rest = [target for target in fed if target.name not in unfit and target.name not in shapes]
    missing = [*unfit.values(), *_find_open_inputs(rest)]
    if missing:
        raise join_errors(network.graph, missing)
    bound = network.fixed_batch([target.name for target in fed])
    sizes = {target: _sample_shape(network, target, shapes.get(target.name)) for target in fed}
    sample_shapes = {target.name: shape for target, shape in sizes.items()}
    check_sizes(network.graph, sample_shapes, count=bound or _SAMPLES, bound=bound)
    if bound is not None and bound > 1:
        batch = {name: (bound, *shape) for name, shape in sample_shapes.items()}
        check_total(network.graph, batch, count=bound, bound=bound)
    for target, shape in sizes.items():
        if (bound or _SAMPLES) * math.prod(shape) > _MOST:
            count = "" if bound is None else f"{bound:,} samples of "
            raise ModelError(
                f"{network.graph.path}: input {target.name!r} takes {count}{shape}, more than the "
                f"limit of {_MOST:,} numbers for a trial. Export the model for smaller inputs."
            )
    fixed = make_constants(network.inputs, constants, sample_shapes)
    network = network.take_branches(list_known(fixed, derived), sample_shapes)

    def samples(count: int | None) -> Samples:
        rng = np.random.default_rng(0)
        count = _SAMPLES if count in (None, 1) else count
        return Samples(
            {f.name: _random(rng, f.dtype, (count, *s)) for f, s in sizes.items()}, fixed, derived
        )

    run = RunOptions(custom_ops=tuple(map(Path, custom_ops)), optimization=network.optimization)
    probe = probe_network(network, samples, bound=bound, asked=None, run=run, shapes_only=True)
    ranges = {
        target.name: input_range
        for target, shape in sizes.items()
        if target.dtype.kind == "f"
        and (input_range := infer_input_range(network.graph, target.name, shape, probe.bound or 1))
        is not None
    }
    return ModelInspection(
        network, probe.probed.tensors, probe.probed.skipped, probe.bound, ranges, rules
    )


def _random(rng: np.random.Generator, dtype: np.dtype[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    # Whole numbers are classes, tokens or masks: 0 and 1 are valid ones.
    numbers = rng.random(shape) if dtype.kind == "f" else rng.integers(0, 2, shape)
    return numbers.astype(dtype)


def _shapes_by_input(
    network: Network,
    selection: ArraySelection,
    constants: Container[str],
    shapes: Sequence[int] | Mapping[str, Sequence[int]] | None,
) -> dict[str, tuple[int, ...]]:
    """Return the shapes that the user set, by input."""
    if shapes is None:
        return {}
    fed = selection.inputs
    if isinstance(shapes, Mapping):
        for name in shapes:
            if name in constants:
                raise UsageError(
                    f"`input_shapes` and `constants` both name input {name!r}: leave one out."
                )
            if name not in fed:
                raise UsageError(
                    f"`input_shapes`: {network.graph.path} has no input {name!r}. It takes "
                    f"{', '.join(fed)}."
                )
        return {name: tuple(shape) for name, shape in shapes.items()}
    fed = tuple(name for name in fed if name not in selection.optional)
    if len(fed) > 1:
        raise UsageError(
            f"`input_shapes`: {network.graph.path} takes {', '.join(fed)}. Name the one that is "
            f"meant, as in {_example(fed[0], tuple(shapes))}."
        )
    return {fed[0]: tuple(shapes)}


def _find_open_inputs(inputs: Iterable[ModelInput]) -> Iterator[ModelError]:
    """Yield an error for each input whose shape the model leaves open."""
    for target in inputs:
        if target.dims is None or None in target.shape:
            example: tuple[int, ...] = (3, 224, 224)
            if target.dims is not None:
                example = tuple(size or 224 for size in target.shape)
            yield ModelError(
                f"input {target.name!r} has a dynamic shape. Pass the shape of one sample, as in "
                f"{_example(target.name, example)}."
            )


def _sample_shape(
    network: Network, target: ModelInput, shape: tuple[int, ...] | None
) -> tuple[int, ...]:
    """Return the shape of one sample of an input, which the user may have set."""
    if shape is None:
        return tuple(size for size in target.shape if size is not None)
    if target.dims is not None:
        fits = len(shape) == len(target.shape) and all(
            declared in (None, size) for declared, size in zip(target.shape, shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"{_example(target.name, shape)}: {network.graph.path} takes {target.shape}."
            )
    return shape


def _example(name: str, shape: tuple[int, ...]) -> str:
    return f"`input_shapes={{{name!r}: {shape}}}`"
