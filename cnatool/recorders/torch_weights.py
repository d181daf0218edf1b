"""Weights of a PyTorch network's layers, as the writing API takes them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from numpy.typing import NDArray

    from cnatool.recorders.choice import Choice

__all__ = ["layer_arrays"]

_TRANSPOSED = (torch.nn.ConvTranspose1d, torch.nn.ConvTranspose2d, torch.nn.ConvTranspose3d)
_BATCH_NORMS = (torch.nn.BatchNorm1d, torch.nn.BatchNorm2d, torch.nn.BatchNorm3d)


def layer_arrays(
    network: torch.nn.Module, choice: Choice, initial_state: Mapping[str, torch.Tensor] | None
) -> dict[str, Any]:
    """Give ``weights``, ``initial_weights`` and ``parameters`` of `cnatool.create_store`.

    A BatchNorm in ``eval`` mode that follows a layer is folded into its weights.

    Raises
    ------
    UsageError
        If the initial state is not of this network.
    """
    found: dict[str, Any] = {
        "weights": _arrays(network, choice, network.state_dict().__getitem__),
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
    }
    if initial_state is not None:
        try:
            found["initial_weights"] = _arrays(network, choice, initial_state.__getitem__)
        except KeyError as error:
            raise UsageError(f"initial_state: {error} is missing.") from error
    return found


def _arrays(
    network: torch.nn.Module, choice: Choice, state: Callable[[str], torch.Tensor]
) -> dict[str, NDArray[Any]]:
    modules = dict(network.named_modules())
    arrays: dict[str, NDArray[Any]] = {}
    # Layers that call one module share its weights, which the same array says.
    made: dict[tuple[str, str | None], NDArray[Any]] = {}
    for layer in choice.layers:
        tensor = layer.linear or layer.preactivation
        name = choice.modules.get(tensor)
        if name is None or not isinstance(getattr(modules[name], "weight", None), torch.Tensor):
            continue
        normaliser = choice.normalisers.get(tensor)
        if normaliser is not None and not _folds(modules[normaliser]):
            normaliser = None
        key = (name, normaliser)
        if key not in made:
            weight = _outputs_first(modules[name], state(_joined(name, "weight")))
            if normaliser is not None:
                scale = _scale(modules[normaliser], normaliser, state)
                weight = weight * scale.reshape(-1, *[1] * (weight.ndim - 1))
            made[key] = weight.numpy()
        arrays[tensor] = made[key]
    return arrays


def _joined(module: str, name: str) -> str:
    return f"{module}.{name}" if module else name


def _outputs_first(module: torch.nn.Module, weight: torch.Tensor) -> torch.Tensor:
    """Give weights as (out, in, …) in float32 or wider, on the CPU."""
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
    module: torch.nn.Module, name: str, state: Callable[[str], torch.Tensor]
) -> torch.Tensor:
    """Give what a BatchNorm multiplies each channel with."""
    variance = state(_joined(name, "running_var")).detach().cpu()
    scale = torch.rsqrt(variance + getattr(module, "eps", 0.0))
    if getattr(module, "affine", False):
        scale = scale * state(_joined(name, "weight")).detach().cpu()
    return scale
