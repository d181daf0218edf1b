"""Networks of transformers: every model type, as small as its configuration allows."""

from __future__ import annotations

import inspect
import os
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zoo.case import BuiltModel, Case, NoSamplesError
from zoo.small_configurations import make_configuration
from zoo.torch_export import EXPORTERS, SAMPLES, export, randomise
from zoo.torchvision_operators import declare_operators

SOURCE = "transformers"
# Larger ones have parts whose size no known setting reduces.
_MOST_PARAMETERS = 8_000_000
_TOKENS, _SHORT, _VOCABULARY, _SIDE, _FRAMES = 12, 6, 99, 32, 4

Inputs = dict[str, torch.Tensor]


def list_packages() -> tuple[str, ...]:
    """List the packages whose versions matter."""
    return "torch", "transformers", "onnxscript"


def list_cases() -> Iterator[Case]:
    """List the model types that have a network without a head, by both exporters."""
    declare_operators()
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "critical")
    from transformers import AutoModel
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    for exporter in EXPORTERS:
        for name, kind in CONFIG_MAPPING.items():
            if kind in AutoModel._model_mapping:
                family = kind.__module__.split(".")[-2]
                yield Case(SOURCE, family, name, exporter, partial(_build, kind, exporter))


def _build(kind: Any, exporter: str, folder: Path) -> BuiltModel:
    network = _make_network(kind)
    reasons = []
    for inputs in _try_inputs(network):
        wrapped = _Network(network, [*inputs])
        try:
            with torch.no_grad():
                wrapped(*inputs.values())
        except Exception as error:  # of any kind: the inputs are guesses
            reasons.append(f"{', '.join(inputs)}: {type(error).__name__} {error}")
            continue
        return export(randomise(wrapped), inputs, exporter, folder)
    raise NoSamplesError("no inputs that were tried fit: " + "; ".join(reasons))


def _make_network(kind: Any) -> Any:
    """Make a network with random weights, its attention in separate operators."""
    from transformers import AutoModel

    def make() -> Any:
        torch.manual_seed(0)
        configuration = make_configuration(kind)
        try:
            return AutoModel.from_config(configuration, attn_implementation="eager")
        except ValueError as error:
            if "attention" not in str(error):
                raise
            return AutoModel.from_config(make_configuration(kind))

    try:
        with torch.device("meta"):
            parameters = sum(each.numel() for each in make().parameters())
        if parameters > _MOST_PARAMETERS:
            raise NoSamplesError(f"no small configuration: {parameters:,} parameters")
    except RuntimeError:
        pass  # not all networks can be made without memory
    try:
        return make().eval()
    except Exception as error:  # of any kind: the configuration is a guess
        raise NoSamplesError(f"no small configuration: {error}") from error


class _Network(torch.nn.Module):
    """A network of positional inputs, without a cache; its results are tensors alone."""

    def __init__(self, network: Any, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names
        accepted = inspect.signature(network.forward).parameters
        self.fixed = {"use_cache": False} if "use_cache" in accepted else {}

    def forward(self, *inputs: torch.Tensor) -> Any:
        result = self.network(**dict(zip(self.names, inputs, strict=True)), **self.fixed)
        values = result.to_tuple() if hasattr(result, "to_tuple") else result
        if isinstance(values, torch.Tensor):
            return values
        return tuple(value for value in values if isinstance(value, torch.Tensor))


def _try_inputs(network: Any) -> Iterator[Inputs]:
    """Yield inputs that may fit, those of more kinds first."""
    accepted = set(inspect.signature(network.forward).parameters)
    make = _Maker(network.config)
    decoder = {"decoder_input_ids": make.tokens(_SHORT)} if "decoder_input_ids" in accepted else {}
    texts = _list_texts(make, accepted)
    others = _list_others(make, accepted)
    for other in others:
        for text in texts:
            yield {**text, **other, **decoder}
        if "input_ids" not in accepted:
            yield {**other, **decoder}
    for text in texts:
        yield {**text, **decoder}
        if decoder:
            yield dict(text)


def _list_texts(make: _Maker, accepted: set[str]) -> list[Inputs]:
    if "input_ids" not in accepted:
        return []
    ids = {"input_ids": make.tokens(_TOKENS)}
    if "bbox" in accepted:
        ids["bbox"] = make.boxes()
    mask = torch.ones(SAMPLES, _TOKENS, dtype=torch.long)
    mask[-1, -3:] = 0
    return [{**ids, "attention_mask": mask}, ids] if "attention_mask" in accepted else [ids]


def _list_others(make: _Maker, accepted: set[str]) -> list[Inputs]:
    """List images, videos, sounds and series of numbers of several shapes."""
    size = make.setting("image_size", _SIDE)
    height, width = size if isinstance(size, list | tuple) else (size, size)
    channels = make.setting("num_channels", 3)
    channels = channels if isinstance(channels, int) else 3
    bands = make.setting("num_mel_bins", 16)
    features = make.setting("num_input_channels", make.setting("input_size", 1))
    length = make.setting("context_length", 32)
    frames = make.setting("num_frames", make.setting("frames_per_clip", _FRAMES))
    video = (frames, channels, height, width)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "pixel_values": (
            (channels, height, width),
            (channels, 64, 64),
            (channels, 224, 224),
            video,
        ),
        "pixel_values_videos": (video,),
        "input_values": ((1600,), (1, 1600), (make.setting("max_length", 64), bands)),
        "input_features": ((bands, 128), (64, bands), (64, 160), (1, 64, bands)),
        "past_values": ((length, features), (length,)),
        "inputs": ((_TOKENS, make.setting("d_model", 32)),),
    }
    return [
        {name: make.numbers(*shape)}
        for name, several in shapes.items()
        if name in accepted
        for shape in several
    ]


class _Maker:
    """Makes random inputs for a configuration."""

    def __init__(self, configuration: Any) -> None:
        parts = ("vision_config", "text_config", "audio_config", "backbone_config", "encoder")
        inner = [getattr(configuration, part, None) for part in parts]
        self._configurations = [configuration, *(each for each in inner if each is not None)]
        self._generator = torch.Generator().manual_seed(0)

    def setting(self, name: str, default: Any) -> Any:
        """Return a setting of the configuration or of a part of it."""
        values = (getattr(each, name, None) for each in self._configurations)
        return next((value for value in values if value is not None), default)

    def numbers(self, *shape: int) -> torch.Tensor:
        """Return normal numbers."""
        return torch.randn(SAMPLES, *shape, generator=self._generator)

    def tokens(self, length: int) -> torch.Tensor:
        """Return ids that stand for nothing special."""
        vocabulary = self.setting("vocab_size", _VOCABULARY)
        end = min(vocabulary, _VOCABULARY) if isinstance(vocabulary, int) else _VOCABULARY // 2
        first = 20 if end > 25 else 0
        return torch.randint(first, end, (SAMPLES, length), generator=self._generator)

    def boxes(self) -> torch.Tensor:
        """Return a box around each token: left, top, right, bottom."""
        corners = torch.randint(0, 50, (SAMPLES, _TOKENS, 4), generator=self._generator)
        return corners.sort(dim=-1).values
