"""ONNX Runtime sessions that say what really runs."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

# Some builds of ONNX Runtime report home and leave files in the user's cache. Looking into a model
# must do neither; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from cnatool._util.local_paths import real_path
from cnatool.errors import BackendError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

RUNTIME_VERSION: str = ort.__version__
CPU = "CPUExecutionProvider"

# Where in ONNX Runtime's sources an error arose, and the C++ function's signature: often longer
# than the reason, which comes after it.
_CPP_PLACE = re.compile(
    r"\S+\.(?:cc|cpp|h|hpp|cu):\d+ [^()]*(?:\((?:[^()]|\([^()]*\))*\))+(?: const)? "
)

_QUIET = 4  # fatal only: what goes wrong reaches the user as an exception, once


def provider_name(short: str) -> str:
    """Return ONNX Runtime's name of a provider, from ``cpu``, ``cuda``, … or that name itself."""
    available: list[str] = ort.get_available_providers()
    for name in available:
        if short.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return name
    known = ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
    raise UsageError(
        f"--provider {short}: the installed ONNX Runtime {RUNTIME_VERSION} does not have it; "
        f"it has {known}."
    )


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How ONNX Runtime runs a model.

    Attributes
    ----------
    provider : str
        ONNX Runtime's name of the provider.
    threads : int
        Threads of one operator; 0 leaves it to ONNX Runtime.
    custom_ops : tuple of Path
        Libraries of custom operators that the user named.
    optimization : str
        ONNX Runtime's name of the graph optimisation level. By default its own, which is what
        users compare with; add_outputs tensors survive it.
    """

    provider: str = CPU
    threads: int = 0
    custom_ops: tuple[Path, ...] = ()
    optimization: str = "ORT_ENABLE_ALL"


class Session:
    """A model ready to run.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; weights in external files are read from ``folder``.
    source : Path
        The model's file, for messages and external weights.
    run : RunOptions
        How to run it.
    frugal : bool
        Hold no tensor longer than it is needed.

    Raises
    ------
    ModelError
        If ONNX Runtime does not accept the model.
    UsageError
        If a library of custom operators cannot be loaded.
    BackendError
        If it would run elsewhere than asked.
    """

    def __init__(
        self, model: onnx.ModelProto, source: Path, run: RunOptions, *, frugal: bool = False
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = run.threads
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, run.optimization)
        if frugal:
            options.enable_mem_pattern = False
            # Shapes are read as soon as they can be, so that tensors need not wait for it.
            options.execution_order = ort.ExecutionOrder.PRIORITY_BASED
        for library in run.custom_ops:
            try:
                options.register_custom_ops_library(str(real_path(library)))
            except Exception as error:
                raise UsageError(f"--custom-ops {library}: {_brief(error)}") from error
        # Threads that wait for the next run by spinning take the processor from those that read and
        # write in the meantime; measured, even inference alone is no slower without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(real_path(source.parent))
        )
        self._source = source
        try:
            # Its fallback tries the same again and prints to standard output.
            self._session = ort.InferenceSession(
                model.SerializeToString(),
                sess_options=options,
                providers=[run.provider],
                enable_fallback=0,
            )
        except Exception as error:  # one class a status code, all straight below Exception
            text = _brief(error)
            unknown = any(
                said in text
                for said in ("not a registered function/op", "No Op registered", "No opset import")
            )
            way = ". If it is a custom operator, name its library with --custom-ops FILE."
            raise ModelError(
                f"{source}: ONNX Runtime refuses the model: {text}{way if unknown else ''}"
            ) from error
        used = self._session.get_providers()
        if used[0] != run.provider:
            raise BackendError(
                f"{run.provider} was asked for, and ONNX Runtime would run on {', '.join(used)}. "
                "Install a build that supports it, or choose another --provider."
            )

    @property
    def types(self) -> dict[str, str]:
        """ONNX Runtime's types of the outputs by name, such as ``tensor(float)``."""
        return {output.name: output.type for output in self._session.get_outputs()}

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Run the model once and give the named outputs."""
        if not names:
            return []  # to the runtime no names mean all outputs
        try:
            results: list[Any] = self._session.run(list(names), dict(feeds))
        except Exception as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise BackendError(
                f"{self._source}: ONNX Runtime failed on input {shapes}: {_brief(error)}"
            ) from error
        return results


def _brief(error: Exception) -> str:
    text = _CPP_PLACE.sub("", " ".join(str(error).split()))
    return text if len(text) <= 300 else text[:297] + "…"


def numpy_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Return the NumPy dtype of a model's input."""
    kind = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except KeyError as error:
        raise ModelError(
            f"input {value.name!r} is no tensor that NumPy arrays can feed."
        ) from error
