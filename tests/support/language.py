"""Small language models in PyTorch: an encoder with masks and types, and a causal decoder."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch", reason="PyTorch is not installed")
nn = torch.nn


class _Layer(nn.Module):  # type: ignore[misc, name-defined]
    """Attention and two linear layers, normalised behind them."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query, self.key, self.value, self.out = (nn.Linear(width, width) for _ in range(4))
        self.wide, self.narrow = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)
        self.first, self.second = nn.LayerNorm(width), nn.LayerNorm(width)

    def forward(self, x: Any, mask: Any) -> Any:
        scores = self.query(x) @ self.key(x).transpose(-1, -2) / math.sqrt(x.shape[-1])
        x = self.first(x + self.out((scores + mask).softmax(-1) @ self.value(x)))
        return self.second(x + self.narrow(nn.functional.gelu(self.wide(x))))


class _Model(nn.Module):  # type: ignore[misc, name-defined]
    def __init__(self, vocabulary: int, rows: int, width: int) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(vocabulary, width), nn.Embedding(rows, width)
        self.register_buffer("position_ids", torch.arange(rows)[None])
        self.layers = nn.ModuleList(_Layer(width) for _ in range(2))


class Encoder(_Model):
    """As BERT: scores of a text's class from its first token."""

    def __init__(self, vocabulary: int, rows: int = 64, width: int = 8) -> None:
        super().__init__(vocabulary, rows, width)
        self.types, self.head = nn.Embedding(2, width), nn.Linear(width, 3)

    def forward(self, input_ids: Any, attention_mask: Any, token_type_ids: Any) -> Any:
        places = self.places(self.position_ids[:, : input_ids.shape[1]])
        x = self.words(input_ids) + places + self.types(token_type_ids)
        mask = (1.0 - attention_mask[:, None, :].float()) * -1e9
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x[:, 0])


class Decoder(_Model):
    """As GPT-2: scores of the next token at each token."""

    def __init__(self, vocabulary: int, rows: int = 64, width: int = 8) -> None:
        super().__init__(vocabulary, rows, width)
        self.head = nn.Linear(width, vocabulary, bias=False)

    def forward(self, input_ids: Any) -> Any:
        length = input_ids.shape[1]
        x = self.words(input_ids) + self.places(torch.arange(length)[None])
        mask = torch.full((length, length), -1e9).triu(1)
        for layer in self.layers:
            x = layer(x, mask)
        return self.head(x)


def run_alone(model: Any, ids: list[int]) -> dict[str, Any]:
    """Run a single text without padding; return the output of each module by name."""
    caught: dict[str, Any] = {}

    def catch(name: str) -> Any:
        return lambda _module, _given, out: caught.__setitem__(name, out.detach().numpy())

    kinds = (nn.Linear, nn.LayerNorm, nn.Embedding)
    hooks = [
        module.register_forward_hook(catch(name))
        for name, module in model.named_modules()
        if isinstance(module, kinds)
    ]
    tokens = torch.tensor([ids])
    more = (torch.ones_like(tokens), torch.zeros_like(tokens)) * isinstance(model, Encoder)
    with torch.no_grad():
        caught["logits"] = model(tokens, *more).numpy()
    for hook in hooks:
        hook.remove()
    return caught


def export(model: Any, path: Path, *, dynamo: bool = False) -> Path:
    """Export a model with free numbers of samples and tokens."""
    ids = torch.randint(5, 50, (2, 7), generator=torch.Generator().manual_seed(0))
    names, samples = ["input_ids"], (ids,)
    if isinstance(model, Encoder):
        names += ["attention_mask", "token_type_ids"]
        samples = (ids, torch.ones_like(ids), torch.zeros_like(ids))
    form: dict[str, Any] = {"input_names": names, "output_names": ["logits"]}
    model = model.eval()
    if dynamo:
        pytest.importorskip("onnxscript", reason="onnxscript is not installed")
        batch, length = torch.export.Dim("batch"), torch.export.Dim("length", max=60)
        shapes = {name: {0: batch, 1: length} for name in names}
        torch.onnx.export(
            model, samples, path, dynamo=True, dynamic_shapes=shapes, external_data=False, **form
        )
    else:
        axes = {name: {0: "batch", 1: "length"} for name in names}
        torch.onnx.export(model, samples, path, dynamo=False, dynamic_axes=axes, **form)
    return path
