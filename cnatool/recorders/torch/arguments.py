"""Checks of a PyTorch network, and conversion of its arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from cnatool._util.bfloat16 import BFLOAT16
from cnatool.errors import DataError, UsageError
from cnatool.recorders.torch.trace import tensors_by_name

if TYPE_CHECKING:
    from numpy.typing import NDArray


def check_network(network: Any) -> None:
    """Refuse networks that cannot be traced."""
    if not isinstance(network, torch.nn.Module):
        raise UsageError(f"a torch.nn.Module is needed, but this is {type(network).__name__}.")
    if hasattr(network, "_orig_mod"):
        raise UsageError("a compiled network hides its steps: record it before torch.compile.")
    if any(isinstance(module, torch.jit.ScriptModule) for module in network.modules()):
        raise UsageError("a scripted module takes no hooks: record the network before torch.jit.")
    values = (*network.parameters(), *network.buffers())
    if any(torch.nn.parameter.is_lazy(value) for value in values):
        raise UsageError(
            "the network has parameters that have no shape yet: call it once, then record it."
        )


def arrays(batch: Any) -> dict[str, Any]:
    """Convert arrays or tensors to NumPy arrays by name; lists of texts stay."""
    named = batch if isinstance(batch, Mapping) else {"input": batch}
    return {name: _convert(value) for name, value in named.items()}


def _convert(value: Any) -> Any:
    if isinstance(value, list | tuple) and value and all(isinstance(x, str) for x in value):
        return list(value)
    return array(value) if isinstance(value, torch.Tensor) else np.asarray(value)


def name_arguments(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """Return the tensors among the arguments of a call, by name."""
    named = {
        name + (f".{part}" if part else ""): tensor
        for name, argument in [
            *((f"input{n or ''}", argument) for n, argument in enumerate(args)),
            *kwargs.items(),
        ]
        for part, tensor in tensors_by_name(argument).items()
        if tensor.ndim
    }
    if not named:
        raise DataError("the network is called without a tensor: pass inputs=….")
    return named


def move_to_device(batch: Any, device: torch.device) -> tuple[list[Any], dict[str, Any]]:
    """Turn an array, a tuple or a mapping into positional arguments and keywords on a device."""
    if isinstance(batch, Mapping):
        return [], {name: torch.as_tensor(value).to(device) for name, value in batch.items()}
    values = batch if isinstance(batch, tuple) else (batch,)
    return [torch.as_tensor(value).to(device) for value in values], {}


def array(tensor: torch.Tensor) -> NDArray[Any]:
    """Copy a tensor to an array; bfloat16 stays so, and floating types of 8 bits become float32."""
    tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        bits: NDArray[Any] = tensor.view(torch.int16).cpu().numpy().copy()
        return bits.view(BFLOAT16)
    if tensor.is_floating_point() and tensor.itemsize == 1:
        tensor = tensor.float()
    copy: NDArray[Any] = tensor.cpu().numpy().copy()
    return copy
