"""Padded texts through a network that PyTorch exports: layers equal hooks on unpadded texts."""

from __future__ import annotations

import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from support.padded import make_texts, save_texts

import cnatool

torch = pytest.importorskip("torch")
pytest.importorskip("onnxscript")


def encoder() -> object:
    from torch import nn

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed = nn.Embedding(50, 16)
            self.query, self.key, self.value = (nn.Linear(16, 16) for _ in range(3))
            self.up, self.down, self.head = nn.Linear(16, 32), nn.Linear(32, 16), nn.Linear(16, 3)

        def split(self, x: torch.Tensor) -> torch.Tensor:
            return x.reshape(x.shape[0], x.shape[1], 2, 8).transpose(1, 2)

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            x = self.embed(input_ids)
            q, k, v = (self.split(f(x)) for f in (self.query, self.key, self.value))
            kept = attention_mask[:, None, None, :].to(torch.bool)
            y = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=kept)
            x = x + y.transpose(1, 2).reshape(x.shape)
            x = x + self.down(torch.nn.functional.gelu(self.up(x)))
            return self.head(x[:, 0])

    torch.manual_seed(0)
    return Encoder().eval()


def keep_sum(taken: dict[object, float], layer: object, _: object, y: torch.Tensor) -> None:
    taken[layer] = float(y.double().sum())


@pytest.mark.parametrize("dynamo", [False, True])
def test_layers_equal_hooks_on_unpadded_texts(dynamo: bool, tmp_path: Path) -> None:
    model, data = encoder(), make_texts(12, count=5)
    names = ["input_ids", "attention_mask"]
    arguments = tuple(torch.tensor(data[name][:2]) for name in names)
    axes = {0: torch.export.Dim("n"), 1: torch.export.Dim("t")} if dynamo else {0: "n", 1: "t"}
    options = {"dynamic_shapes" if dynamo else "dynamic_axes": dict.fromkeys(names, axes)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporters' own
        torch.onnx.export(
            model,
            arguments,
            tmp_path / "m.onnx",
            input_names=names,
            dynamo=dynamo,
            verbose=False,
            **options,
        )
    cnatool.dump(
        tmp_path / "m.onnx",
        save_texts(data, tmp_path / "d.npz"),
        tmp_path / "s.zarr",
        tensors="layers",
        keep="statistics",
        statistics="abs_sum",
    )
    store = cnatool.open(tmp_path / "s.zarr")
    (split,) = store.splits.values()
    columns = [next(t.number for t in store.tensors if t.name == x.linear) for x in store.layers]
    assert len(columns) == 6
    sums, scales = split.statistics("sum")[:], split.statistics("abs_sum")[:]
    layers = [model.query, model.key, model.value, model.up, model.down, model.head]
    for row, real in enumerate(data["attention_mask"] == 1):
        taken: dict[object, float] = {}
        hooks = [layer.register_forward_hook(partial(keep_sum, taken)) for layer in layers]
        with torch.no_grad():
            model(*(torch.tensor(data[name][row : row + 1, real]) for name in names))
        for hook in hooks:
            hook.remove()
        expected = np.sort([taken[layer] for layer in layers])
        found, scale = sums[row, columns], scales[row, columns]
        assert (np.abs(np.sort(found) - expected) <= 1e-5 * scale[np.argsort(found)]).all()
