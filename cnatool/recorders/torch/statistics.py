"""Per-sample statistics of a tensor, computed on the device that it is on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.records.choices import Statistic

# Rounding of a sum of so many is far below what a store promises of sums.
_BLOCK = 256


def device_statistics(rows: torch.Tensor, names: Sequence[Statistic]) -> torch.Tensor:
    """Return statistics over the elements of each row, added up in float64 where the device has it.

    On a CPU, where that takes many times as long, sums of few numbers are float32 (or what the
    tensor is, if that is wider), and those are added up in float64.
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
