"""Networks of transformers: every model type, as small as its configuration allows."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch

from zoo.case import BuiltModel, Case, NoSamplesError
from zoo.small_configurations import list_configurations
from zoo.torch_export import EXPORTERS, SAMPLES, export, randomise
from zoo.torchvision_operators import declare_operators

SOURCE = "transformers"
# Larger ones have parts whose size no known setting reduces.
_MOST_PARAMETERS = 60_000_000
_TOKENS, _SHORT, _VOCABULARY, _SIDE, _FRAMES, _PATCHES = 12, 6, 99, 32, 4, 4

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
    network, inputs = make_network(kind)
    return export(randomise(network), inputs, exporter, folder)


def make_network(kind: Any) -> tuple[torch.nn.Module, Inputs]:
    """Make a small network of a type with random weights, and inputs that it takes."""
    reasons = []
    for configure in list_configurations(kind):
        try:
            network = _make_network(configure)
        except ImportError:
            raise
        except Exception as error:  # of any kind: the configuration is a guess
            reasons.append(f"no small configuration: {_describe(error)}")
            continue
        for inputs in _try_inputs(network):
            wrapped = _Network(network, [*inputs])
            try:
                with torch.no_grad():
                    wrapped(*inputs.values())
            except Exception as error:  # of any kind: the inputs are guesses
                reasons.append(f"{', '.join(inputs)}: {_describe(error)}")
                continue
            return wrapped, inputs
    raise NoSamplesError("no inputs that were tried fit: " + "; ".join(dict.fromkeys(reasons)))


def _describe(error: Exception) -> str:
    return f"{type(error).__name__} {error}"


def _make_network(configure: Callable[[], Any]) -> Any:
    """Make a network with random weights, its attention in separate operators."""
    from transformers import AutoModel

    def make() -> Any:
        torch.manual_seed(0)
        # Experts as products of gathered weights, which exporters know.
        parts = {"attn_implementation": "eager", "experts_implementation": "batched_mm"}
        try:
            return AutoModel.from_config(configure(), **parts)
        except ValueError as error:
            if "attention" not in str(error):
                raise
            return AutoModel.from_config(configure())

    try:
        with torch.device("meta"):
            parameters = sum(each.numel() for each in make().parameters())
    except RuntimeError:
        parameters = 0  # not all networks can be made without memory
    if parameters > _MOST_PARAMETERS:
        raise ValueError(f"{parameters:,} parameters")
    return make().eval()


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
    signature = inspect.signature(network.forward).parameters
    accepted = set(signature)
    required = {name for name, each in signature.items() if each.default is each.empty}
    make = _Maker(network.config)
    decoder = {"decoder_input_ids": make.tokens(_SHORT)} if "decoder_input_ids" in accepted else {}
    texts = _list_texts(make, accepted)
    for other in _list_others(make, accepted):
        more = _list_companions(make, other, accepted, required)
        for text in texts:
            yield {**text, **other, **more, **decoder}
        if "input_ids" not in accepted:
            yield {**other, **more, **decoder}
    if "states" in accepted:
        yield _list_trajectories(make)
    for text in texts:
        more = _list_companions(make, text, accepted, required)
        yield {**text, **more, **decoder}
        if decoder:
            yield {**text, **more}
    if not texts and {"query_embeds"} <= required:
        yield {
            "query_embeds": make.numbers(4, make.setting("hidden_size", 32)),
            "encoder_hidden_states": make.numbers(5, make.setting("encoder_hidden_size", 32)),
        }


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
    bands = make.setting("num_mel_bins", make.setting("input_feat_per_channel", 16))
    features = make.setting("num_input_channels", make.setting("input_size", 1))
    length = make.setting("context_length", 32) + max(make.setting("lags_sequence", [0]))
    frames = make.setting("num_frames", make.setting("frames_per_clip", _FRAMES))
    patch = make.setting("patch_size", 8)
    video = (frames, channels, height, width)
    shapes: dict[str, tuple[tuple[int, ...], ...]] = {
        "pixel_values": (
            (channels, height, width),
            (channels, 64, 64),
            (channels, 224, 224),
            video,
            (1, channels, height, width),
            (2, channels, 64, 64),
            (_PATCHES**2, channels * patch**2 if isinstance(patch, int) else 1),
        ),
        "pixel_values_videos": (video,),
        "input_values": ((1600,), (1, 1600), (make.setting("max_length", 64), bands)),
        "input_features": (
            (bands, 128),
            (64, bands),
            (64, 160),
            (1, 64, bands),
            (64, make.setting("input_dim", 80)),
            (128, 64),
            (64, 128),
            (1, 1001, make.setting("num_mel_bins", 64)),
        ),
        "audio_mel": ((64, make.setting("input_feat_size", 128)),),
        "past_values": ((length, features), (length,)),
        "inputs": ((_TOKENS, make.setting("d_model", 32)),),
        "visual_feats": ((5, make.setting("visual_feat_dim", 2048)),),
    }
    return [
        {name: make.numbers(*shape)}
        for name, several in shapes.items()
        if name in accepted
        for shape in several
    ]


def _list_companions(make: _Maker, given: Inputs, accepted: set[str], required: set[str]) -> Inputs:
    """List inputs that say more of the given ones, which networks take beside them."""
    name, values = list(given.items())[-1]
    ones = torch.ones(SAMPLES, values.shape[1], dtype=torch.long)
    found: Inputs = {}
    if name == "past_values":
        ahead = make.setting("prediction_length", 4)
        found = {
            "past_values_padding": torch.zeros_like(ones),
            "freq": torch.zeros(SAMPLES, 1, dtype=torch.long),
        }
        if "past_time_features" in required:
            known = make.setting("num_time_features", 1)
            found |= {
                "past_time_features": make.numbers(values.shape[1], known),
                "past_observed_mask": torch.ones_like(values),
                "future_values": make.numbers(ahead, *values.shape[2:]),
                "future_time_features": make.numbers(ahead, known),
            }
            required = required | {"future_values", "future_time_features"}
    elif name == "visual_feats":
        found = {"visual_pos": make.numbers(values.shape[1], 4).sigmoid()}
        required = required | {"visual_pos"}
    elif name in ("input_features", "audio_mel"):
        along = 2 if values.shape[1] == make.setting("num_mel_bins", 16) else 1
        heard = torch.ones(SAMPLES, values.shape[min(along, values.ndim - 1)], dtype=torch.bool)
        found = {
            "input_features_mask": heard,
            "audio_mel_mask": ~heard,
            "is_longer": torch.zeros(SAMPLES, 1, dtype=torch.bool),
        }
        required = required | ({"input_features_mask", "is_longer"} & accepted)
    elif name == "pixel_values":
        found = {
            "pixel_attention_mask": ones,
            "spatial_shapes": torch.full((SAMPLES, 2), _PATCHES),
            "prompt_pixel_values": make.numbers(*values.shape[1:]),
            "prompt_masks": make.numbers(*values.shape[1:]),
            "task_inputs": make.tokens(make.setting("task_seq_len", 77)),
        }
        if values.ndim == 3:
            required = required | {"pixel_attention_mask", "spatial_shapes"}
    found |= {"qformer_input_ids": make.tokens(_SHORT)}
    return {key: value for key, value in found.items() if key in required & accepted}


def _list_trajectories(make: _Maker) -> Inputs:
    """List what an agent saw and did."""
    return {
        "states": make.numbers(_SHORT, make.setting("state_dim", 17)),
        "actions": make.numbers(_SHORT, make.setting("act_dim", 4)),
        "rewards": make.numbers(_SHORT, 1),
        "returns_to_go": make.numbers(_SHORT, 1),
        "timesteps": torch.arange(_SHORT).repeat(SAMPLES, 1),
        "attention_mask": torch.ones(SAMPLES, _SHORT, dtype=torch.long),
    }


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
