"""Preprocessing of sound that model hubs keep beside weights, as well-known models have it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from cnatool.data.preprocess.recipe import read_recipe
from cnatool.errors import UsageError
from cnatool.records.sound import ASTSpectrogram, SoundTransform, WhisperSpectrogram

WAV2VEC2 = {
    "do_normalize": True,
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
WHISPER = {
    "chunk_length": 30,
    "feature_extractor_type": "WhisperFeatureExtractor",
    "feature_size": 80,
    "hop_length": 160,
    "mel_filters": [[0.0, 0.1], [0.2, 0.3]],
    "n_fft": 400,
    "n_samples": 480000,
    "nb_max_frames": 3000,
    "padding_side": "right",
    "padding_value": 0.0,
    "processor_class": "WhisperProcessor",
    "return_attention_mask": False,
    "sampling_rate": 16000,
}
AST = {
    "do_normalize": True,
    "feature_extractor_type": "ASTFeatureExtractor",
    "feature_size": 1,
    "max_length": 1024,
    "mean": -4.2677393,
    "num_mel_bins": 128,
    "padding_side": "right",
    "padding_value": 0.0,
    "return_attention_mask": False,
    "sampling_rate": 16000,
    "std": 4.5689974,
}


def read(folder: Path, fields: dict[str, Any]) -> SoundTransform:
    path = folder / "preprocessor_config.json"
    path.write_text(json.dumps(fields))
    recipe = read_recipe(path)
    assert not recipe.mono
    assert recipe.geometry() is None
    return recipe.sound().transform


def test_published_files(tmp_path: Path) -> None:
    assert read(tmp_path, WAV2VEC2) == SoundTransform(16_000, normalize=True)
    assert read(tmp_path, WAV2VEC2 | {"do_normalize": False}) == SoundTransform(16_000)
    assert read(tmp_path, WHISPER) == SoundTransform(16_000, spectrogram=WhisperSpectrogram())
    large = WHISPER | {"feature_size": 128, "chunk_length": 10}
    expected = WhisperSpectrogram(samples=160_000, mels=128)
    assert read(tmp_path, large) == SoundTransform(16_000, spectrogram=expected)
    assert read(tmp_path, AST) == SoundTransform(16_000, spectrogram=ASTSpectrogram())
    plain = ASTSpectrogram(mean=0, std=0.5)
    assert read(tmp_path, AST | {"do_normalize": False}).spectrogram == plain


def test_missing_fields_are_those_of_the_class(tmp_path: Path) -> None:
    for full in (WAV2VEC2, WHISPER, AST):
        name = {"feature_extractor_type": full["feature_extractor_type"]}
        assert read(tmp_path, name) == read(tmp_path, full)


def test_the_file_of_a_processor_holds_that_of_its_extractor(tmp_path: Path) -> None:
    nested = {"processor_class": "WhisperProcessor", "feature_extractor": WHISPER}
    assert read(tmp_path, nested) == read(tmp_path, WHISPER)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        (
            {"feature_extractor_type": "ClapFeatureExtractor", "sampling_rate": 48000},
            "the feature extractor ClapFeatureExtractor is not supported; "
            "Wav2Vec2FeatureExtractor, WhisperFeatureExtractor, ASTFeatureExtractor are. Save what",
        ),
        ({"sampling_rate": 16000}, "feature_extractor_type is required: one of Wav2Vec2"),
        (WHISPER | {"dither": 1e-4}, "dither adds random noise"),
        (WHISPER | {"padding_value": 1}, "padding_value must be 0: silence"),
        (WHISPER | {"do_normalize": True}, "do_normalize is not supported: remove it if"),
        (WHISPER | {"sampling_rate": 8000}, "sample_rate 8000: mel filters of Whisper reach 8 kHz"),
        (WHISPER | {"n_fft": "400"}, "n_fft must be a positive whole number"),
        (AST | {"sampling_rate": 32000}, "sample_rate 32000: filter banks of AST are those"),
        (AST | {"mean": "no"}, "mean must be a number"),
        (WAV2VEC2 | {"feature_size": 80}, "feature_size must be 1"),
        (WAV2VEC2 | {"do_normalize": 1}, "do_normalize must be true or false"),
        (WAV2VEC2 | {"win_length": 25}, "win_length is not supported"),
    ],
)
def test_what_is_not_supported_is_refused(
    tmp_path: Path, fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        read(tmp_path, fields)


def test_recipes_of_its_own(tmp_path: Path) -> None:
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "schema: cnatool.preprocess/1\nmono: true\nsample_rate: 16000\nduration: 2.5\n"
        "normalize: true\nspectrogram: {kind: whisper, mels: 64, samples: 32000}\n"
    )
    sound = read_recipe(path).sound()
    assert sound.mono
    assert sound.transform == SoundTransform(
        16_000,
        duration=2.5,
        normalize=True,
        spectrogram=WhisperSpectrogram(samples=32_000, mels=64),
    )
    path.write_text("schema: cnatool.preprocess/1\nspectrogram: {kind: clap}\n")
    with pytest.raises(UsageError, match="spectrogram.*clap"):
        read_recipe(path)
    path.write_text("schema: cnatool.preprocess/1\nspectrogram: {kind: ast}\n")
    with pytest.raises(UsageError, match="give sample_rate as well"):
        read_recipe(path)
