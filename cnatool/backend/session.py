"""ONNX Runtime sessions that say what really runs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx

# Some builds of ONNX Runtime report home and leave files in the user's cache. Looking into a model
# must do neither; whoever wants it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort

from cnatool.errors import BackendError, ModelError, UsageError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

__all__ = ["OPTIMIZATION", "RUNTIME_VERSION", "Session", "numpy_dtype", "provider_name"]

RUNTIME_VERSION: str = ort.__version__


# ONNX Runtime's default, and what users compare with; promoted tensors survive it.
OPTIMIZATION = "ORT_ENABLE_ALL"

_QUIET = 4  # fatal only: what goes wrong reaches the user as an exception, once


def provider_name(short: str) -> str:
    """Give ONNX Runtime's name of a provider, from ``cpu``, ``cuda``, … or that name itself.

    Raises
    ------
    UsageError
        If this build of ONNX Runtime does not have it.
    """
    available: list[str] = ort.get_available_providers()
    for name in available:
        if short.lower() in (name.lower(), name.removesuffix("ExecutionProvider").lower()):
            return name
    known = ", ".join(name.removesuffix("ExecutionProvider").lower() for name in available)
    raise UsageError(
        f"--provider {short}: the installed ONNX Runtime {RUNTIME_VERSION} does not have it; "
        f"it has {known}."
    )


class Session:
    """A model ready to run.

    Parameters
    ----------
    model : onnx.ModelProto
        The model; weights in external files are read from ``folder``.
    source : Path
        The model's file, for messages and external weights.
    provider : str
        ONNX Runtime's name of the provider.
    threads : int
        Threads of one operator; 0 leaves it to ONNX Runtime.

    Raises
    ------
    ModelError
        If ONNX Runtime does not accept the model.
    BackendError
        If it would run elsewhere than asked.
    """

    def __init__(
        self, model: onnx.ModelProto, source: Path, *, provider: str, threads: int = 0
    ) -> None:
        options = ort.SessionOptions()
        options.log_severity_level = _QUIET
        options.intra_op_num_threads = threads
        options.graph_optimization_level = getattr(ort.GraphOptimizationLevel, OPTIMIZATION)
        # Threads that wait for the next run by spinning take the processor from those that read and
        # write in the meantime; measured, even inference alone is no slower without.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.add_session_config_entry(
            "session.model_external_initializers_file_folder_path", str(source.parent.resolve())
        )
        self._source = source
        try:
            self._session = ort.InferenceSession(
                model.SerializeToString(), sess_options=options, providers=[provider]
            )
        except Exception as error:  # one class a status code, all straight below Exception
            raise ModelError(
                f"{source}: ONNX Runtime refuses the model: {_brief(error)}"
            ) from error
        used = self._session.get_providers()
        if used[0] != provider:
            raise BackendError(
                f"{provider} was asked for, and ONNX Runtime would run on {', '.join(used)}. "
                "Install a build that supports it, or choose another --provider."
            )

    def run(self, names: Sequence[str], feeds: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Run the model once and give the named outputs.

        Raises
        ------
        BackendError
            If an operator fails.
        """
        try:
            results: list[Any] = self._session.run(list(names), dict(feeds))
        except Exception as error:
            shapes = ", ".join(f"{name} {value.shape}" for name, value in feeds.items())
            raise BackendError(
                f"{self._source}: ONNX Runtime failed on input {shapes}: {_brief(error)}"
            ) from error
        return results


def _brief(error: Exception) -> str:
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else text[:297] + "…"


def numpy_dtype(value: onnx.ValueInfoProto) -> np.dtype[Any]:
    """Give the NumPy dtype of a model's input.

    Raises
    ------
    ModelError
        If it is no tensor or its element type has no NumPy form.
    """
    kind = value.type.tensor_type.elem_type if value.type.HasField("tensor_type") else 0
    try:
        return np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind))
    except KeyError as error:
        raise ModelError(
            f"input {value.name!r} is no tensor that NumPy arrays can feed."
        ) from error
