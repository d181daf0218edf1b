"""Preprocessing of transformers: ``preprocessor_config.json``.

What a field means depends on the class of image processor. Missing fields take the defaults of that
class if they never changed; default the field is required.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cnatool._util.text import printable
from cnatool.errors import UsageError


@dataclass(frozen=True, slots=True)
class _Processor:
    """The defaults of a class of image processor; None for a required field.

    ``square``: a size of one number is a square, not the shorter side. ``resample``: Pillow's
    number of the filter. ``crop``: the centre is cropped. ``resizes``: the method of resizing.
    """

    square: bool | None = None
    resample: int | None = None
    crop: bool | None = None
    resizes: Literal["plainly", "convnext", "levit", "poolformer"] = "plainly"
    normalises: bool = True


_CLIP = _Processor(square=False, resample=3, crop=True)
_PROCESSORS = {
    "Beit": _Processor(square=True, resample=3),
    "Bit": _CLIP,
    "Blip": _Processor(square=True, resample=3, crop=False),
    "CLIP": _CLIP,
    "ChineseCLIP": _CLIP,
    "ConvNext": _Processor(square=False, resample=3, crop=False, resizes="convnext"),
    "DeiT": _Processor(square=True, resample=3, crop=True),
    "EfficientNet": _Processor(square=True),
    "Levit": _Processor(square=False, resample=3, crop=True, resizes="levit"),
    "MobileNetV1": _Processor(square=False, resample=2, crop=True),
    "MobileNetV2": _Processor(square=False, resample=2, crop=True),
    "MobileViT": _Processor(square=False, crop=True, normalises=False),
    "PoolFormer": _Processor(square=False, resample=3, crop=True, resizes="poolformer"),
    "Pvt": _Processor(square=True, crop=False),
    "Segformer": _Processor(square=True, resample=2, crop=False),
    "Siglip": _Processor(square=False, resample=3, crop=False),
    "ViT": _Processor(square=True, resample=2, crop=False),
}
_FILTERS = ("nearest", "lanczos", "bilinear", "bicubic", "box", "hamming")
# About labels, devices or Python objects, and not about pixels.
_IGNORED = frozenset(
    {
        "_processor_class",
        "_valid_processor_keys",
        "data_format",
        "device",
        "disable_grouping",
        "do_reduce_labels",
        "feature_extractor_type",
        "image_processor_type",
        "input_data_format",
        "model_input_names",
        "processor_class",
        "reduce_labels",
        "return_tensors",
        "transformers_version",
    }
)
_SUPPORTED = frozenset(
    {
        "crop_pct",
        "crop_size",
        "default_to_square",
        "do_center_crop",
        "do_convert_rgb",
        "do_flip_channel_order",
        "do_normalize",
        "do_rescale",
        "do_resize",
        "image_mean",
        "image_std",
        "resample",
        "rescale_factor",
        "size",
    }
)
_EFFICIENTNET = frozenset({"include_top", "rescale_offset"})


def is_transformers(raw: dict[str, Any]) -> bool:
    """Whether a file is the configuration of an image processor."""
    marks = ("image_processor_type", "feature_extractor_type", "do_resize", "image_processor")
    return any(name in raw for name in marks)


def convert_transformers(raw: dict[str, Any]) -> dict[str, Any]:
    """Convert the configuration of an image processor to fields of a recipe."""
    nested = raw.get("image_processor")
    config = nested if isinstance(nested, dict) else raw
    name = _class_name(config)
    if name is not None and name not in _PROCESSORS:
        raise UsageError(
            f"the image processor {printable(name)[:60]} is not supported; choose from "
            f"{', '.join(_PROCESSORS)}."
        )
    kind = _PROCESSORS[name] if name else _Processor()
    known = _IGNORED | _SUPPORTED | (_EFFICIENTNET if name == "EfficientNet" else frozenset())
    for field, value in config.items():
        # What is null or false has no effect, such as do_pad or size_divisor.
        if field not in known and value is not None and value is not False:
            raise UsageError(
                f"{printable(field)[:60]} is not supported: remove it if the model does without."
            )
    return {
        **_geometry(config, kind),
        **_colour(config, mobilevit=name == "MobileViT"),
        **_arithmetic(config, kind, efficientnet=name == "EfficientNet"),
    }


def _class_name(config: dict[str, Any]) -> str | None:
    named = config.get("image_processor_type") or config.get("feature_extractor_type")
    if named is None:
        return None
    # ViTImageProcessor, ViTImageProcessorFast and the older ViTFeatureExtractor are one.
    return re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(named))


def _geometry(config: dict[str, Any], kind: _Processor) -> dict[str, Any]:
    fields: dict[str, Any] = {}
    crop = _flag(config, "do_center_crop", kind.crop)
    if crop:
        fields["crop"] = _pair("crop_size", _drop_null(config.get("crop_size")))
    if _flag(config, "do_resize", True):
        number = kind.resample if config.get("resample") is None else config["resample"]
        if type(number) is not int or not 0 <= number < len(_FILTERS):
            raise UsageError("resample is required: Pillow's number of a filter from 0 to 5.")
        fields["interpolation"] = _FILTERS[number]
        fields["resize"] = _size(config, kind)
        if kind.resizes == "convnext":
            fields |= _convnext(fields, config)
    if "crop" in fields:
        fields["offset"] = "down"
    return fields


def _size(config: dict[str, Any], kind: _Processor) -> int | list[int]:
    """Return the shorter side, or height and width."""
    size = _drop_null(config.get("size"))
    square = _flag(config, "default_to_square", kind.square) if type(size) is int else None
    if type(size) is int and not square:
        size = {"shortest_edge": size}
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        side = _side("size", size["shortest_edge"])
        if kind.resizes == "levit":
            return int(256 / 224 * side)
        return int(side / _share(config, 0.9)) if kind.resizes == "poolformer" else side
    if isinstance(size, dict) and not size.keys() <= {"height", "width"}:
        raise UsageError(f"size with {' and '.join(map(printable, size))} is not supported.")
    if kind.resizes in ("convnext", "poolformer"):
        raise UsageError("size must have a shortest_edge with this image processor.")
    return _pair("size", size)


def _convnext(fields: dict[str, Any], config: dict[str, Any]) -> dict[str, Any]:
    """Crop small sizes from a larger image, and resize to large ones."""
    side = fields["resize"]
    if "crop" in fields:
        raise UsageError("do_center_crop is not supported with crop_pct.")
    if side >= 384:
        return {"resize": [side, side]}
    return {"resize": int(side / _share(config, 224 / 256)), "crop": [side, side]}


def _share(config: dict[str, Any], default: float) -> float:
    share = config.get("crop_pct", default)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.01 <= share <= 1:
        raise UsageError(
            f"crop_pct {printable(share)[:40]} must be the share of the image that is kept."
        )
    return share


def _colour(config: dict[str, Any], *, mobilevit: bool) -> dict[str, Any]:
    if _flag(config, "do_flip_channel_order", mobilevit):
        return {"colour": "bgr"}
    return {"colour": "rgb"} if _flag(config, "do_convert_rgb", False) else {}


def _arithmetic(config: dict[str, Any], kind: _Processor, *, efficientnet: bool) -> dict[str, Any]:
    fields: dict[str, Any] = {"scale": 1.0}
    if _flag(config, "do_rescale", True):
        factor = 1 / 255 if config.get("rescale_factor") is None else config["rescale_factor"]
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise UsageError("rescale_factor must be a number.")
        fields["scale"] = factor
    mean, std = [0.0], [1.0]
    normalises = _flag(config, "do_normalize", kind.normalises)
    again = efficientnet and _flag(config, "include_top", True)
    if normalises or again:
        std = _numbers("image_std", config.get("image_std"))
    if normalises:
        mean = _numbers("image_mean", config.get("image_mean"))
    if efficientnet and _flag(config, "rescale_offset", False):
        mean = [value + 1.0 for value in mean]
    if normalises and again:
        std = [value * value for value in std]
    if any(mean):
        fields["mean"] = mean
    if any(value != 1 for value in std):
        fields["std"] = std
    return fields


def _flag(config: dict[str, Any], name: str, default: bool | None) -> bool:
    value = config.get(name)
    value = default if value is None else value
    if not isinstance(value, bool):
        raise UsageError(f"{name} is required, and must be true or false.")
    return value


def _drop_null(size: Any) -> Any:
    """Drop the fields of a size that are null."""
    if isinstance(size, dict):
        return {name: side for name, side in size.items() if side is not None}
    return size


def _pair(name: str, value: Any) -> list[int]:
    if isinstance(value, dict) and value.keys() == {"height", "width"}:
        value = [value["height"], value["width"]]
    sides = value if isinstance(value, list) and len(value) == 2 else [value, value]
    return [_side(name, side) for side in sides]


def _side(name: str, value: Any) -> int:
    if type(value) is not int or not 1 <= value <= 1 << 15:
        raise UsageError(f"{name} must be in pixels, as a number or with height and width.")
    return value


def _numbers(name: str, value: Any) -> list[float]:
    if value is None:
        raise UsageError(f"{name} is required: a number, or numbers, one per channel.")
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(at, bool) or not isinstance(at, int | float) for at in values):
        raise UsageError(f"{name} must be a number, or numbers, one per channel.")
    return values
