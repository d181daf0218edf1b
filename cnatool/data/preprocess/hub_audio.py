"""Preprocessing of sound by transformers: ``preprocessor_config.json`` of a feature extractor.

What a field means depends on the class. Missing fields take the defaults of the class, none of
which ever changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cnatool._util.text import printable
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

# About padding to others of a batch, which does not happen here, or about Python objects.
_IGNORED = frozenset(
    {
        "_processor_class",
        "feature_extractor_type",
        "padding_side",
        "processor_class",
        "return_attention_mask",
        "return_tensors",
        "transformers_version",
    }
)
_COMMON = frozenset({"feature_size", "padding_value", "sampling_rate"})


def is_audio(raw: dict[str, Any]) -> bool:
    """Whether a file is the configuration of a feature extractor of sound."""
    config = _config(raw)
    return config.get("feature_extractor_type") in _EXTRACTORS or "sampling_rate" in config


def convert_audio(raw: dict[str, Any]) -> dict[str, Any]:
    """Convert the configuration of a feature extractor to fields of a recipe."""
    config = _config(raw)
    name = config.get("feature_extractor_type")
    if name not in _EXTRACTORS:
        known = ", ".join(_EXTRACTORS)
        if name is None:
            raise UsageError(f"feature_extractor_type is required: one of {known}.")
        raise UsageError(
            f"the feature extractor {printable(name)[:60]} is not supported; {known} are. Save "
            "what it computes as arrays, for example with numpy.savez, and dump these."
        )
    fields, convert = _EXTRACTORS[name]
    for field, value in config.items():
        known_field = field in _IGNORED or field in _COMMON or field in fields
        # What is null or false has no effect.
        if not known_field and value is not None and value is not False:
            raise UsageError(
                f"{printable(field)[:60]} is not supported: remove it if the model does without."
            )
    if _number(config, "padding_value", 0.0) != 0:
        raise UsageError("padding_value must be 0: silence.")
    return {"sample_rate": _whole(config, "sampling_rate", 16_000), **convert(config)}


def _config(raw: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of the feature extractor, which lie in those of a processor or alone."""
    nested = raw.get("feature_extractor")
    return nested if isinstance(nested, dict) else raw


def _convert_wav2vec2(config: Mapping[str, Any]) -> dict[str, Any]:
    _check_size(config, 1)
    return {"normalize": _flag(config, "do_normalize", default=True)}


def _convert_whisper(config: Mapping[str, Any]) -> dict[str, Any]:
    if _number(config, "dither", 0.0) != 0:
        raise UsageError("dither adds random noise, which differs in every run: remove it.")
    rate = _whole(config, "sampling_rate", 16_000)
    return {
        "spectrogram": {
            "kind": "whisper",
            "samples": _whole(config, "chunk_length", 30) * rate,
            "mels": _whole(config, "feature_size", 80),
            "fft": _whole(config, "n_fft", 400),
            "hop": _whole(config, "hop_length", 160),
        }
    }


def _convert_ast(config: Mapping[str, Any]) -> dict[str, Any]:
    _check_size(config, 1)
    normalizes = _flag(config, "do_normalize", default=True)
    return {
        "spectrogram": {
            "kind": "ast",
            "frames": _whole(config, "max_length", 1024),
            "mels": _whole(config, "num_mel_bins", 128),
            "mean": _number(config, "mean", -4.2677393) if normalizes else 0.0,
            "std": _number(config, "std", 4.5689974) if normalizes else 0.5,
        }
    }


def _check_size(config: Mapping[str, Any], size: int) -> None:
    if _whole(config, "feature_size", size) != size:
        raise UsageError(f"feature_size must be {size}.")


def _flag(config: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = config.get(name)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise UsageError(f"{name} must be true or false.")
    return value


def _whole(config: Mapping[str, Any], name: str, default: int) -> int:
    value = config.get(name)
    if value is None:
        return default
    if type(value) is not int or not 1 <= value <= 1 << 30:
        raise UsageError(f"{name} must be a positive whole number.")
    return value


def _number(config: Mapping[str, Any], name: str, default: float) -> float:
    value = config.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise UsageError(f"{name} must be a number.")
    return float(value)


# The fields of each class besides those in common, and how they are converted. What Whisper's
# derives from others, or keeps for an older version, is left aside.
_EXTRACTORS: dict[str, tuple[frozenset[str], Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    "Wav2Vec2FeatureExtractor": (frozenset({"do_normalize"}), _convert_wav2vec2),
    "WhisperFeatureExtractor": (
        frozenset(
            {
                "chunk_length",
                "dither",
                "hop_length",
                "mel_filters",
                "n_fft",
                "n_samples",
                "nb_max_frames",
            }
        ),
        _convert_whisper,
    ),
    "ASTFeatureExtractor": (
        frozenset({"do_normalize", "max_length", "mean", "num_mel_bins", "std"}),
        _convert_ast,
    ),
}
