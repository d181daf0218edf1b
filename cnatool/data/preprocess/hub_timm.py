"""Preprocessing of timm: ``pretrained_cfg`` of its ``config.json``."""

from __future__ import annotations

import math
from typing import Any, get_args

from cnatool._util.text import printable
from cnatool.errors import UsageError
from cnatool.records.choices import Interpolation

_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_MODES = ("center", "squash", "border")


def is_timm(raw: dict[str, Any]) -> bool:
    """Whether a file is a configuration of timm."""
    return "pretrained_cfg" in raw or "input_size" in raw


def convert_timm(raw: dict[str, Any]) -> dict[str, Any]:
    """Convert a configuration of timm to fields of a recipe.

    It is read as by ``timm.data.resolve_data_config`` and ``create_transform``: at ``input_size``,
    whatever ``test_input_size`` is. Other fields are ignored.
    """
    config = raw.get("pretrained_cfg", raw)
    if not isinstance(config, dict):
        raise UsageError("pretrained_cfg holds no fields.")
    channels, *size = _size(config.get("input_size"))
    # timm takes what is empty or 0 as missing.
    crop_share = config.get("crop_pct") or 0.875
    interpolation = config.get("interpolation") or "bicubic"
    mode = config.get("crop_mode") or "center"
    mean, std = config.get("mean") or _MEAN, config.get("std") or _STD
    if (
        isinstance(crop_share, bool)
        or not isinstance(crop_share, int | float)
        or not 0.01 <= crop_share <= 100
    ):
        raise UsageError(
            f"crop_pct {printable(crop_share)[:40]}: give the share of the image that is kept."
        )
    if interpolation not in get_args(Interpolation):
        raise UsageError(f"interpolation {printable(interpolation)[:40]} is not supported.")
    if mode not in _MODES:
        raise UsageError(f"crop_mode {printable(mode)[:40]}: choose from {', '.join(_MODES)}.")
    scaled = [math.floor(side / crop_share) for side in size]
    fields: dict[str, Any] = {
        "colour": "rgb" if channels == 3 else "grey",
        "resize": scaled,
        "interpolation": interpolation,
        "crop": size,
        "scale": 1 / 255,
        "mean": mean,
        "std": std,
    }
    if mode == "center" and scaled[0] == scaled[1]:
        fields["resize"] = scaled[0]
    elif mode != "squash":
        fields["fit"] = "cover" if mode == "center" else "contain"
    if mode == "border":
        fields["fill"] = _fill(mean)
    return fields


def _size(value: Any) -> list[int]:
    fits = isinstance(value, list) and len(value) == 3 and all(type(side) is int for side in value)
    if not fits or value[0] not in (1, 3) or not all(1 <= side <= 1 << 15 for side in value[1:]):
        raise UsageError(
            "input_size must be 1 or 3 channels, height and width, as in [3, 224, 224]."
        )
    return list(value)


def _fill(mean: Any) -> list[int]:
    if not all(isinstance(value, int | float) and 0 <= value <= 1 for value in mean):
        raise UsageError("crop_mode border pads with mean, whose values must lie from 0 to 1.")
    return [round(255 * value) for value in mean]
