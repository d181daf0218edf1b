"""Layers of a network and of its quantised exports, whose weights tell which are the same."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from support.networks import Builder, mlp, residual_convnet, saved

import cnatool
from cnatool.comparing.match_layers import name_stem
from cnatool.store.store import Store

ROWS = 12


def bottlenecks() -> onnx.ModelProto:
    b = Builder(3)
    tensor = b.node("Clip", [b.batch_norm(b.conv("x", "stem", 1, 4, 3), "stem_bn", 4)], "stem6")
    for name in ("a", "b", "c"):
        wide = b.batch_norm(b.conv(tensor, f"{name}_wide", 4, 8, 1), f"{name}_wide_bn", 8)
        wide = b.node("Relu", [wide], f"{name}_relu")
        deep = b.batch_norm(b.conv(wide, f"{name}_deep", 8, 8, 3), f"{name}_deep_bn", 8)
        deep = b.node("Relu", [deep], f"{name}_relu2")
        thin = b.batch_norm(b.conv(deep, f"{name}_thin", 8, 4, 1), f"{name}_thin_bn", 4)
        tensor = b.node("Add", [tensor, thin], f"{name}_sum")
    b.node("Flatten", [b.node("GlobalAveragePool", [tensor], "pooled")], "flat")
    b.gemm("flat", "logits", 4, 10)
    return b.model({"x": ("n", 1, 8, 8)}, {"logits": ("n", 10)})


NETWORKS: dict[str, tuple[Callable[[], onnx.ModelProto], tuple[int, ...]]] = {
    "mlp": (lambda: mlp((64, 16, 16, 16, 10)), (64,)),
    "resnet": (residual_convnet, (1, 8, 8)),
    "bottlenecks": (bottlenecks, (1, 8, 8)),
}


class Calibration(CalibrationDataReader):
    def __init__(self, shape: tuple[int, ...]) -> None:
        rng = np.random.default_rng(0)
        self._batches: Iterator[dict[str, Any]] = iter(
            [{"x": rng.random((8, *shape), np.float32)} for _ in range(3)]
        )

    def get_next(self) -> dict[str, Any] | None:
        return next(self._batches, None)


def renamed(path: Path, seed: int, form: str) -> dict[str, str]:
    """Give every tensor but inputs and outputs a number for a name; return what each was."""
    model = onnx.load(path)
    kept = {"x", *(output.name for output in model.graph.output)}
    names = {n for node in model.graph.node for n in (*node.input, *node.output) if n} - kept
    new = [form.format(1000 + i) for i in range(len(names))]
    random.Random(seed).shuffle(new)
    names_of = dict(zip(sorted(names), new, strict=True))
    for node in model.graph.node:
        node.input[:] = [names_of.get(name, name) for name in node.input]
        node.output[:] = [names_of.get(name, name) for name in node.output]
    for tensor in model.graph.initializer:
        tensor.name = names_of.get(tensor.name, tensor.name)
    del model.graph.value_info[:]
    onnx.save(model, path)
    return {name: old for old, name in names_of.items()}


def truth(store: Store, were: dict[str, str]) -> dict[str, str]:
    """By pre-activation, the layer that its weights belong to."""
    weights = store.record.weights
    assert weights is not None
    names = {layer.number: layer.name for layer in weights.layers}
    found = {}
    for layer in store.layers:
        name = were.get(names[layer.number], names[layer.number])
        for extra in ("ConvBnFusion_W_", "_DequantizeLinear_Output", "_quantized", ".weight"):
            name = name.replace(extra, "")
        found[layer.preactivation] = name
    return found


@pytest.mark.parametrize("form", ["", "{}", "onnx::Conv_{}"])
@pytest.mark.parametrize(("prepared", "per_channel"), [(False, False), (True, True)])
@pytest.mark.parametrize("network", NETWORKS)
def test_a_network_and_its_quantised_export(
    network: str, prepared: bool, per_channel: bool, form: str, tmp_path: Path
) -> None:
    build, shape = NETWORKS[network]
    plain = saved(build(), tmp_path / "plain.onnx")
    folded, quantised = tmp_path / "folded.onnx", tmp_path / "quantised.onnx"
    quant_pre_process(str(plain), str(folded))
    quantize_static(
        str(folded),
        str(quantised),
        Calibration(shape),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
    )
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((ROWS, *shape), np.float32))
    stores, truths = [], []
    for seed, path in enumerate((folded if prepared else plain, quantised)):
        were = renamed(path, seed, form) if form else {}
        stores.append(cnatool.dump(path, tmp_path / "x.npy", tmp_path / f"{seed}.zarr"))
        truths.append(truth(stores[-1], were))
    found = cnatool.compare(*stores, tolerance=0.2)
    assert (found.unmatched, found.unmatched2) == ((), ())
    assert not any("same size and place" in note for note in found.notes)
    tensors = found.splits["all"].tensors
    pairs = [(t.name, t.name2) for t in tensors if t.stands_for == "preactivation"]
    assert [truths[0][one] for one, _ in pairs] == [truths[1][two] for _, two in pairs]
    assert len(pairs) == len(truths[0])
    # What is left is the error of eight bits, and not another tensor.
    for tensor in tensors:
        assert tensor.agreement.cosine is not None
        assert tensor.agreement.cosine > 0.999, (tensor.name, tensor.name2)


@pytest.mark.parametrize("network", NETWORKS)
def test_codes_are_not_compared_with_values(network: str, tmp_path: Path) -> None:
    build, shape = NETWORKS[network]
    plain, quantised = tmp_path / "p.onnx", tmp_path / "q.onnx"
    quant_pre_process(str(saved(build(), tmp_path / "whole.onnx")), str(plain))
    quantize_static(
        str(plain), str(quantised), Calibration(shape), quant_format=QuantFormat.QOperator
    )
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((ROWS, *shape), np.float32))
    stores = [
        cnatool.dump(path, tmp_path / "x.npy", tmp_path / f"{path.stem}.zarr")
        for path in (plain, quantised)
    ]
    found = cnatool.compare(*stores)
    assert not found.same
    for tensor in found.splits["all"].tensors:
        for store, name in zip(stores, (tensor.name, tensor.name2), strict=True):
            assert "float" in store.tensor(name).dtype
    assert any("one store holds quantised codes and the other values" in n for n in found.notes)
    codes = [r.preactivation for r in stores[1].layers]
    codes = [name for name in codes if "float" not in stores[1].tensor(name).dtype]
    assert codes
    assert set(codes) <= set(found.unmatched2)
    assert found.scores_reason is not None
    assert "quantised codes" in found.scores_reason
    assert cnatool.compare(stores[1], stores[1]).differences == ()


def branches(prefix: str, order: str, seed: int) -> onnx.ModelProto:
    """Three branches of one size that nothing but names and values tells apart."""
    b = Builder(seed)
    b.node("Relu", [b.gemm("x", f"{prefix}first", 6, 8)], "r")
    for name in order:
        b.node("Relu", [b.gemm("r", f"{prefix}{name}", 8, 8)], f"r{name}")
    b.node("Concat", ["ra", "rb", "rc"], "all", axis=1)
    b.gemm("all", f"{prefix}logits", 24, 3)
    return b.model({"x": ("n", 6)}, {f"{prefix}logits": ("n", 3)})


@pytest.mark.parametrize(("names", "certain"), [(("", ""), True), (("p", "q"), False)])
def test_ambiguity_is_said(names: tuple[str, str], certain: bool, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(1).random((ROWS, 6), np.float32))
    stores = []
    for number, (prefix, order) in enumerate(zip(names, ("abc", "cab"), strict=True)):
        path = saved(branches(prefix, order, number), tmp_path / f"{number}.onnx")
        stores.append(cnatool.dump(path, tmp_path / "x.npy", tmp_path / f"{number}.zarr"))
    found = cnatool.compare(*stores)
    pairs = [(t.name, t.name2) for t in found.splits["all"].tensors if t.layer is not None]
    said = any("same size and place in the network" in note for note in found.notes)
    if certain:
        assert [one for one, _ in pairs] == [two for _, two in pairs]
        assert not said
    else:
        assert pairs == [("pfirst", "qfirst"), ("plogits", "qlogits")]
        assert found.unmatched == ("pa", "pb", "pc")
        assert said


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("conv1.weight_quantized", "conv1.weight"),
        ("conv1.weight_DequantizeLinear_Output", "conv1.weight"),
        ("ConvBnFusion_W_conv1.weight_DequantizeLinear_Output", "conv1.weight"),
        ("/a/Conv_output_0_DequantizeLinear_Output_1", "/a/Conv"),
        ("/a/Conv_output_0_quantized", "/a/Conv"),
        ("fc/MatMul:0", "fc/MatMul"),
        ("layer_1", "layer_1"),
    ],
)
def test_stems(name: str, stem: str) -> None:
    assert name_stem(name) == stem
