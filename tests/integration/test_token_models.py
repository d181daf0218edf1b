"""A Transformer over token ids and a mask: the same store from every form, and PyTorch's logits."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable
from math import log2
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from support.command import run

import cnatool

torch = pytest.importorskip("torch", reason="torch is not installed")
pytest.importorskip("onnxscript", reason="onnxscript is not installed")
nn = torch.nn

SAMPLES, VOCABULARY, CLASSES = 90, 50, 3


class Encoder(nn.Module):
    """Two layers of attention, and a linear one on the mean of what the mask keeps."""

    def __init__(self, width: int = 16, longest: int = 64) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.places = nn.Embedding(longest, width)
        layer = nn.TransformerEncoderLayer(width, 4, 32, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        x = self.tokens(input_ids) + self.places(torch.arange(input_ids.shape[1]))
        x = self.encoder(x, src_key_padding_mask=attention_mask == 0)
        kept = attention_mask.unsqueeze(-1).to(x.dtype)
        return self.head((x * kept).sum(1) / kept.sum(1))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """The network, and its export with free numbers of samples and of tokens."""
    torch.manual_seed(0)
    network = Encoder().eval()
    path = tmp_path_factory.mktemp("model") / "encoder.onnx"
    axes = {0: torch.export.Dim("batch"), 1: torch.export.Dim("sequence", max=64)}
    # Not one tensor twice: the exporter would take both inputs for one.
    samples = (torch.ones(2, 5, dtype=torch.int64), torch.ones(2, 5, dtype=torch.int64))
    with warnings.catch_warnings():
        # What the exporter warns of is its own: that both inputs share their axes, and the like.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network,
            samples,
            path,
            input_names=["input_ids", "attention_mask"],
            output_names=["logits"],
            dynamic_shapes=(axes, axes),
            external_data=False,
            verbose=False,
        )
    return network, path


def texts(length: int) -> tuple[Any, Any, Any, list[list[int]]]:
    """Token ids padded with 0, their mask, labels, and the ids without padding."""
    rng = np.random.default_rng(length)
    lengths = rng.integers(2, length + 1, SAMPLES)
    mask = (np.arange(length) < lengths[:, None]).astype(np.int64)
    ids = np.where(mask, rng.zipf(1.5, mask.shape).clip(1, VOCABULARY - 1), 0)
    bare = [row[:size].tolist() for row, size in zip(ids, lengths, strict=True)]
    return ids, mask, rng.integers(0, CLASSES, SAMPLES), bare


def parquet(path: Path, ids: Any, mask: Any, labels: Any) -> Path:
    columns = {"input_ids": ids.tolist(), "attention_mask": mask.tolist(), "label": labels}
    pl.DataFrame(columns).write_parquet(path / "d.parquet", row_group_size=40)
    return path / "d.parquet"


def npz(path: Path, ids: Any, mask: Any, labels: Any) -> Path:
    np.savez(path / "d.npz", input_ids=ids, attention_mask=mask, label=labels)
    return path / "d.npz"


def arrays(store: Path) -> dict[str, Any]:
    opened = cnatool.open(store)
    [split] = opened.splits.values()
    found = {
        f"activation {t.name}": split.activations(t.name)[:] for t in opened.tensors if t.stored
    }
    return found | {
        "ids": split.inputs(0)[:],
        "mask": split.inputs(1)[:],
        "labels": split.labels[:],
        "logits": split.outputs()[:],
        "sums": split.statistics()[:],
    }


def literal_entropy(symbols: list[int]) -> float:
    counts = Counter(symbols).values()
    return -sum(n / len(symbols) * log2(n / len(symbols)) for n in counts)


@pytest.mark.parametrize("length", [12, 7])
def test_two_inputs_of_tokens(length: int, model: tuple[Any, Path], tmp_path: Path) -> None:
    network, path = model
    ids, mask, labels, bare = texts(length)
    stores = []
    forms: tuple[Callable[..., Path], ...] = (parquet, npz)
    for form in forms:
        store = tmp_path / f"{form.__name__}.zarr"
        run("dump", path, form(tmp_path, ids, mask, labels), "-o", store, cwd=tmp_path)
        stores.append(arrays(store))
    one, other = stores
    assert one.keys() == other.keys()
    for name, values in one.items():
        assert values.dtype == other[name].dtype
        assert [row.tobytes() for row in values] == [row.tobytes() for row in other[name]], name
    assert (one["ids"].dtype, one["mask"].dtype) == (np.int64, np.int64)
    assert [row.tolist() for row in one["ids"]] == bare
    np.testing.assert_array_equal(one["mask"], mask)
    np.testing.assert_array_equal(one["labels"], labels)
    with torch.no_grad():
        logits = network(torch.from_numpy(ids), torch.from_numpy(mask)).numpy()
    np.testing.assert_allclose(one["logits"], logits, rtol=1e-5, atol=2e-6)
    run("score", "npz.zarr", "--samples", "s.parquet", cwd=tmp_path)
    scored = pl.read_parquet(tmp_path / "s.parquet")
    # One bin a symbol; padding is none.
    expected = [literal_entropy(row) for row in bare]
    np.testing.assert_allclose(scored["alpha"], expected, rtol=0, atol=1e-12)
    np.testing.assert_array_equal(scored["prediction"], logits.argmax(axis=1))


def test_texts_of_different_lengths(model: tuple[Any, Path], tmp_path: Path) -> None:
    network, path = model
    _, mask, labels, bare = texts(12)
    columns = {"input_ids": bare, "attention_mask": [[1] * len(row) for row in bare]}
    pl.DataFrame(columns | {"label": labels}).write_parquet(tmp_path / "d.parquet")
    done = run("dump", path, "d.parquet", "-o", "own.zarr", cwd=tmp_path)
    assert "Samples of the same length run together, without padding" in done.stderr
    split = cnatool.open(tmp_path / "own.zarr").splits["all"]
    assert [ids.tolist() for ids in split.inputs()[:]] == bare
    with torch.no_grad():
        for row, text in enumerate(bare):
            alone = torch.tensor([text])
            logits = network(alone, torch.ones_like(alone)).numpy()[0]
            np.testing.assert_allclose(split.outputs()[row], logits, rtol=1e-5, atol=2e-6)
    # The same texts padded.
    width = max(map(len, bare))
    padded = {name: [row + [0] * (width - len(row)) for row in columns[name]] for name in columns}
    pl.DataFrame(padded | {"label": labels}).write_parquet(tmp_path / "d.parquet")
    run("dump", path, "d.parquet", "-o", "s.zarr", cwd=tmp_path)
    found = arrays(tmp_path / "s.zarr")
    # Padding is left out of what is stored.
    assert [row.tolist() for row in found["ids"]] == bare
    np.testing.assert_array_equal(found["mask"], mask[:, :width])
    np.testing.assert_allclose(found["logits"], split.outputs()[:], rtol=1e-5, atol=2e-6)
