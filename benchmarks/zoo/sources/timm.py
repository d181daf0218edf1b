"""Networks of timm: one small member of each of its modules first, then more of each."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from functools import partial
from itertools import chain
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

SOURCE = "timm"
_SIDES = (64, 96, 128, 160, 192, 224, 256, 288, 384)


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return "torch", "timm", "onnxscript"


def list_cases() -> Iterator[Case]:
    """List the smallest networks of every module, then the next ones, by both exporters."""
    preload_exporter()
    for family, name, exporter in list_in_rounds(_read_sizes()):
        yield Case(SOURCE, family, name, exporter, partial(_build, name, exporter))


def _read_sizes() -> dict[str, tuple[str, int]]:
    """Return the module and number of parameters of each network, which take minutes to count."""
    declare_operators()
    import timm

    path = Path(tempfile.gettempdir(), f"cnatool-sizes-of-timm-{timm.__version__}.json")
    sizes: dict[str, tuple[str, int]] = {}
    if path.exists():
        sizes.update(json.loads(path.read_text("utf-8")))
        return sizes
    for name in timm.list_models():
        with torch.device("meta"):
            network = timm.create_model(name)
        module = timm.models.model_entrypoint(name).__module__
        count = sum(each.numel() for each in network.parameters())
        sizes[name] = module.removeprefix("timm.models."), count
    path.write_text(json.dumps(sizes), "utf-8")
    return sizes


def _build(name: str, exporter: str, folder: Path) -> BuiltModel:
    import timm

    torch.manual_seed(0)
    # Not one kernel for all of attention, so that its parts can be seen.
    timm.layers.set_fused_attn(False)
    for network, sides in _try_sizes(name):
        for side in sides:
            channels = network.pretrained_cfg.get("input_size", (3, 0, 0))[0]
            shape = (SAMPLES, channels, side, side)
            images = torch.rand(shape, generator=torch.Generator().manual_seed(1))
            try:
                with torch.no_grad():
                    network(images)
            except (AssertionError, RuntimeError, ValueError, IndexError):
                continue
            return export(randomise(network), {"x": images}, exporter, folder)
    raise ValueError("takes no image that was tried")


def _try_sizes(name: str) -> Iterator[tuple[torch.nn.Module, tuple[int, ...]]]:
    """Yield a network made for small images, where it can be told, then as it is."""
    import timm

    ways: list[dict[str, Any]] = [{"img_size": side} for side in _SIDES[:3]]
    for way in chain(ways, ({},)):
        try:
            network = timm.create_model(name, exportable=True, **way).eval()
        except (TypeError, AssertionError, RuntimeError, ValueError):
            continue
        yield network, (way["img_size"],) if way else _SIDES
