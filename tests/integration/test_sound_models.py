"""Networks over sound, as PyTorch exports them, against what hooks see of each sound alone."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy.signal import resample_poly
from support.mnist import nn, torch
from support.sounds import noise, write_wave

import cnatool

pytest.importorskip("soundfile")
F = torch.nn.functional


class Attention(nn.Module):
    """Attention with four heads."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.q, self.k, self.v, self.out = (nn.Linear(size, size) for _ in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        def heads(values: torch.Tensor) -> torch.Tensor:
            return values.unflatten(2, (4, -1)).transpose(1, 2)

        q, k, v = heads(self.q(x)), heads(self.k(x)), heads(self.v(x))
        scores = (q @ k.transpose(2, 3) / q.shape[-1] ** 0.5).softmax(-1)
        return self.out((scores @ v).transpose(1, 2).flatten(2))


class Wav2Vec2(nn.Module):
    """The architecture of wav2vec 2.0, small: convolutions, their positions, a transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv1d(1, 12, 10, stride=5, bias=False)
        self.norm = nn.GroupNorm(12, 12)
        self.conv2 = nn.Conv1d(12, 12, 3, stride=2)
        self.before = nn.LayerNorm(12)
        self.project = nn.Linear(12, 16)
        self.positions = nn.Conv1d(16, 16, 7, padding=3, groups=4)
        self.attention, self.after = Attention(16), nn.LayerNorm(16)
        self.fc1, self.fc2, self.last = nn.Linear(16, 32), nn.Linear(32, 16), nn.LayerNorm(16)
        self.head = nn.Linear(16, 3)

    def forward(self, input_values: torch.Tensor) -> torch.Tensor:
        x = F.gelu(self.norm(self.conv1(input_values[:, None])))
        x = F.gelu(self.conv2(x)).transpose(1, 2)
        x = self.project(self.before(x))
        x = x + F.gelu(self.positions(x.transpose(1, 2))).transpose(1, 2)
        x = self.after(x + self.attention(x))
        x = self.last(x + self.fc2(F.gelu(self.fc1(x))))
        return self.head(x.mean(1))


LINEAR = ("conv1", "conv2", "project", "positions", "attention.q", "attention.out", "fc1", "fc2")


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return Wav2Vec2().eval()


def export(network: nn.Module, path: Path, *, dynamo: bool) -> Path:
    free: dict[str, Any] = {
        "dynamic_axes": {"input_values": {0: "n", 1: "length"}, "logits": {0: "n"}}
    }
    if dynamo:
        dims = {0: torch.export.Dim("n"), 1: torch.export.Dim("length", min=100, max=1 << 20)}
        free = {"dynamic_shapes": (dims,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            (torch.randn(2, 800),),
            str(path),
            input_names=["input_values"],
            output_names=["logits"],
            dynamo=dynamo,
            verbose=False,
            **free,
        )
    return path


def record(network: nn.Module, values: np.ndarray) -> dict[str, np.ndarray]:
    """Run the network over one sound; give what its linear modules return, and its scores."""
    seen: dict[str, np.ndarray] = {}
    modules = dict(network.named_modules())
    hooks = [
        modules[name].register_forward_hook(
            lambda _module, _inputs, result, name=name: seen.update({name: result[0].numpy()})
        )
        for name in LINEAR
    ]
    with torch.no_grad():
        seen["logits"] = network(torch.from_numpy(values[None]))[0].numpy()
    for hook in hooks:
        hook.remove()
    return seen


@pytest.mark.parametrize("dynamo", [False, True])
def test_every_number_is_that_of_the_sound_alone(
    network: nn.Module, dynamo: bool, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    sounds: dict[str, np.ndarray] = {}
    for number in range(15):
        # Some are equally long, and run together.
        length = int(rng.choice([400, 640, 900, 1203]))
        name = f"{'ab'[number % 2]}/{number:02}.wav"
        rate = 8000 if number % 3 else 16_000
        sounds[name] = noise(length, number) / np.float32(32768)
        write_wave(tmp_path / "data" / name, noise(length, number), rate)
        if rate == 8000:
            wide = sounds[name].astype(np.float64)
            sounds[name + "fed"] = resample_poly(wide, 2, 1).astype(np.float32)
    model = export(network, tmp_path / "net.onnx", dynamo=dynamo)
    store = cnatool.dump(
        model, tmp_path / "data", tmp_path / "net.zarr", sample_rate=16_000, statistics="all"
    )
    split = store.splits["all"]
    layers = {layer.linear for layer in store.record.layers}
    tensors = [tensor for tensor in store.record.tensors if tensor.name in layers]
    assert len(tensors) == 11
    stored, outputs = split.inputs(), split.outputs()
    activations = {tensor.number: split.activations(tensor.name) for tensor in tensors}
    sums, counts = split.statistics("sum"), split.statistics("count")
    for row, name in enumerate(split.ids):
        np.testing.assert_array_equal(stored[row], sounds[name])
        seen = record(network, sounds.get(name + "fed", sounds[name]))
        np.testing.assert_allclose(outputs[row], seen["logits"], atol=2e-6)
        for module in LINEAR:
            expected = seen[module]
            alike = [
                number
                for number, values in activations.items()
                if values[row].size == expected.size
                and np.allclose(_sorted(values[row]), _sorted(expected), atol=1e-5)
            ]
            assert len(alike) == 1, module
            assert counts[row, alike[0]] == expected.size
            bound = 1e-5 * np.abs(expected).sum()
            assert abs(sums[row, alike[0]] - expected.sum(dtype=np.float64)) <= bound


def _sorted(values: np.ndarray) -> np.ndarray:
    """Sort values: an exporter may have another order of axes."""
    return np.sort(values, axis=None)
