"""A model file as cnatool sees it: what to feed, what is in it, which tensors are layers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from cnatool.backend.graph import load_graph
from cnatool.backend.layers import find_layers
from cnatool.backend.probe import probe
from cnatool.backend.session import numpy_dtype
from cnatool.errors import ModelError
from cnatool.store.records import FileRecord, ModelRecord, TensorRecord

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    import numpy as np
    import onnx
    from numpy.typing import NDArray

    from cnatool.backend.graph import Graph
    from cnatool.backend.layers import LayerTable
    from cnatool.store.records import SkippedTensor

__all__ = ["FeedSpec", "Network", "open_network"]


@dataclass(frozen=True, slots=True)
class FeedSpec:
    """What one input of a model takes.

    Attributes
    ----------
    name : str
        Name of the input.
    dtype : numpy.dtype
        Element type.
    shape : tuple of (int or None), or None
        Shape for one sample; None for a free axis, or for a model that declares no shape.
    batch : int or None
        Number of samples that the model is bound to; None where it takes any.
    """

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int | None, ...] | None
    batch: int | None


@dataclass(frozen=True, slots=True)
class Network:
    """A model that was read and analysed, not yet run.

    Attributes
    ----------
    graph : Graph
        Its main graph.
    layers : LayerTable
        Its layers.
    feeds : tuple of FeedSpec
        Its inputs.
    """

    graph: Graph
    layers: LayerTable
    feeds: tuple[FeedSpec, ...]

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
            inputs=tuple(feed.name for feed in self.feeds),
            outputs=self.graph.output_names,
        )

    def probed(
        self, feeds: Mapping[str, NDArray[Any]], *, provider: str
    ) -> tuple[list[TensorRecord], list[SkippedTensor]]:
        """Run the model on a few samples and describe each of its tensors.

        Parameters
        ----------
        feeds : mapping of str to ndarray
            At least two samples for each input, or as many as the model is bound to.
        provider : str
            ONNX Runtime's name of the provider.

        Returns
        -------
        tensors : list of TensorRecord
            Those that have a sample axis, numbered in execution order, kept as statistics.
        skipped : list of SkippedTensor
            The others.
        """
        fixed = self.feeds[0].batch is not None
        found, skipped = probe(self.graph, feeds, fixed_batch=fixed, provider=provider)
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
            )
            for number, tensor in enumerate(found)
        ]
        return tensors, skipped


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


def _feed(value: onnx.ValueInfoProto) -> FeedSpec:
    kind = value.type.tensor_type
    dtype = numpy_dtype(value)
    if not kind.HasField("shape"):
        return FeedSpec(value.name, dtype, None, None)
    sizes = [dim.dim_value if dim.dim_value > 0 else None for dim in kind.shape.dim]
    return FeedSpec(value.name, dtype, tuple(sizes[1:]), sizes[0] if sizes else None)
