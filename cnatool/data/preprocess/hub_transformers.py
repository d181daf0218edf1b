"""Preprocessing as transformers keeps it beside weights: ``preprocessor_config.json``.

What a field means depends on the class of image processor. What a file leaves open comes from the
defaults of that class where they never changed; where they did, the field must be there.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Literal

from cnatool._util.text import printable
from cnatool.errors import UsageError


@dataclass(frozen=True, slots=True)
class _Processor:
    """What a class of image processor does where its file says nothing; None: it must say so.

    ``square``: a size of one number is a square, not the shorter side. ``resample``: Pillow's
    number of the filter. ``crop``: the middle is cut out. ``resizes``: which has a way of its own
    to resize.
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
# Says what to do with labels, devices or Python objects, and nothing about pixels.
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
_UNDERSTOOD = frozenset(
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
    """Tell whether a file's fields are those of an image processor."""
    marks = ("image_processor_type", "feature_extractor_type", "do_resize", "image_processor")
    return any(name in raw for name in marks)


def convert_transformers(raw: dict[str, Any]) -> dict[str, Any]:
    """Say as fields of a recipe what an image processor does."""
    nested = raw.get("image_processor")
    held = nested if isinstance(nested, dict) else raw
    name = _class_name(held)
    if name is not None and name not in _PROCESSORS:
        raise UsageError(
            f"the image processor {printable(name)[:60]} is not understood; there are "
            f"{', '.join(_PROCESSORS)}."
        )
    kind = _PROCESSORS[name] if name else _Processor()
    known = _IGNORED | _UNDERSTOOD | (_EFFICIENTNET if name == "EfficientNet" else frozenset())
    for field, value in held.items():
        # What is null or false is not asked for, such as do_pad or size_divisor.
        if field not in known and value is not None and value is not False:
            raise UsageError(
                f"{printable(field)[:60]} is not understood here, and asks for something: take it "
                "away if the model does without."
            )
    return {
        **_geometry(held, kind),
        **_colour(held, mobilevit=name == "MobileViT"),
        **_arithmetic(held, kind, efficientnet=name == "EfficientNet"),
    }


def _class_name(held: dict[str, Any]) -> str | None:
    named = held.get("image_processor_type") or held.get("feature_extractor_type")
    if named is None:
        return None
    # ViTImageProcessor, ViTImageProcessorFast and the older ViTFeatureExtractor are one.
    return re.sub(r"(ImageProcessor|FeatureExtractor)(Fast|Pil)?$", "", str(named))


def _geometry(held: dict[str, Any], kind: _Processor) -> dict[str, Any]:
    made: dict[str, Any] = {}
    crop = _flag(held, "do_center_crop", kind.crop)
    if crop:
        made["crop"] = _pair("crop_size", _said(held.get("crop_size")))
    if _flag(held, "do_resize", True):
        number = kind.resample if held.get("resample") is None else held["resample"]
        if type(number) is not int or not 0 <= number < len(_FILTERS):
            raise UsageError("resample must be there, as Pillow's number of a filter from 0 to 5.")
        made["interpolation"] = _FILTERS[number]
        made["resize"] = _size(held, kind)
        if kind.resizes == "convnext":
            made |= _convnext(made, held)
    if "crop" in made:
        made["offset"] = "down"
    return made


def _size(held: dict[str, Any], kind: _Processor) -> int | list[int]:
    """Give the shorter side, or height and width."""
    size = _said(held.get("size"))
    square = _flag(held, "default_to_square", kind.square) if type(size) is int else None
    if type(size) is int and not square:
        size = {"shortest_edge": size}
    if isinstance(size, dict) and size.keys() == {"shortest_edge"}:
        side = _side("size", size["shortest_edge"])
        if kind.resizes == "levit":
            return int(256 / 224 * side)
        return int(side / _share(held, 0.9)) if kind.resizes == "poolformer" else side
    if isinstance(size, dict) and not size.keys() <= {"height", "width"}:
        raise UsageError(f"size with {' and '.join(map(printable, size))} cannot be done here.")
    if kind.resizes in ("convnext", "poolformer"):
        raise UsageError("size must have a shortest_edge with this image processor.")
    return _pair("size", size)


def _convnext(made: dict[str, Any], held: dict[str, Any]) -> dict[str, Any]:
    """Small sizes are cut from a larger picture, large ones are met exactly."""
    side = made["resize"]
    if "crop" in made:
        raise UsageError("do_center_crop cannot be done beside crop_pct.")
    if side >= 384:
        return {"resize": [side, side]}
    return {"resize": int(side / _share(held, 224 / 256)), "crop": [side, side]}


def _share(held: dict[str, Any], otherwise: float) -> float:
    share = held.get("crop_pct", otherwise)
    if isinstance(share, bool) or not isinstance(share, int | float) or not 0.01 <= share <= 1:
        raise UsageError(f"crop_pct {printable(share)[:40]} must be the share that is kept.")
    return share


def _colour(held: dict[str, Any], *, mobilevit: bool) -> dict[str, Any]:
    if _flag(held, "do_flip_channel_order", mobilevit):
        return {"colour": "bgr"}
    return {"colour": "rgb"} if _flag(held, "do_convert_rgb", False) else {}


def _arithmetic(held: dict[str, Any], kind: _Processor, *, efficientnet: bool) -> dict[str, Any]:
    made: dict[str, Any] = {"scale": 1.0}
    if _flag(held, "do_rescale", True):
        factor = 1 / 255 if held.get("rescale_factor") is None else held["rescale_factor"]
        if isinstance(factor, bool) or not isinstance(factor, int | float):
            raise UsageError("rescale_factor must be a number.")
        made["scale"] = factor
    mean, std = [0.0], [1.0]
    normalises = _flag(held, "do_normalize", kind.normalises)
    again = efficientnet and _flag(held, "include_top", True)
    if normalises or again:
        std = _numbers("image_std", held.get("image_std"))
    if normalises:
        mean = _numbers("image_mean", held.get("image_mean"))
    if efficientnet and _flag(held, "rescale_offset", False):
        mean = [value + 1.0 for value in mean]
    if normalises and again:
        std = [value * value for value in std]
    if any(mean):
        made["mean"] = mean
    if any(value != 1 for value in std):
        made["std"] = std
    return made


def _flag(held: dict[str, Any], name: str, otherwise: bool | None) -> bool:
    value = held.get(name)
    value = otherwise if value is None else value
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be there, and be true or false.")
    return value


def _said(size: Any) -> Any:
    """Leave out what a size says nothing of."""
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
        raise UsageError(f"{name} must be there, as a number, or numbers, one a channel.")
    values = value if isinstance(value, list) else [value]
    if not values or any(isinstance(at, bool) or not isinstance(at, int | float) for at in values):
        raise UsageError(f"{name} must be a number, or numbers, one a channel.")
    return values
