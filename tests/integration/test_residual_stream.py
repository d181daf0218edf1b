"""The residual stream of networks that PyTorch exports equals what hooks on its modules see."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import cnatool
from cnatool.backend.network import open_network
from cnatool.errors import ModelError

torch = pytest.importorskip("torch")
nn = torch.nn
_WIDTH, _LENGTH = 12, 5


class _Attention(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.qkv = nn.Linear(_WIDTH, 3 * _WIDTH)
        self.proj = nn.Linear(_WIDTH, _WIDTH)

    def forward(self, x: Any, bias: Any) -> Any:
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        # The mask is a tensor that every layer adds to its scores.
        scores = q @ k.transpose(1, 2) / _WIDTH**0.5 + bias
        return self.proj(scores.softmax(dim=-1) @ v)


class _Block(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.LayerNorm(_WIDTH), nn.LayerNorm(_WIDTH)
        self.attention = _Attention()
        self.mlp = nn.Sequential(nn.Linear(_WIDTH, 20), nn.GELU(), nn.Linear(20, _WIDTH))

    def forward(self, x: Any, bias: Any, stream: list[Any]) -> Any:
        if self.kind == "post":
            x = self.first(x + self.attention(x, bias))
            stream.append(x)
            x = self.second(x + self.mlp(x))
        elif self.kind == "parallel":
            normed = self.first(x)
            x = x + (self.attention(normed, bias) + self.mlp(normed))
        else:
            x = x + self.attention(self.first(x), bias)
            stream.append(x)
            x = x + self.mlp(self.second(x))
        stream.append(x)
        return x


class _Transformer(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, kind: str, depth: int = 3) -> None:
        super().__init__()
        self.table, self.places = nn.Embedding(30, _WIDTH), nn.Embedding(16, _WIDTH)
        self.blocks = nn.ModuleList([_Block(kind) for _ in range(depth)])
        self.norm = nn.LayerNorm(_WIDTH) if kind != "post" else nn.Identity()
        self.head = nn.Linear(_WIDTH, 4)

    def stream(self, ids: Any, mask: Any) -> list[Any]:
        bias = (1.0 - mask[:, None, :].float()) * -1e4
        x = self.table(ids) + self.places(torch.arange(ids.shape[1]))
        stream = [x]
        for block in self.blocks:
            x = block(x, bias, stream)
        return stream

    def forward(self, ids: Any, mask: Any) -> Any:
        return self.head(self.norm(self.stream(ids, mask)[-1]).mean(dim=1))


class _ResNet(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, 4, 3, padding=1)
        self.widths = [(4, 4, 1), (4, 6, 2), (6, 6, 1)]
        self.blocks = nn.ModuleList(
            nn.ModuleDict(
                {
                    "first": nn.Conv2d(a, b, 3, stride, 1),
                    "norm": nn.BatchNorm2d(b),
                    "second": nn.Conv2d(b, b, 3, 1, 1),
                    "skip": nn.Conv2d(a, b, 1, stride) if a != b else nn.Identity(),
                }
            )
            for a, b, stride in self.widths
        )
        self.head = nn.Linear(6, 3)

    def stream(self, x: Any) -> list[Any]:
        x = self.stem(x).relu()
        stream = [x]
        for block in self.blocks:
            branch = block["second"](block["norm"](block["first"](x)).relu())
            x = branch + block["skip"](x)
            stream.append(x)
            x = x.relu()
        return stream

    def forward(self, x: Any) -> Any:
        return self.head(self.stream(x)[-1].relu().mean(dim=(2, 3)))


def _rename(model: onnx.ModelProto) -> None:
    """Replace every name by one that says nothing."""
    names: dict[str, str] = {}
    kept = {value.name for value in (*model.graph.input, *model.graph.output)} | {""}
    for tensor in model.graph.initializer:
        tensor.name = names.setdefault(tensor.name, f"w{len(names)}")
    for node in model.graph.node:
        node.name = ""
        del node.metadata_props[:]
        for group in (node.input, node.output):
            for place, name in enumerate(group):
                if name not in kept:
                    group[place] = names.setdefault(name, f"t{len(names)}")
    del model.graph.value_info[:]


def _export(network: Any, inputs: dict[str, Any], path: Path, opset: int, *, named: bool) -> None:
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    torch.onnx.export(
        network.eval(),
        tuple(inputs.values()),
        str(path),
        dynamo=False,
        input_names=[*inputs],
        output_names=["out"],
        dynamic_axes={name: {0: "batch"} for name in inputs},
        opset_version=opset,
    )
    if not named:
        model = onnx.load(path)
        _rename(model)
        onnx.save(model, path)


def _compare(network: Any, inputs: dict[str, Any], path: Path) -> cnatool.Store:
    data = path.with_suffix(".npz")
    np.savez(data, **{name: value.numpy() for name, value in inputs.items()})
    store = cnatool.dump(path, data, path.with_suffix(".zarr"), tensors="residual")
    with torch.no_grad():
        expected = network.stream(*inputs.values())
    split = store.splits["all"]
    assert len(store.tensors) == len(expected)
    for tensor, values in zip(store.tensors, expected, strict=True):
        found = split.activations(tensor.name)[:]
        np.testing.assert_allclose(found, values.numpy(), rtol=1e-4, atol=1e-5)
    return store


def _texts() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    mask = torch.ones(6, _LENGTH, dtype=torch.long)
    ids = torch.randint(0, 30, (6, _LENGTH), generator=generator)
    return {"input_ids": ids, "attention_mask": mask}


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("kind", ["pre", "post", "parallel"])
@pytest.mark.parametrize(("opset", "named"), [(17, True), (13, False)])
def test_transformers(kind: str, opset: int, named: bool, tmp_path: Path) -> None:
    network, inputs = _Transformer(kind), _texts()
    path = tmp_path / "net.onnx"
    _export(network, inputs, path, opset, named=named)
    store = _compare(network, inputs, path)
    blocks = [layer.block for layer in store.layers if layer.block]
    names = [f"blocks.{i}" if named else str(i + 1) for i in range(3)]
    assert blocks == [name for name in names for _ in range(4)]
    assert not store.layers[-1].block


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("named", [True, False])
def test_residual_networks_of_convolutions(named: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network, inputs = _ResNet(), {"x": torch.randn(6, 1, 8, 8)}
    path = tmp_path / "net.onnx"
    _export(network, inputs, path, 17, named=named)
    store = _compare(network, inputs, path)
    by_block: dict[Any, int] = {}
    for layer in store.layers:
        if layer.block:
            by_block[layer.block] = by_block.get(layer.block, 0) + 1
    names = [f"blocks.{i}" if named else str(i + 1) for i in range(3)]
    assert by_block == dict(zip(names, (2, 3, 2), strict=True))
    assert [layer.shortcut for layer in store.layers].count(True) == 1


@pytest.mark.filterwarnings("ignore")
def test_a_network_without_additions_says_what_there_is(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Linear(4, 5), nn.ReLU(), nn.Linear(5, 2))
    path = tmp_path / "net.onnx"
    _export(network, {"x": torch.randn(6, 4)}, path, 17, named=True)
    np.savez(tmp_path / "d.npz", x=np.ones((6, 4), np.float32))
    with pytest.raises(ModelError, match=r"nothing adds a branch .* `tensors='layers'` selects"):
        cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", tensors="residual")
    assert not any(layer.block for layer in open_network(path).layers.layers)


_MODELS = ("gpt2", "llama", "bert", "t5", "vit")


def _make(name: str) -> tuple[Any, dict[str, Any]]:
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    sizes = {"hidden_size": 16, "num_hidden_layers": 2, "num_attention_heads": 2}
    sizes |= {"intermediate_size": 24, "attn_implementation": "eager"}
    text = {"vocab_size": 30, "max_position_embeddings": 16}
    torch.manual_seed(0)
    if name == "gpt2":
        config = transformers.GPT2Config(
            vocab_size=30, n_embd=16, n_layer=2, n_head=2, n_positions=16, use_cache=False
        )
        network = transformers.GPT2Model(config)
    elif name == "llama":
        config = transformers.LlamaConfig(**sizes, **text, use_cache=False)
        network = transformers.LlamaModel(config)
    elif name == "bert":
        config = transformers.BertConfig(**sizes, **text)
        network = transformers.BertModel(config, add_pooling_layer=False)
    elif name == "t5":
        config = transformers.T5Config(
            vocab_size=30, d_model=16, num_layers=2, num_heads=2, d_kv=8, d_ff=24
        )
        network = transformers.T5EncoderModel(config)
    else:
        config = transformers.ViTConfig(**sizes, image_size=16, patch_size=8)
        return transformers.ViTModel(config, add_pooling_layer=False), {
            "pixel_values": torch.randn(4, 3, 16, 16)
        }
    return network, _texts()


class _Wrapped(nn.Module):  # type: ignore[misc, name-defined, unused-ignore]
    def __init__(self, network: Any, names: list[str]) -> None:
        super().__init__()
        self.network, self.names = network, names

    def forward(self, *inputs: Any) -> Any:
        fed = dict(zip(self.names, inputs, strict=True))
        return self.network(**fed).last_hidden_state


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", _MODELS)
def test_hidden_states_of_transformers(name: str, exporter: str, tmp_path: Path) -> None:
    network, inputs = _make(name)
    generator = torch.Generator().manual_seed(1)
    for parameter in network.parameters():
        parameter.data += 0.1 * torch.randn(parameter.shape, generator=generator)
    with torch.no_grad():
        hidden = network.eval()(**inputs, output_hidden_states=True).hidden_states
    path = tmp_path / "net.onnx"
    names = [*inputs]
    settings: dict[str, Any] = {"input_names": names, "output_names": ["out"]}
    if exporter == "dynamo":
        settings |= {"dynamo": True, "external_data": False, "verbose": False}
        batch = torch.export.Dim("batch", min=1, max=64)
        settings["dynamic_shapes"] = (tuple({0: batch} for _ in names),)
    else:
        axes = {name: {0: "batch"} for name in names}
        settings |= {"dynamo": False, "opset_version": 17, "dynamic_axes": axes}
    wrapped = _Wrapped(network, names).eval()
    try:
        torch.onnx.export(wrapped, tuple(inputs.values()), str(path), **settings)
    except Exception as error:
        pytest.skip(f"the exporter fails: {type(error).__name__}")
    np.savez(tmp_path / "d.npz", **{name: value.numpy() for name, value in inputs.items()})
    store = cnatool.dump(path, tmp_path / "d.npz", tmp_path / "s.zarr", tensors="residual")
    split = store.splits["all"]
    stream = [split.activations(tensor.name)[:] for tensor in store.tensors]
    assert len(stream) == 5  # what enters, and two additions in each of two blocks
    # The last hidden state of some is normalised once more, for the head.
    normalised = name in ("gpt2", "llama", "t5")
    expected = hidden[: len(hidden) - normalised]
    for found, state in zip(stream[::2], expected, strict=False):
        np.testing.assert_allclose(found, state.numpy(), rtol=1e-4, atol=1e-5)
