"""A model file: its graph, its inputs, and which tensors are layers."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import msgspec

from cnatool._util.urls import ObjectURL, parse_path
from cnatool.backend.batch_first import find_sample_axes, find_unfit_inputs, join_errors
from cnatool.backend.graph.cache_sizes import fix_cache_sizes
from cnatool.backend.graph.graph import load_graph, set_same
from cnatool.backend.graph.layers import find_layers
from cnatool.backend.graph.optional_outputs import ask_outputs
from cnatool.backend.graph.position_tables import reserves_padding
from cnatool.backend.graph.samples_first import put_samples_first
from cnatool.backend.graph.taken_branches import join_branches, take_branches
from cnatool.backend.inputs import ModelInput
from cnatool.backend.probe.branch_check import check_branches
from cnatool.backend.probe.free_batch import BATCH, free_batch
from cnatool.backend.probe.in_parts import probe_in_parts
from cnatool.backend.probe.length_axes import add_length_axes
from cnatool.backend.probe.probe import probe
from cnatool.backend.probe.shapes import probe_shapes
from cnatool.backend.session import numpy_dtype
from cnatool.backend.tensor_sizes import check_total
from cnatool.errors import DataError, ModelError
from cnatool.records.run import FileRecord, ModelRecord
from cnatool.records.store import TensorRecord
from cnatool.store.object_path import open_bucket

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.layers import LayerTable
    from cnatool.backend.graph.taken_branches import TakenBranch
    from cnatool.backend.inputs import ConstantInput, Samples
    from cnatool.backend.probe.probe import Probe
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic
    from cnatool.records.run import BranchName
    from cnatool.records.store import SkippedTensor


@dataclass(frozen=True, slots=True)
class Network:
    """A model that was read and analysed, not yet run."""

    graph: Graph
    layers: LayerTable
    inputs: tuple[ModelInput, ...]
    branches: tuple[TakenBranch, ...] = ()  # those that replaced an If
    inner: frozenset[str] = frozenset()  # states and attention scores, once they are asked for
    # By input, the axis of the model along which samples lie, where they were put first
    moved: Mapping[str, int] = field(default_factory=dict)

    @property
    def optimization(self) -> str:
        """ONNX Runtime's name of the highest optimisation level that keeps the graph's values.

        For quantised models the highest one computes in integers what the graph computes between
        QuantizeLinear and DequantizeLinear.
        """
        quantised = any(node.op_type == "DequantizeLinear" for node in self.graph.nodes)
        return "ORT_ENABLE_BASIC" if quantised else "ORT_ENABLE_ALL"

    @property
    def record(self) -> ModelRecord:
        """The model's identity, for the store."""
        model = self.graph.model
        producer = f"{model.producer_name} {model.producer_version}".strip()
        return ModelRecord(
            name=self.graph.path.name,
            files=tuple(FileRecord(f.path.name, f.size, f.sha256) for f in self.graph.files),
            producer=producer,
            opsets={opset.domain or "ai.onnx": opset.version for opset in model.opset_import},
            inputs=tuple(model_input.name for model_input in self.inputs),
            outputs=self.graph.output_names,
        )

    @property
    def branch_record(self) -> dict[str, BranchName]:
        """The branches that replaced Ifs, by the If, for the store."""
        return {branch.node: branch.branch for branch in self.branches}

    def fixed_batch(self, fed: Collection[str]) -> int | None:
        """Return the number of samples that inputs are bound to; None where it is free."""
        specs = [model_input for model_input in self.inputs if model_input.name in fed]
        unfit = find_unfit_inputs(specs)
        if unfit:
            raise join_errors(self.graph, unfit.values())
        sizes = {spec.batch: spec for spec in specs if spec.batch is not None}
        if len(sizes) > 1:
            (size, first), (other, second), *_ = sizes.items()
            raise ModelError(
                f"{self.graph.path}: the first axis is {size} in input {first.name!r} and {other} "
                f"in {second.name!r}, so it is not the sample axis of both. Set one that is the "
                "same for every sample with `constants={'NAME': VALUE}`, or export the model with "
                "the batch first in each input."
            )
        return next(iter(sizes), None)

    def free_batch(
        self, bound: int, samples: Samples, run: RunOptions, names: Collection[str]
    ) -> Network | None:
        """Return the network with a free batch axis; None where its values would differ."""
        graph = free_batch(self.graph, bound, samples, run, names)
        if graph is None:
            return None
        axes = samples.sample_axes
        inputs = tuple(
            replace(
                model_input,
                dims=tuple(
                    BATCH if axis in axes[model_input.name] else size
                    for axis, size in enumerate(model_input.dims or ())
                ),
            )
            if model_input.name in axes
            else model_input
            for model_input in self.inputs
        )
        return replace(self, graph=graph, inputs=inputs)

    def put_samples_first(self, fed: Collection[str]) -> Network:
        """Return the network with the samples along the first axis of each input that data feed."""
        specs = [model_input for model_input in self.inputs if model_input.name in fed]
        axes = find_sample_axes(self.graph, specs)
        if not axes:
            return self
        graph = put_samples_first(self.graph, axes)
        inputs = _describe_inputs(graph)
        return Network(graph, find_layers(graph), inputs, self.branches, self.inner, axes)

    def take_branches(
        self,
        constants: Iterable[ConstantInput] = (),
        shapes: Mapping[str, Sequence[int | None]] | None = None,
    ) -> Network:
        """Replace each If that takes the same branch for every sample by that branch.

        What constants alone decide, such as the number of iterations of a loop, counts as the same
        for every sample from then on. ``shapes`` are those of one sample, by input.
        """
        constants = list(constants)
        known = set_same(self.graph, [c.name for c in constants if c.batch_axis is None])
        graph, taken = take_branches(known, constants, shapes)
        if graph is self.graph:
            return self
        branches = join_branches(self.branches, taken)
        return replace(self, graph=graph, layers=find_layers(graph), branches=branches)

    def ask_outputs(self) -> Network:
        """Ask each node for the states and attention scores that it offers."""
        graph, inner = ask_outputs(self.graph)
        return replace(self, graph=graph, inner=inner)

    def probe(
        self,
        samples: Samples,
        *,
        bound: int | None,
        run: RunOptions,
        statistics: Sequence[Statistic] = (),
        shapes_only: bool = False,
    ) -> ProbedNetwork:
        """Run the model on a few samples and describe each of its tensors.

        ``bound`` is the number of samples that each run takes, None where it is free; the
        ``statistics`` of the probe's values are for comparison later. With ``shapes_only`` no
        values are read where shapes are enough: there are no statistics, and ``mixed`` is empty.
        """
        if self.branches:
            check_branches(self.graph, self.branches, samples.first(bound or len(samples)), run)
        if shapes_only:
            result = probe_shapes(self.graph, samples, bound=bound, run=run)
        else:
            parts = None
            if bound is None:
                parts = probe_in_parts(self.graph, samples, run, statistics)
            result = parts or self._probe_whole(samples, bound, run, statistics)
        tensors = [
            TensorRecord(
                number=number,
                name=tensor.name,
                operator=tensor.operator,
                role=self.layers.role(
                    tensor.name,
                    tensor.operator,
                    is_output=tensor.name in self.graph.output_names,
                ),
                dtype=tensor.dtype.name,
                shape=tensor.shape,
                batch_axis=tensor.batch_axis,
                kept="statistics",
                onnx_type=tensor.onnx_type,
                merged=tensor.merged,
                varies=tensor.varies,
                conditional=tensor.name in self.graph.conditional or msgspec.UNSET,
                ragged_axis=msgspec.UNSET if tensor.varying_axis is None else tensor.varying_axis,
                index=tensor.index or msgspec.UNSET,
            )
            for number, tensor in enumerate(result.tensors)
        ]
        mixed = tuple(tensor.name for tensor in result.tensors if not tensor.independent)
        random = {tensor.name: tensor.random for tensor in result.tensors if tensor.random}
        return ProbedNetwork(
            tensors,
            result.skipped,
            mixed,
            result.samples,
            result.reference,
            random,
            result.run,
            result.counted,
            result.one_runs,
        )

    def _probe_whole(
        self, samples: Samples, bound: int | None, run: RunOptions, statistics: Sequence[Statistic]
    ) -> Probe:
        """Probe the network with all of its tensors in memory."""
        count = bound or len(samples)
        inputs = {name: value.shape for name, value in samples.first(count).feeds().items()}
        # A run is compared with another one; of a fixed batch, with one in another order, too.
        runs = 3 if count == bound and count > 1 else 2
        check_total(self.graph, inputs, count=count, bound=bound, runs=runs)
        return probe(self.graph, samples, bound=bound, run=run, statistics=statistics)

    def follow_lengths(
        self, probed: ProbedNetwork, others: Sequence[ProbedNetwork]
    ) -> ProbedNetwork:
        """Add along which axes of each tensor samples differ, by probes of other lengths."""
        probes = [probed.tensors, *(other.tensors for other in others)]
        tensors, skipped = add_length_axes(probes, self.graph.inner)
        return replace(probed, tensors=tensors, skipped=[*probed.skipped, *skipped])


@dataclass(frozen=True, slots=True)
class ProbedNetwork:
    """A network as runs over a few samples describe it."""

    # Those with a sample axis, numbered in execution order, kept as statistics
    tensors: list[TensorRecord]
    skipped: list[SkippedTensor]  # the others, each with its reason
    mixed: tuple[str, ...]  # tensors whose values for a sample depend on the others in its batch
    samples: Samples  # the input of the first run
    # Statistics, (samples,) each, of the first run's values, by name of the float32 tensors that
    # can be summed in parts
    reference: dict[str, dict[Statistic, NDArray[np.float64]]]
    # Tensors whose values differ from run to run, with the operator that makes them differ
    random: dict[str, str]
    run: RunOptions  # how ONNX Runtime ran it, and is to run it
    # Tensors whose rows are not samples but found in them, such as detections
    counted: frozenset[str]
    one_runs: bool  # A run of one sample succeeded


def open_network(file: str | Path) -> Network:
    """Read and analyse a model file, on a disk or in a bucket."""
    path = parse_path(file)
    if isinstance(path, ObjectURL):
        try:
            path = open_bucket(path)
        except DataError as error:
            raise ModelError(*error.args) from None
    graph = load_graph(path)
    if not graph.inputs:
        raise ModelError(f"{path} takes no inputs, so there is nothing to run it on.")
    inputs = _describe_inputs(graph)
    return Network(graph, find_layers(graph), inputs).take_branches()


def _describe_inputs(graph: Graph) -> tuple[ModelInput, ...]:
    """Describe the inputs of a model: as declared, and what the graph shows beyond that."""
    return tuple(
        replace(
            each,
            dims=None if each.dims is None else fix_cache_sizes(graph, each.name, each.dims),
            reserves_padding=each.dtype.kind == "i" and reserves_padding(graph, each.name),
        )
        for each in map(_model_input, graph.inputs)
    )


def _model_input(value: onnx.ValueInfoProto) -> ModelInput:
    kind = value.type.tensor_type
    dtype = numpy_dtype(value)
    if not kind.HasField("shape"):
        return ModelInput(value.name, dtype, None)
    return ModelInput(value.name, dtype, tuple(map(_dim, kind.shape.dim)))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
