"""Sessions of ONNX Runtime, with errors in cnatool's terms."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import onnx

# Some builds of ONNX Runtime send telemetry and leave files in the user's cache. Inspecting a model
# must do neither; a user who wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from cnatool._util.local_paths import real_path
from cnatool.backend.graph.bfloat16_nodes import (
    compute_in_float32,
    feed_float32,
    is_bfloat16_input,
)
from cnatool.backend.graph.inline_weights import lies_apart
from cnatool.backend.graph.node_order import order_appended
from cnatool.backend.graph.nodes import PREFIX, captured_names
from cnatool.errors import BackendError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph

RUNTIME_VERSION: str = ort.__version__
CPU = "CPUExecutionProvider"

# Options of a provider that change numbers. TensorFloat-32, the default of CUDA on cards that have
# it, rounds the operands of a product to 10 bits: errors of 1e-3, where float32 has 1e-7.
_NUMERIC_OPTIONS: Final[Mapping[str, Mapping[str, str]]] = {
    "CUDAExecutionProvider": {"use_tf32": "0"}
}
# The provider of the same device that runs what one does not support.
_NEXT_PROVIDER: Final[Mapping[str, str]] = {"TensorrtExecutionProvider": "CUDAExecutionProvider"}

# The place in ONNX Runtime's sources where an error arose, with the C++ function's signature: often
# longer than the reason after it.
_CPP_PLACE = re.compile(
    r"\S+\.(?:cc|cpp|h|hpp|cu):\d+ [^()]*(?:\((?:[^()]|\([^()]*\))*\))+(?: const)? "
)

_QUIET = 4  # fatal errors only: others reach the user as an exception, once


def provider_name(short: str) -> str:
    """Return ONNX Runtime's name of a provider called ``cpu``, ``cuda``, … or by that name."""
    available: list[str] = ort.get_available_providers()
    for name in available:
        if short.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return name
    known = ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
    raise UsageError(
        f"`provider={short!r}`: the installed ONNX Runtime {RUNTIME_VERSION} does not have it; "
        f"it has {known}."
    )


def numeric_options(provider: str) -> dict[str, str]:
    """Return the options of a provider that change numbers, as sessions set them."""
    return dict(_NUMERIC_OPTIONS.get(provider, {}))


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How ONNX Runtime runs a model."""

    provider: str = CPU
    # Threads of one operator; 0 leaves it to ONNX Runtime.
    threads: int = 0
    custom_ops: tuple[Path, ...] = ()
    # The level that users compare with; exposed tensors survive it.
    optimization: str = "ORT_ENABLE_ALL"


class Session:
    """A model ready to run.

    ``model`` is ``graph``'s, or was made from it: the weights are those of the graph. The results
    in ``appended`` are those of nodes that were appended to it, which run as soon as what they read
    is computed. A ``frugal`` session holds no tensor longer than it is needed.
    """

    def __init__(
        self,
        model: onnx.ModelProto,
        graph: Graph,
        run: RunOptions,
        *,
        appended: Collection[str] = (),
        frugal: bool = False,
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = run.threads
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, run.optimization)
        if frugal:
            options.enable_mem_pattern = False
        if appended or frugal:
            # Of the nodes that are ready, the model's first runs, and before all others those that
            # read shapes, so that tensors need not wait for it.
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        for library in run.custom_ops:
            try:
                options.register_custom_ops_library(str(real_path(library)))
            except Exception as error:
                raise UsageError(f"`custom_ops=[{str(library)!r}]`: {_brief(error)}") from error
        # Threads that spin while they wait for the next run take the processor from those that read
        # and write in the meantime; even inference alone is no slower without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path",
            str(real_path(graph.path.parent)),
        )
        if run.provider != CPU:
            options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
        self._source = graph.path
        model = feed_float32(model)
        if run.provider == CPU:
            model = compute_in_float32(model)
        if appended:
            order_appended(model.graph, appended)
        self._weights = _weights_apart(model, graph)
        options.add_external_initializers(list(self._weights), list(self._weights.values()))
        self.provider = run.provider
        following = [_NEXT_PROVIDER[run.provider]] if run.provider in _NEXT_PROVIDER else []
        try:
            # The fallback tries the same again and prints to standard output.
            self._session = ort.InferenceSession(
                model.SerializeToString(),
                sess_options=options,
                providers=[(name, numeric_options(name)) for name in (run.provider, *following)],
                enable_fallback=0,
            )
        except Exception as error:  # a class per status code, all direct subclasses of Exception
            text = _brief(error)
            unknown = any(
                words in text
                for words in ("not a registered function/op", "No Op registered", "No opset import")
            )
            advice = ". If it is a custom operator, name its library with `custom_ops=[FILE]`."
            raise ModelError(
                f"{graph.path}: ONNX Runtime refuses the model: {text}{advice if unknown else ''}"
            ) from error
        used = self._session.get_providers()
        if used[0] != run.provider:
            raise BackendError(
                f"{run.provider} was asked for, and ONNX Runtime would run on {', '.join(used)}. "
                "Install a build that supports it, or choose another `provider`."
            )

    @property
    def types(self) -> dict[str, str]:
        """ONNX Runtime's types of the outputs by name, such as ``tensor(float)``."""
        return {output.name: output.type for output in self._session.get_outputs()}

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Run the model once and return the named outputs."""
        if not names:
            return []  # for the runtime, no names mean all outputs
        try:
            return self._run(names, feeds)
        except Exception as error:
            shapes = ", ".join(
                f"{name} {value.shape}"
                for name, value in feeds.items()
                if not name.startswith(PREFIX)
            )
            raise BackendError(
                f"{self._source}: ONNX Runtime failed on input {shapes}: {_brief(error)}"
            ) from error

    @property
    def operators_by_provider(self) -> dict[str, Counter[str]]:
        """Operators that each provider runs, with the number of their nodes.

        Empty on a CPU, and with versions of ONNX Runtime that do not tell.
        """
        placed: dict[str, Counter[str]] = {}
        if self.provider == CPU or not hasattr(self._session, "get_provider_graph_assignment_info"):
            return placed
        for part in self._session.get_provider_graph_assignment_info():
            operators = placed.setdefault(part.ep_name, Counter())
            operators.update(node.op_type for node in part.get_nodes())
        return placed

    def _run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        results: list[Any] = self._session.run(list(names), dict(feeds))
        return results


def _weights_apart(model: onnx.ModelProto, graph: Graph) -> dict[str, ort.OrtValue]:
    """Return the weights that lie apart from a model, which the runtime reads where they are.

    It has forgotten those that no node reads by the time that it looks for them.
    """
    read = {output.name for output in model.graph.output}
    for node in model.graph.node:
        read.update(node.input, captured_names(node))
    return {
        tensor.name: ort.OrtValue.ortvalue_from_numpy(graph.weights[tensor.name])
        for tensor in model.graph.initializer
        if tensor.name in read and lies_apart(tensor)
    }


def _brief(error: Exception) -> str:
    text = _CPP_PLACE.sub("", " ".join(str(error).split()))
    return text if len(text) <= 300 else text[:297] + "…"


def numpy_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Return the NumPy dtype of the arrays that feed a model's input; bfloat16 takes float32."""
    if is_bfloat16_input(value):
        return np.dtype(np.float32)
    kind = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except KeyError as error:
        raise ModelError(
            f"input {value.name!r} is not a tensor that NumPy arrays can feed."
        ) from error
