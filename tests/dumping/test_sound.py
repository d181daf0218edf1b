from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator
from support.networks import Builder
from support.notes import Notes
from support.sounds import noise, wave_bytes, write_wave

import cnatool
from cnatool.errors import DataError, UsageError
from cnatool.records.sound import WhisperSpectrogram

pytest.importorskip("soundfile")

CONFIG = {"feature_extractor_type": "Wav2Vec2FeatureExtractor", "sampling_rate": 16_000}


def network(path: Path, *dims: int | str, channels: int = 1) -> Path:
    """Write a network of one convolution over sound, (n, *dims)."""
    b = Builder()
    shape = b.constant("shape", np.array([0, channels, -1], np.int64))
    rows = b.node("Reshape", ["x", shape], "rows")
    kernel = b.weight("conv.weight", 4, channels, 9)
    relu = b.node("Relu", [b.node("Conv", [rows, kernel], "conv", strides=[4])], "relu")
    pooled = b.node("ReduceMean", [relu], "pooled", axes=[2], keepdims=0)
    b.gemm(pooled, "logits", 4, 2)
    onnx.save(b.model({"x": ("n", *dims)}, {"logits": ("n", 2)}), path)
    return path


def fill(folder: Path, lengths: tuple[int, ...], rate: int = 16_000) -> Path:
    for number, length in enumerate(lengths):
        write_wave(folder / "ab"[number % 2] / f"{number}.wav", noise(length, number), rate)
    return folder


LENGTHS = (90, 150, 90, 301, 150, 90, 33)


@pytest.mark.parametrize("dims", [("t",), (1, "t")])
@pytest.mark.parametrize("ending", ["zarr", "h5"])
def test_every_sound_in_its_own_length(dims: tuple[Any, ...], ending: str, tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", *dims)
    data = fill(tmp_path / "data", LENGTHS)
    store = cnatool.dump(model, data, tmp_path / f"net.{ending}", tensors="all")
    [record] = store.record.inputs
    assert (record.name, record.kind, record.ragged_axis) == ("sound", "sound", 0)
    assert record.sound.sample_rate == 16_000
    assert not record.sound.mixed
    split = store.splits["all"]
    assert list(split.ids) == sorted(split.ids)
    proto = onnx.load(model)
    for name in ("conv", "relu"):
        proto.graph.output.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, None))
    evaluator = ReferenceEvaluator(proto)
    stored, relu, conv = split.inputs(), split.activations("relu"), split.activations("conv")
    sums = split.statistics("sum")
    number = next(tensor.number for tensor in store.record.tensors if tensor.name == "conv")
    for row, name in enumerate(split.ids):
        place = int(Path(name).stem)
        values = (noise(LENGTHS[place], place) / 32768).astype(np.float32)
        np.testing.assert_array_equal(stored[row], values)
        feed = values[None, None] if len(dims) == 2 else values[None]
        logits, expected, positive = evaluator.run(None, {"x": feed})
        np.testing.assert_allclose(split.outputs()[row], logits[0], atol=1e-6)
        np.testing.assert_allclose(conv[row], expected[0], atol=1e-6)
        np.testing.assert_allclose(relu[row], positive[0], atol=1e-6)
        np.testing.assert_allclose(sums[row, number], expected.sum(dtype=np.float64), atol=1e-5)
    assert not cnatool.verify(store.path).faults


def test_a_model_of_one_length(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", 160)
    message = (
        r"input 'x' float32 \(n, 160\) takes 160: `duration=0\.01` cuts sound to that, and "
        "continues shorter sound with zeros; or export the model with a dynamic axis"
    )
    with pytest.raises(DataError, match=message):
        cnatool.dump(model, fill(tmp_path / "a", (100, 200)), tmp_path / "a.zarr")
    store = cnatool.dump(model, tmp_path / "a", tmp_path / "a.zarr", duration=0.01)
    [step] = store.record.preprocessing
    assert (step.shape, step.sound.duration) == ((160,), 0.01)
    assert [len(row) for row in store.splits["all"].inputs()[:]] == [100, 200]
    # Sound of that length needs no option.
    store = cnatool.dump(model, fill(tmp_path / "b", (160, 160, 160)), tmp_path / "b.zarr")
    assert len(store.splits["all"]) == 3
    fill(tmp_path / "c", (160,) * 80)
    write_wave(tmp_path / "c" / "b" / "99.wav", noise(161))
    message = r"sample b/99\.wav has length 161, and input 'x' takes 160: `duration=0\.01` cuts"
    with pytest.raises(DataError, match=message):
        cnatool.dump(model, tmp_path / "c", tmp_path / "c.zarr")


@pytest.mark.parametrize("dims", [(80, 3000), (80, "t"), ("f", "t"), (1, 80, 3000)])
def test_a_model_that_takes_spectrograms(dims: tuple[Any, ...], tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", *dims, channels=80)
    data = fill(tmp_path / "data", (500, 900))
    message = r"is amplitudes, \(\?,\), but input 'x' .* those of a spectrogram: pass the"
    with pytest.raises(DataError, match=message):
        cnatool.dump(model, data, tmp_path / "a.zarr")
    config = tmp_path / "preprocessor_config.json"
    whisper = {"feature_extractor_type": "WhisperFeatureExtractor", "chunk_length": 30}
    config.write_text(json.dumps(whisper))
    store = cnatool.dump(model, data, tmp_path / "a.zarr", preprocess=config, keep="statistics")
    [step] = store.record.preprocessing
    assert step.sound.spectrogram == WhisperSpectrogram()
    assert step.shape == (*(size for size in dims[:-2]), 80, 3000)
    # α is that of the amplitudes.
    assert [len(row) for row in store.splits["all"].inputs()[:]] == [500, 900]


def test_the_settings_of_a_hub(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", "t")
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps(CONFIG))
    data = fill(tmp_path / "data", (100, 200), rate=8000)
    notes = Notes()
    store = cnatool.dump(model, data, tmp_path / "a.zarr", preprocess=config, observer=notes)
    assert any(
        line.startswith("sound at 16,000 Hz, normalized to mean 0 and variance 1; then sound")
        for line in notes.texts
    )
    [step] = store.record.preprocessing
    assert (step.sound.sample_rate, step.sound.normalize) == (16_000, True)
    assert step.sound.resampled_by.startswith("scipy ")
    assert store.record.inputs[0].sound.sample_rate is None
    split = store.splits["all"]
    assert [len(row) for row in split.inputs()[:]] == [100, 200]
    assert [row.shape for row in split.activations("rows")[:]] == [(1, 200), (1, 400)]
    for row in split.activations("rows")[:]:
        assert row.mean() == pytest.approx(0, abs=1e-6)
        assert row.std() == pytest.approx(1, abs=1e-3)


def test_rates_that_differ_between_splits(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", "t")
    fill(tmp_path / "data" / "train", (100, 200))
    fill(tmp_path / "data" / "test", (100, 200), 8000)
    message = "splits 'train' and 'test' hold sound of 16,000 and 8,000 samples a second"
    with pytest.raises(DataError, match=message):
        cnatool.dump(model, tmp_path / "data", tmp_path / "a.zarr")
    store = cnatool.dump(model, tmp_path / "data", tmp_path / "a.zarr", sample_rate=8000)
    assert store.record.inputs[0].sound.sample_rate is None


def test_options_that_do_not_fit(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", "t")
    np.savez(tmp_path / "a.npz", x=np.zeros((3, 100), np.float32))
    for options in ({"mono": True}, {"sample_rate": 8000}, {"duration": 1.0}):
        with pytest.raises(UsageError, match=r"a\.npz contains no sound, but `sample_rate`"):
            cnatool.dump(model, tmp_path / "a.npz", tmp_path / "a.zarr", **options)
    data = fill(tmp_path / "data", (100,))
    with pytest.raises(UsageError, match="which are not images: `resize`"):
        cnatool.dump(model, data, tmp_path / "a.zarr", resize=32)
    with pytest.raises(UsageError, match="sample_rate 16: give a whole number from 100"):
        cnatool.dump(model, data, tmp_path / "a.zarr", sample_rate=16)
    config = tmp_path / "preprocessor_config.json"
    config.write_text(json.dumps({"feature_extractor_type": "WhisperFeatureExtractor"}))
    with pytest.raises(UsageError, match=r"`sample_rate=8000`: the spectrograms of .* 16000"):
        cnatool.dump(model, data, tmp_path / "a.zarr", sample_rate=8000, preprocess=config)


def test_unreadable_sound_is_skipped_and_listed(tmp_path: Path) -> None:
    model = network(tmp_path / "net.onnx", "t")
    data = fill(tmp_path / "data", (100, 200, 300, 400))
    (data / "a" / "2.wav").write_bytes(wave_bytes(noise(300))[:100])
    with pytest.raises(DataError, match=r"2\.wav is cut short: its header declares 600 bytes"):
        cnatool.dump(model, data, tmp_path / "a.zarr")
    store = cnatool.dump(model, data, tmp_path / "a.zarr", on_error="skip")
    split = store.splits["all"]
    assert list(split.ids) == ["a/0.wav", "b/1.wav", "b/3.wav"]
    [skipped] = split.record.skipped
    assert skipped.id == "a/2.wav"
    assert "is cut short" in skipped.reason
    assert [len(row) for row in split.inputs()[:]] == [100, 200, 400]
