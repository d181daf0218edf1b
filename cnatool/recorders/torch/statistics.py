"""Per-sample statistics of a tensor, computed on its device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.records.choices import Statistic

# Rounding errors of sums of this many float32 are far below the accuracy of stored sums.
_BLOCK = 256


def device_statistics(rows: torch.Tensor, names: Sequence[Statistic]) -> torch.Tensor:
    """Compute statistics over the elements of each row, (S, n), in float64 if the device has it.

    On a CPU, where that is many times slower, sums of few numbers are float32 (or the type of the
    tensor, if that is wider), and these are added in float64.
    """
    wide = torch.float32 if rows.device.type == "mps" else torch.float64
    flat = rows.detach().reshape(len(rows), -1)
    if not flat.is_floating_point():
        flat = flat.to(wide)
    return torch.stack([_statistic(flat, name, wide) for name in names])


def _statistic(flat: torch.Tensor, name: Statistic, wide: torch.dtype) -> torch.Tensor:
    if name == "sum":
        return _sum(flat, wide)
    if name == "abs_sum":
        return _sum(flat.abs(), wide)
    if name == "square_sum":
        norm: torch.Tensor = torch.linalg.vector_norm(flat, dim=1, dtype=wide)
        return norm.square()
    if name == "positive_sum":
        return _sum(flat.clamp_min(0), wide)
    if name == "nonzero_count":
        return torch.count_nonzero(flat, dim=1).to(wide)
    least = name == "min"
    if not flat.shape[1]:
        return torch.full((len(flat),), float("inf" if least else "-inf"), dtype=wide)
    return (flat.amin(1) if least else flat.amax(1)).to(wide)


def _sum(flat: torch.Tensor, wide: torch.dtype) -> torch.Tensor:
    if flat.device.type != "cpu" or flat.dtype == torch.float64:
        return flat.sum(1, dtype=wide)
    if flat.dtype != torch.float32:
        flat = flat.float()
    whole = flat.shape[1] // _BLOCK * _BLOCK
    blocks = flat[:, :whole].reshape(len(flat), -1, _BLOCK).sum(2)
    return torch.cat([blocks, flat[:, whole:]], dim=1).sum(1, dtype=wide)
