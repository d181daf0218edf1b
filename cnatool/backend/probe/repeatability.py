"""Whether a model computes the same values each time that it runs on the same batch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.random_operators import find_opaque_tensors
from cnatool.backend.probe.closeness import same_values
from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from cnatool.backend.graph.graph import Graph

# ONNX Runtime's name of the level at which it runs the graph unchanged.
UNOPTIMIZED = "ORT_DISABLE_ALL"


@dataclass(frozen=True, slots=True)
class ChangedTensors:
    """Tensors whose values differ between two runs on the same batch."""

    # Those that depend on random numbers, or on an unknown operator, with that operator.
    random: dict[str, str]
    # The others: the runtime carries state over from one run to the next.
    state: tuple[str, ...]


def find_changes(
    graph: Graph, first: Mapping[str, Any], second: Mapping[str, Any], random: Mapping[str, str]
) -> ChangedTensors:
    """Compare two runs of a model on the same batch."""
    changed = [name for name, value in first.items() if not _same(value, second[name])]
    if not changed:
        return ChangedTensors({}, ())
    origins = {**find_opaque_tensors(graph), **random}
    return ChangedTensors(
        {name: origins[name] for name in changed if name in origins},
        tuple(name for name in changed if name not in origins),
    )


def unrepeatable_error(graph: Graph, name: str) -> ModelError:
    """Make the error for a model that carries state over from one run to the next."""
    return ModelError(
        f"{graph.path}: tensor {name!r} ({graph.operator(name)}) has different values each time "
        "ONNX Runtime runs the model on the same batch, although no operator before it draws "
        "random numbers. An operator overwrites a weight. Export the model in evaluation mode."
    )


def _same(first: Any, second: Any) -> bool:
    if not isinstance(first, np.ndarray) or first.dtype.kind not in "fiub":
        return True
    return same_values(first, second)
