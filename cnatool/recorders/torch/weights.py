"""Weights of a PyTorch network's layers, for `cnatool.create_store`."""

from __future__ import annotations

from copy import deepcopy
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.utils.parametrize import is_parametrized

from cnatool.errors import UsageError
from cnatool.recorders.torch.preserve import preserve_buffers

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.recorders.select import Selection

_TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


def layer_arrays(
    network: torch.nn.Module, selection: Selection, initial_state: Mapping[str, torch.Tensor] | None
) -> dict[str, Any]:
    """Return the arguments ``weights``, ``initial_weights``, ``parameters`` of `create_store`.

    A BatchNorm in ``eval`` mode that follows a layer is folded into its weights.
    """
    modules = dict(network.named_modules())
    arguments: dict[str, Any] = {
        "parameters": sum(parameter.numel() for parameter in network.parameters())
    }
    # A spectral norm advances by a step whenever its weight is read.
    with preserve_buffers(network):
        arguments["weights"] = _arrays(
            modules, selection, lambda module, name: getattr(modules[module], name)
        )
    if initial_state is not None:
        arguments["initial_weights"] = _arrays(
            modules, selection, lambda module, name: _initial(modules, initial_state, module, name)
        )
    return arguments


def _initial(
    modules: Mapping[str, torch.nn.Module],
    state: Mapping[str, torch.Tensor],
    module: str,
    name: str,
) -> torch.Tensor:
    """Return a tensor of a module in another state of the network."""
    key = _join_names(module, name)
    if key in state:
        return state[key]
    if not is_parametrized(modules[module], name):
        raise UsageError(f"initial_state: {key!r} is missing.")
    # A weight that is computed from others.
    copy = deepcopy(modules[module]).eval()
    prefix = _join_names(module, "")
    own = {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}
    try:
        copy.load_state_dict(own)
    except RuntimeError as error:
        raise UsageError(
            f"initial_state: the tensors from which {key!r} is computed are missing."
        ) from error
    tensor: torch.Tensor = getattr(copy, name)
    return tensor


def _arrays(
    modules: Mapping[str, torch.nn.Module],
    selection: Selection,
    state: Callable[[str, str], torch.Tensor],
) -> dict[str, NDArray[Any]]:
    arrays: dict[str, NDArray[Any]] = {}
    # Layers of one module share its weights, marked by the same array.
    weights: dict[tuple[str, str | None], NDArray[Any]] = {}
    for layer in selection.layers:
        tensor = layer.linear or layer.preactivation
        name = selection.modules.get(tensor)
        if name is None or not isinstance(getattr(modules[name], "weight", None), torch.Tensor):
            continue
        normaliser = selection.normalisers.get(tensor)
        if normaliser is not None and not _folds(modules[normaliser]):
            normaliser = None
        key = (name, normaliser)
        if key not in weights:
            weight = _outputs_first(modules[name], state(name, "weight"))
            if normaliser is not None:
                scale = _scale(modules[normaliser], normaliser, state)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            weights[key] = weight.numpy()
        arrays[tensor] = weights[key]
    return arrays


def _join_names(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _outputs_first(module: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Return weights as (out, in, …) in float32 or wider, on the CPU."""
    weight = weight.detach().cpu()
    weight = weight if weight.dtype == torch.float64 else weight.float()
    if not isinstance(module, _TRANSPOSED):
        return weight
    groups, kernel = module.groups, weight.shape[2:]
    blocks = weight.reshape(groups, -1, weight.shape[1], *kernel)
    return blocks.transpose(1, 2).reshape(groups * weight.shape[1], -1, *kernel)


def _folds(module: torch.nn.Module) -> bool:
    return isinstance(module, _BATCH_NORMS) and not module.training and module.track_running_stats


def _scale(
    module: torch.nn.Module, name: str, state: Callable[[str, str], torch.Tensor]
) -> torch.Tensor:
    """Compute the factor of each channel of a BatchNorm."""
    variance = state(name, "running_var").detach().cpu()
    scale = torch.rsqrt(variance + getattr(module, "eps", 0.0))
    if getattr(module, "affine", False):
        scale = scale * state(name, "weight").detach().cpu()
    return scale
