"""Loss and accuracy of the next token against PyTorch's cross entropy, from both exporters."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

import cnatool

torch = pytest.importorskip("torch", reason="torch is not installed")
nn, functional = torch.nn, torch.nn.functional

VOCABULARY, LONGEST = 61, 32


class Generator(nn.Module):
    """A small GPT: learned positions, pre-normalised blocks, tied embedding and head."""

    def __init__(self, width: int = 16, heads: int = 2, *, causal: bool = True) -> None:
        super().__init__()
        self.causal, self.heads = causal, heads
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(LONGEST, width)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(5))
        self.mixing = nn.ModuleList(nn.Linear(width, 3 * width) for _ in range(2))
        self.projections = nn.ModuleList(nn.Linear(width, width) for _ in range(2))
        self.up = nn.ModuleList(nn.Linear(width, 2 * width) for _ in range(2))
        self.down = nn.ModuleList(nn.Linear(2 * width, width) for _ in range(2))

    def forward(self, input_ids: Any) -> Any:
        n, t = input_ids.shape
        x = self.tokens(input_ids) + self.places(torch.arange(t))
        for i in range(2):
            parts = self.mixing[i](self.norms[2 * i](x)).chunk(3, dim=-1)
            q, k, v = (part.view(n, t, self.heads, -1).transpose(1, 2) for part in parts)
            scores = q @ k.transpose(2, 3) / q.shape[-1] ** 0.5
            if self.causal:
                ahead = torch.ones(t, t, dtype=torch.bool).triu(1)
                scores = scores.masked_fill(ahead, float("-inf"))
            mixed = (scores.softmax(-1) @ v).transpose(1, 2).reshape(n, t, -1)
            x = x + self.projections[i](mixed)
            x = x + self.down[i](functional.gelu(self.up[i](self.norms[2 * i + 1](x))))
        return self.norms[4](x) @ self.tokens.weight.T


def export(network: Any, path: Path, *, dynamo: bool) -> None:
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
    ids = torch.zeros(2, 5, dtype=torch.int64)
    axes: dict[str, Any] = {"dynamic_axes": {"input_ids": {0: "n", 1: "t"}}}
    if dynamo:
        sizes = {0: torch.export.Dim("n"), 1: torch.export.Dim("t", min=2, max=LONGEST)}
        axes = {"dynamic_shapes": (sizes,)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network.eval(),
            (ids,),
            path,
            input_names=["input_ids"],
            output_names=["logits"],
            dynamo=dynamo,
            verbose=False,
            **axes,
        )


@pytest.mark.parametrize("dynamo", [False, True])
def test_next_token(dynamo: bool, tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = Generator()
    export(network, tmp_path / "m.onnx", dynamo=dynamo)
    rng = np.random.default_rng(0)
    data = {
        split: [rng.integers(0, VOCABULARY, n) for n in rng.integers(2, 12, 20)]
        for split in ("train", "test")
    }
    for split, ids in data.items():
        frame = pl.DataFrame({"input_ids": [row.tolist() for row in ids]})
        frame.write_parquet(tmp_path / f"{split}.parquet")
    splits = {split: tmp_path / f"{split}.parquet" for split in data}
    cnatool.dump(tmp_path / "m.onnx", None, tmp_path / "s.zarr", splits=splits)
    result = cnatool.score(tmp_path / "s.zarr")
    frame = cnatool.score_samples(tmp_path / "s.zarr")
    means = []
    for split, ids in data.items():
        losses, right, count = [], 0, 0
        for row in ids:
            with torch.no_grad():
                logits = network(torch.tensor(row)[None])[0, :-1].double()
            target = torch.tensor(row[1:])
            losses.append(functional.cross_entropy(logits, target, reduction="sum").item())
            right += int((logits.argmax(-1) == target).sum())
            count += len(target)
            means.append(losses[-1] / len(target))
        scored = result.splits[split]
        assert scored.loss == pytest.approx(sum(losses) / count, rel=1e-5)
        assert scored.accuracy == pytest.approx(right / count, abs=1e-12)
        assert scored.tokens
        assert scored.tokens.perplexity == pytest.approx(np.exp(sum(losses) / count), rel=1e-4)
    assert frame["loss"].to_list() == pytest.approx(means, rel=1e-5)
    assert not cnatool.open(tmp_path / "s.zarr").record.outputs


def test_a_bidirectional_encoder_predicts_nothing(tmp_path: Path) -> None:
    torch.manual_seed(0)
    export(Generator(causal=False), tmp_path / "m.onnx", dynamo=False)
    ids = np.random.default_rng(0).integers(0, VOCABULARY, (12, 9))
    np.savez(tmp_path / "d.npz", input_ids=ids)
    cnatool.dump(tmp_path / "m.onnx", tmp_path / "d.npz", tmp_path / "s.zarr")
    assert not cnatool.open(tmp_path / "s.zarr").record.tokens
