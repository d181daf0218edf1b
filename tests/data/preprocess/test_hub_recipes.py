"""Preprocessing that model hubs keep beside weights, with the values of well-known models."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from PIL import Image
from support.peers import peer

from cnatool.backend.inputs import ModelInput
from cnatool.data.images.transform import transform_array
from cnatool.data.preprocess.apply import (
    PreprocessOptions,
    apply_preprocessing,
    plan_preprocessing,
)
from cnatool.data.preprocess.recipe import Recipe, read_recipe
from cnatool.data.source import InputSpec
from cnatool.errors import UsageError
from cnatool.records.image_transform import Geometry

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = ((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
BYTE = 0.00392156862745098


def published(norm: Any, name: str, resample: int, size: Any, **fields: Any) -> dict[str, Any]:
    kind = "feature_extractor" if name.endswith("Extractor") else "image_processor"
    fields |= {f"{kind}_type": name, "resample": resample, "size": size}
    if kind == "image_processor" and not name.endswith("Fast"):
        fields = {"do_rescale": True, "rescale_factor": BYTE} | fields
    mean, std = norm
    return {"do_resize": True, "do_normalize": True, "image_mean": mean, "image_std": std} | fields


def pixels(height: int, width: int | None = None) -> dict[str, int]:
    return {"height": height, "width": width or height}


CROPPED = {"do_center_crop": True, "crop_size": pixels(224)}
CROP = {"do_center_crop": True, "crop_size": 224}
EDGE = {"shortest_edge": 256}
MODELS = {
    "vit-base-patch16-224": published(HALF, "ViTFeatureExtractor", 2, 224),
    "vit-base-patch16-224, newer": published(HALF, "ViTImageProcessor", 2, pixels(224)),
    "swin-tiny": published(IMAGENET, "ViTImageProcessorFast", 3, 224, do_pad=None),
    "resnet-50": published(
        IMAGENET, "ConvNextFeatureExtractor", 3, {"shortest_edge": 224}, crop_pct=0.875
    ),
    "convnext-base-384": published(IMAGENET, "ConvNextFeatureExtractor", 3, 384, crop_pct=0.95),
    "clip-vit-base-patch32": published(CLIP, "CLIPFeatureExtractor", 3, 224, **CROP),
    "dinov2-base": published(
        IMAGENET, "BitImageProcessor", 3, EDGE, do_convert_rgb=True, **CROPPED
    ),
    "deit-base": published(IMAGENET, "DeiTFeatureExtractor", 3, 256, **CROP),
    "siglip-base": published(HALF, "SiglipImageProcessor", 3, pixels(224)),
    "mobilenet_v2": published(HALF, "MobileNetV2ImageProcessor", 2, EDGE, **CROPPED),
    "mobilevit-small": {
        "feature_extractor_type": "MobileViTFeatureExtractor",
        "crop_size": 256,
        "do_center_crop": True,
        "do_flip_channel_order": True,
        "do_resize": True,
        "resample": 2,
        "size": 288,
    },
    "levit-128S": published(IMAGENET, "LevitFeatureExtractor", 3, 224, **CROP),
    "poolformer_s12": published(
        IMAGENET, "PoolFormerFeatureExtractor", 3, 224, crop_pct=0.9, **CROP
    ),
    "efficientnet-b0": published(
        (IMAGENET[0], (0.47853944, 0.4732864, 0.47434163)),
        "EfficientNetImageProcessor",
        0,
        pixels(224),
        do_center_crop=False,
        crop_size=pixels(289),
        include_top=True,
        rescale_offset=False,
    ),
    "align-base": published(
        HALF,
        "EfficientNetImageProcessor",
        2,
        pixels(346),
        do_normalize=False,
        do_center_crop=True,
        crop_size=pixels(289),
        include_top=False,
        rescale_factor=2 * BYTE,
        rescale_offset=True,
    ),
}
SQUARE = (224, 224)
OPTIONS = {norm: PreprocessOptions(1 / 255, *norm) for norm in (IMAGENET, HALF, CLIP)}


def bicubic(resize: Any, **more: Any) -> Geometry:
    return Geometry(resize=resize, interpolation="bicubic", **more)


DOWN: Any = {"crop": SQUARE, "offset": "down"}
EXPECTED = {
    "vit-base-patch16-224": (Geometry(resize=SQUARE), OPTIONS[HALF]),
    "vit-base-patch16-224, newer": (Geometry(resize=SQUARE), OPTIONS[HALF]),
    "swin-tiny": (bicubic(SQUARE), OPTIONS[IMAGENET]),
    "resnet-50": (bicubic(256, **DOWN), OPTIONS[IMAGENET]),
    "convnext-base-384": (bicubic((384, 384)), OPTIONS[IMAGENET]),
    "clip-vit-base-patch32": (bicubic(224, **DOWN), OPTIONS[CLIP]),
    "dinov2-base": (bicubic(256, colour="rgb", **DOWN), OPTIONS[IMAGENET]),
    "deit-base": (bicubic((256, 256), **DOWN), OPTIONS[IMAGENET]),
    "siglip-base": (bicubic(SQUARE), OPTIONS[HALF]),
    "mobilenet_v2": (Geometry(resize=256, **DOWN), OPTIONS[HALF]),
    "mobilevit-small": (
        Geometry(resize=288, crop=(256, 256), offset="down", colour="bgr"),
        PreprocessOptions(1 / 255),
    ),
    "levit-128S": (bicubic(256, **DOWN), OPTIONS[IMAGENET]),
    "poolformer_s12": (bicubic(248, **DOWN), OPTIONS[IMAGENET]),
    "align-base": (
        Geometry(resize=(346, 346), crop=(289, 289), offset="down"),
        PreprocessOptions(1 / 127.5, (1.0,)),
    ),
}


def read(folder: Path, fields: dict[str, Any]) -> Recipe:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(fields), "utf-8")
    return read_recipe(path)


def prepared(image: np.ndarray[Any, Any], recipe: Recipe) -> np.ndarray[Any, Any]:
    """What a model of channels first receives."""
    geometry = recipe.geometry()
    made = image if geometry is None else transform_array(image, geometry)
    spec = InputSpec("images", made.dtype, made.shape, "hwc")
    target = ModelInput("x", np.dtype("f4"), ("n", made.shape[2], *made.shape[:2]))
    return apply_preprocessing(made[None], plan_preprocessing(spec, target, recipe.options())[0])[0]


def noise(height: int, width: int) -> np.ndarray[Any, Any]:
    small = np.random.default_rng(height * width).integers(0, 256, (9, 9, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BOX))


# --- transformers -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EXPECTED)
def test_published_values(tmp_path: Path, name: str) -> None:
    recipe = read(tmp_path, MODELS[name])
    assert (recipe.geometry(), recipe.options()) == EXPECTED[name]


def test_efficientnet_divides_twice(tmp_path: Path) -> None:
    options = read(tmp_path, MODELS["efficientnet-b0"]).options()
    np.testing.assert_allclose(options.std, IMAGENET[1], rtol=1e-6)
    assert options.mean == IMAGENET[0]
    fields = {**MODELS["efficientnet-b0"], "do_normalize": False, "rescale_offset": True}
    options = read(tmp_path, fields).options()
    assert options.mean == (1.0,)
    assert options.std == (0.47853944, 0.4732864, 0.47434163)


def test_what_is_not_asked_for(tmp_path: Path) -> None:
    vit = {"image_processor_type": "ViTImageProcessor", "do_resize": False, "do_normalize": False}
    recipe = read(tmp_path, {**vit, "do_rescale": False})
    assert recipe.geometry() is None
    assert recipe.options() == PreprocessOptions(1.0)
    recipe = read(tmp_path, {**vit, "do_pad": False, "size_divisor": None, "reduce_labels": True})
    assert recipe.options() == PreprocessOptions(1 / 255)
    size = {"height": 8, "width": 9, "shortest_edge": None, "longest_edge": None}
    recipe = read(tmp_path, {**MODELS["swin-tiny"], "size": size, "crop_size": None})
    assert recipe.geometry() == Geometry(resize=(8, 9), interpolation="bicubic")
    # A file of a whole processor holds that of its images.
    nested = {"image_processor": vit, "processor_class": "CLIPProcessor"}
    assert read(tmp_path, nested).options() == PreprocessOptions(1 / 255)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"image_processor_type": "DonutImageProcessor"},
            "processor Donut is not supported; choos",
        ),
        ({"image_processor_type": "x\x1b[1m"}, r"processor 'x\\x1b\[1m' is not supported"),
        ({"image_processor_type": 3}, "processor 3 is not supported"),
        ({"do_pad": True}, "do_pad is not supported: remove it"),
        ({"do_thumbnail": True}, "do_thumbnail is not supported"),
        ({"size_divisor": 32}, "size_divisor is not supported"),
        ({"patch_size": 14}, "patch_size is not supported"),
        ({"include_top": True}, "include_top is not supported"),
        ({"auto_map": {"AutoImageProcessor": "x.y"}}, "auto_map is not supported"),
        ({"size": None}, "size must be in pixels, as a number or with height and width"),
        ({"size": {"longest_edge": 512}}, "size with longest_edge is not supported"),
        ({"size": {"shortest_edge": 5, "longest_edge": 9}}, "size with .* and .* is not supported"),
        ({"size": {"height": 5}}, "size must be in pixels"),
        ({"size": {"height": 5, "width": "x"}}, "size must be in pixels"),
        ({"size": -1}, "size must be in pixels"),
        ({"size": True}, "size must be in pixels"),
        ({"resample": 6}, "resample is required: Pillow's number of a filter from 0 to 5"),
        ({"resample": "bicubic"}, "resample is required"),
        ({"do_resize": "yes"}, "do_resize is required, and must be true or false"),
        ({"do_center_crop": True}, "crop_size must be in pixels"),
        ({"image_mean": None}, "image_mean is required: a number, or numbers, one p"),
        ({"image_std": None}, "image_std is required: a number, or numbers, one p"),
        ({"image_mean": "0.5"}, "image_mean must be a number, or numbers, one per channel"),
        ({"image_std": [0.5, 0, 0.5]}, "std 0.5 0 0.5: give"),
        ({"image_std": [0.5, 0.5]}, "mean has 3 and std 2 values"),
        ({"rescale_factor": "1/255"}, "rescale_factor must be a number"),
        ({"rescale_factor": [0.5, 0.5]}, "rescale_factor must be a number"),
        ({"size": {"height": None, "width": None}}, "size must be in pixels"),
        (
            {"image_processor_type": "BeitImageProcessor"},
            "do_center_crop is required, and must be tr",
        ),
        (
            {"image_processor_type": "EfficientNetImageProcessor", "resample": None},
            "do_center_crop is required",
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor"},
            "size must have a shortest_edge with this image processor",
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 224, "crop_pct": 0},
            "crop_pct 0 must be the share of the image that is kept",
        ),
        (
            {"image_processor_type": "ConvNextImageProcessor", "size": 224, **CROPPED},
            "do_center_crop is not supported with crop_pct",
        ),
    ],
)
def test_what_transformers_does_and_we_do_not(
    tmp_path: Path, changed: dict[str, Any], text: str
) -> None:
    with pytest.raises(UsageError, match=f"preprocessor_config.json: .*{text}"):
        read(tmp_path, {**MODELS["vit-base-patch16-224, newer"], **changed})


def test_without_a_class_all_must_be_said(tmp_path: Path) -> None:
    said = published(HALF, "?", 1, pixels(9, 8), do_center_crop=False)
    for name in ("image_processor_type", "do_rescale", "rescale_factor"):
        del said[name]
    recipe = read(tmp_path, said)
    assert recipe.geometry() == Geometry(resize=(9, 8), interpolation="lanczos")
    for field, text in (
        ("resample", "resample is required"),
        ("do_center_crop", "do_center_crop is required"),
    ):
        with pytest.raises(UsageError, match=text):
            read(tmp_path, {name: at for name, at in said.items() if name != field})
    with pytest.raises(UsageError, match="default_to_square is required"):
        read(tmp_path, {**said, "size": 9})


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("size", [(300, 401), (523, 411), (600, 600)])
def test_transformers_makes_the_same(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    transformers = peer("transformers")
    fields = dict(MODELS[name])
    named = fields.pop("image_processor_type", None) or fields.pop("feature_extractor_type")
    base = named.replace("FeatureExtractor", "ImageProcessor").removesuffix("Fast")
    if not hasattr(transformers, base + "Pil"):
        pytest.skip(f"this transformers has no {base}Pil, which goes by Pillow")
    processor = getattr(transformers, base + "Pil")(**fields)
    image = noise(*size)
    [expected] = processor(Image.fromarray(image), return_tensors="np")["pixel_values"]
    out = prepared(image, read(tmp_path, MODELS[name]))
    # It scales in double precision and rounds, where we divide; the pixels are the same.
    np.testing.assert_allclose(out, expected, rtol=0, atol=3e-6)


# --- timm ---------------------------------------------------------------------------------------

TIMM: dict[str, dict[str, Any]] = {
    "resnet50.a1_in1k": {
        "tag": "a1_in1k",
        "custom_load": False,
        "input_size": [3, 224, 224],
        "test_input_size": [3, 288, 288],
        "fixed_input_size": False,
        "interpolation": "bicubic",
        "crop_pct": 0.95,
        "test_crop_pct": 1.0,
        "crop_mode": "center",
        "mean": IMAGENET[0],
        "std": IMAGENET[1],
        "num_classes": 1000,
        "pool_size": [7, 7],
        "first_conv": "conv1",
        "classifier": "fc",
    },
    "vit_base_patch16_224.augreg_in21k": {
        "input_size": [3, 224, 224],
        "interpolation": "bicubic",
        "crop_pct": 0.9,
        "mean": HALF[0],
        "std": HALF[1],
    },
    "squashed": {"input_size": [3, 160, 192], "crop_pct": 0.9, "crop_mode": "squash"},
    "not square": {"input_size": [3, 160, 192], "interpolation": "bilinear"},
    "bordered": {"input_size": [3, 160, 192], "crop_pct": 1.0, "crop_mode": "border"},
    "bordered and cropped": {"input_size": [3, 192, 192], "crop_pct": 0.9, "crop_mode": "border"},
}
BICUBIC = {"interpolation": "bicubic", "colour": "rgb"}


@pytest.mark.parametrize(
    ("name", "geometry"),
    [
        # floor(224 / 0.95), floor(224 / 0.9), floor(160 / 0.9), …
        ("resnet50.a1_in1k", Geometry(resize=235, crop=SQUARE, **BICUBIC)),
        ("vit_base_patch16_224.augreg_in21k", Geometry(resize=248, crop=SQUARE, **BICUBIC)),
        ("squashed", Geometry(resize=(177, 213), crop=(160, 192), **BICUBIC)),
        (
            "not square",
            Geometry(resize=(182, 219), crop=(160, 192), fit="cover", colour="rgb"),
        ),
        (
            "bordered",
            Geometry(
                resize=(160, 192), crop=(160, 192), fit="contain", fill=(124, 116, 104), **BICUBIC
            ),
        ),
    ],
)
def test_timm_values(tmp_path: Path, name: str, geometry: Geometry) -> None:
    recipe = read(tmp_path, {"architecture": "x", "pretrained_cfg": TIMM[name]})
    assert recipe.geometry() == geometry
    norm = HALF if "vit" in name else IMAGENET
    assert recipe.options() == PreprocessOptions(1 / 255, *norm)
    assert read(tmp_path, TIMM[name]) == recipe


def test_timm_grey(tmp_path: Path) -> None:
    fields = {"input_size": [1, 28, 28], "mean": [0.1307], "std": [0.3081], "crop_pct": 1}
    recipe = read(tmp_path, fields)
    assert recipe.geometry() == Geometry(
        resize=28, crop=(28, 28), interpolation="bicubic", colour="grey"
    )
    assert recipe.options() == PreprocessOptions(1 / 255, (0.1307,), (0.3081,))


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        ({"input_size": None}, r"input_size must be 1 or 3 channels, height and width, as in \[3,"),
        ({"input_size": [3, 224]}, "input_size must be"),
        ({"input_size": [4, 224, 224]}, "input_size must be 1 or 3 channels"),
        ({"input_size": [3, 224, 1e3]}, "input_size must be"),
        ({"input_size": [3, 0, 224]}, "input_size must be"),
        ({"crop_pct": -1}, "crop_pct -1: give the share of the image that is kept"),
        ({"crop_pct": "x"}, "crop_pct x: give the share"),
        ({"crop_pct": 1e-9}, "crop_pct 1e-09: give the share"),
        ({"interpolation": "random"}, "interpolation random is not supported"),
        ({"crop_mode": "rrc"}, "crop_mode rrc: choose from center, squash, border"),
        ({"mean": "x"}, "mean: expected float"),
        ({"mean": [9, 9, 9], "crop_mode": "border"}, "crop_mode border pads with mean, whose valu"),
        ({"std": [0, 0, 0]}, "other than 0"),
    ],
)
def test_what_timm_cannot_mean(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    with pytest.raises(UsageError, match=text):
        read(tmp_path, {"pretrained_cfg": {**TIMM["resnet50.a1_in1k"], **changed}})


def test_pretrained_cfg_without_fields(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="pretrained_cfg holds no fields"):
        read(tmp_path, {"pretrained_cfg": "resnet50"})


@pytest.mark.parametrize("name", TIMM)
@settings(
    deadline=None, max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(size=st.tuples(st.integers(100, 700), st.integers(100, 700)))
def test_timm_makes_the_same(tmp_path: Path, name: str, size: tuple[int, int]) -> None:
    timm = peer("timm.data")
    assume(min(size) * 4 > max(size))
    config = timm.resolve_data_config({}, pretrained_cfg=TIMM[name])
    image = noise(*size)
    expected = timm.create_transform(**config)(Image.fromarray(image)).numpy()
    out = prepared(image, read(tmp_path, TIMM[name]))
    np.testing.assert_array_equal(out, expected)
