"""A model file as cnatool sees it: what to feed, what is in it, which tensors are layers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from cnatool.backend.graph.graph import load_graph
from cnatool.backend.graph.layers import find_layers
from cnatool.backend.inputs import ModelInput
from cnatool.backend.probe.free_batch import BATCH, free_batch
from cnatool.backend.probe.probe import probe
from cnatool.backend.probe.reference import reference_statistics
from cnatool.backend.probe.shapes import probe_shapes
from cnatool.backend.session import numpy_dtype
from cnatool.errors import ModelError
from cnatool.records.run import FileRecord, ModelRecord
from cnatool.records.store import TensorRecord

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.graph.layers import LayerTable
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic
    from cnatool.records.store import SkippedTensor


@dataclass(frozen=True, slots=True)
class Network:
    """A model that was read and analyse_graph, not yet run.

    Attributes
    ----------
    graph : Graph
        Its main graph.
    layers : LayerTable
        Its layers.
    inputs : tuple of ModelInput
        Its inputs.
    """

    graph: Graph
    layers: LayerTable
    inputs: tuple[ModelInput, ...]

    @property
    def optimization(self) -> str:
        """ONNX Runtime's name of the optimisation level that gives what the graph says.

        Its own highest one, but for quantised models, where that computes in integers what the
        graph computes between QuantizeLinear and DequantizeLinear.
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
            inputs=tuple(feed.name for feed in self.inputs),
            outputs=self.graph.output_names,
        )

    def fixed_batch(self, fed: Collection[str]) -> int | None:
        """Give the number of samples that the model is bound to; None where it takes any.

        Parameters
        ----------
        fed : collection of str
            The inputs that have a row a sample.

        Raises
        ------
        ModelError
            If one of them cannot have, or they are bound to different numbers.
        """
        specs = [feed for feed in self.inputs if feed.name in fed]
        self._check_batch_first(specs)
        for spec in specs:
            if spec.dims == ():
                raise ModelError(
                    f"{self.graph.path}: input {spec.name!r} is one number, with no axis for "
                    f"samples. Say what it is with --constant {spec.name}=VALUE."
                )
        sizes = {spec.batch: spec for spec in specs if spec.batch is not None}
        if len(sizes) > 1:
            (one, first), (other, second), *_ = sizes.items()
            raise ModelError(
                f"{self.graph.path}: input {first.name!r} is bound to {one} samples and "
                f"{second.name!r} to {other}. If one of them is the same for every sample, say "
                "what it is with --constant NAME=VALUE."
            )
        return next(iter(sizes), None)

    def _check_batch_first(self, specs: Sequence[ModelInput]) -> None:
        """Refuse inputs that share the symbol of the outputs' first axis along a later one."""
        shapes = [
            output.type.tensor_type.shape.dim
            for output in self.graph.model.graph.output
            if output.type.HasField("tensor_type")
        ]
        symbols = {shape[0].dim_param for shape in shapes if shape} - {""}
        if len(symbols) != 1 or any((spec.dims or (None,))[0] in symbols for spec in specs):
            return
        (symbol,) = symbols
        for spec in specs:
            # Of a model bound to one sample the batch axis may be squeezed away.
            if spec.may_be_time_major and spec.batch != 1 and symbol in (spec.dims or ()):
                axis = (spec.dims or ()).index(symbol)
                raise ModelError(
                    f"{self.graph.path}: input {spec} has its samples along axis {axis}, as the "
                    f"outputs show, whose first axis is {symbol!r}; they must be along its first. "
                    "Export the model with the batch first, or with a Transpose behind that input."
                )

    def free_batch(
        self, bound: int, samples: Samples, run: RunOptions, names: Collection[str]
    ) -> Network | None:
        """Give the same network with a free batch axis, or None where that is not the same."""
        graph = free_batch(self.graph, bound, samples, run, names)
        if graph is None:
            return None
        feeds = tuple(
            replace(feed, dims=(BATCH, *(feed.dims or ())[1:]))
            if feed.name in samples.values
            else feed
            for feed in self.inputs
        )
        return Network(graph, self.layers, feeds)

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

        Parameters
        ----------
        samples : Samples
            At least two, or as many as the model is bound to; any number where that is one.
        bound : int or None
            The number of samples that the model is bound to, or is to be run with.
        run : RunOptions
            How ONNX Runtime runs it.
        statistics : sequence of Statistic
            Those that will be computed, and are to be compared with the probe's values.
        shapes_only : bool
            Read no values that shapes can stand for; there are no statistics then, and nothing is
            said of tensors that depend on other samples.
        """
        ask = probe_shapes if shapes_only else probe
        found = ask(self.graph, samples, bound=bound, run=run)
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
            )
            for number, tensor in enumerate(found.tensors)
        ]
        mixed = tuple(tensor.name for tensor in found.tensors if not tensor.independent)
        reference = {
            tensor.name: reference_statistics(found.values[tensor.name], statistics)
            for tensor in found.tensors
            if statistics
            and tensor.dtype == np.float32
            and tensor.batch_axis == 0
            and tensor.merged is None
            and not tensor.varies
        }
        random = {tensor.name: tensor.random for tensor in found.tensors if tensor.random}
        return ProbedNetwork(
            tensors,
            found.skipped,
            mixed,
            found.samples,
            reference,
            random,
            found.run,
            found.counted,
            found.one_runs,
        )


@dataclass(frozen=True, slots=True)
class ProbedNetwork:
    """What runs over a few samples told of a network.

    Attributes
    ----------
    tensors : list of TensorRecord
        Those that have a sample axis, numbered in execution order, kept as statistics.
    skipped : list of SkippedTensor
        The others, each with its reason.
    mixed : tuple of str
        Tensors whose values for a sample depend on the others in its batch.
    samples : Samples
        What the first run was fed.
    reference : dict of str to dict
        Of the float32 tensors that can be summed in parts, statistics of what the first run
        gave by name, (samples,) each.
    random : dict of str to str
        Tensors whose values differ from run to run, with the operator that makes them differ.
    run : RunOptions
        How ONNX Runtime ran it, and is to run it.
    counted : frozenset of str
        Of ``skipped``, the tensors whose rows count what was found in the data.
    one_runs : bool
        The model was seen to run with one sample.
    """

    tensors: list[TensorRecord]
    skipped: list[SkippedTensor]
    mixed: tuple[str, ...]
    samples: Samples
    reference: dict[str, dict[Statistic, NDArray[np.float64]]]
    random: dict[str, str]
    run: RunOptions
    counted: frozenset[str]
    one_runs: bool


def open_network(path: Path) -> Network:
    """Read and analyse a model file.

    Parameters
    ----------
    path : Path
        An ONNX file.

    Raises
    ------
    ModelError
        If it cannot be read, or takes no inputs.
    """
    graph = load_graph(path)
    if not graph.inputs:
        raise ModelError(f"{path} takes no inputs, so there is nothing to run it over.")
    return Network(graph, find_layers(graph), tuple(_feed(value) for value in graph.inputs))


def _feed(value: onnx.ValueInfoProto) -> ModelInput:
    kind = value.type.tensor_type
    dtype = numpy_dtype(value)
    if not kind.HasField("shape"):
        return ModelInput(value.name, dtype, None)
    return ModelInput(value.name, dtype, tuple(map(_dim, kind.shape.dim)))


def _dim(dim: onnx.TensorShapeProto.Dimension) -> int | str | None:
    return dim.dim_value if dim.dim_value > 0 else dim.dim_param or None
