"""All classifiers, segmenters and video networks of torchvision, with random weights."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zoo.case import BuiltModel, Case
from zoo.torch_export import (
    SAMPLES,
    export,
    list_in_rounds,
    preload_exporter,
    randomise,
)
from zoo.torchvision_operators import declare_operators

SOURCE = "torchvision"
# Sides of the images to try: the smallest that the network takes.
_SIDES = (64, 96, 128, 224, 299)


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return "torch", "torchvision", "onnxscript"


def list_cases() -> Iterator[Case]:
    """List all networks, one exporter after the other."""
    declare_operators()
    preload_exporter()
    from torchvision import models

    sizes = {}
    for name in models.list_models():
        family = models.get_model_builder(name).__module__.removeprefix("torchvision.models.")
        # Detectors need compiled operators, and quantised networks an engine.
        if not family.startswith(("detection", "quantization")):
            parameters = models.get_model_weights(name).DEFAULT.meta["num_params"]
            sizes[name] = family, parameters
    for family, name, exporter in list_in_rounds(sizes):
        yield Case(SOURCE, family, name, exporter, partial(_build, name, exporter))


def _make(name: str) -> torch.nn.Module:
    from torchvision import models

    ways: dict[str, Any] = {"weights": None}
    if "segmentation" in models.get_model_builder(name).__module__:
        ways["weights_backbone"] = None
    if name in ("googlenet", "inception_v3"):
        ways |= {"aux_logits": False, "init_weights": False}
    network: torch.nn.Module = models.get_model(name, **ways)
    return network


def _build(name: str, exporter: str, folder: Path) -> BuiltModel:
    from torchvision import models

    torch.manual_seed(0)
    network = randomise(_make(name))
    module = models.get_model_builder(name).__module__
    frames = [(8,), (16,)] if ".video." in module else [()]
    count = 2 if ".optical_flow." in module else 1
    return export(network, _make_images(network, frames, count), exporter, folder)


def _make_images(
    network: torch.nn.Module, frames: Sequence[tuple[int, ...]], count: int
) -> dict[str, torch.Tensor]:
    """Make images, pairs of them or videos, of the smallest size that a network takes."""
    generator = torch.Generator().manual_seed(1)
    for frame in frames:
        for side in _SIDES:
            shape = (SAMPLES, 3, *frame, side, side)
            images = [torch.rand(shape, generator=generator) for _ in range(count)]
            try:
                with torch.no_grad():
                    network(*images)
            except (AssertionError, RuntimeError, ValueError):
                continue
            return {f"x{number}": image for number, image in enumerate(images)}
    raise ValueError("takes no image that was tried")
