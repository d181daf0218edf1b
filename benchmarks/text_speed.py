"""What does a dump of texts of any length cost beside the same network over padded batches?

Texts of 1 to 500 tokens are cut from the documentation of the project. Peers: ONNX Runtime over
padded batches, in the order of the data and sorted by length, each with its own fastest batch and
keeping nothing, and a loop over the same network in transformers, where a hook on every linear
operator sums its output over the real positions. Tokens are counted without padding.
"""

from __future__ import annotations

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import tokenizers
import torch
from numpy.typing import NDArray
from timing import alternate, find_fastest

import cnatool

_VOCABULARY = 4000
_LONGEST = 500
_BATCHES = (1, 2, 4, 8, 16, 32)
_DOCS = Path(__file__).resolve().parent.parent / "docs"

Batches = list[tuple[NDArray[np.int64], NDArray[np.int64]]]


def make_texts(count: int) -> list[str]:
    """Cut texts from the documentation, with numbers of words that are evenly distributed."""
    words = " ".join(path.read_text("utf-8") for path in sorted(_DOCS.rglob("*.md"))).split()
    generator = random.Random(0)
    texts = []
    for _ in range(count):
        length = generator.randint(1, _LONGEST * 2 // 5)
        start = generator.randrange(len(words) - length)
        texts.append(" ".join(words[start : start + length]))
    return texts


def train_tokenizer(texts: Sequence[str], path: Path) -> tokenizers.Tokenizer:
    """Train a byte-pair encoding on the texts, and save it."""
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE(unk_token="[UNK]"))
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel()
    special = ["[UNK]", "[CLS]", "[SEP]", "[PAD]"]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=_VOCABULARY, special_tokens=special)
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 1), ("[SEP]", 2)]
    )
    tokenizer.save(str(path))
    return tokenizer


def select_short(texts: Sequence[str], tokenizer: tokenizers.Tokenizer) -> list[str]:
    """Select the texts that the network can read."""
    encodings = tokenizer.encode_batch(texts)
    return [text for text, each in zip(texts, encodings, strict=True) if len(each.ids) <= _LONGEST]


def build_network() -> torch.nn.Module:
    """Build a small BERT with random weights."""
    from transformers import BertConfig, BertModel

    torch.manual_seed(0)
    configuration = BertConfig(
        vocab_size=_VOCABULARY,
        hidden_size=256,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=1024,
        max_position_embeddings=512,
        attn_implementation="eager",
    )
    network: torch.nn.Module = BertModel(configuration, add_pooling_layer=False).eval()
    return network


def export(network: torch.nn.Module, path: Path) -> None:
    """Export the network with free axes for samples and tokens."""

    class Wrapped(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
            result: torch.Tensor = self.network(input_ids, attention_mask)[0]
            return result

    ids = torch.ones((2, 7), dtype=torch.int64)
    axes = {0: "samples", 1: "tokens"}
    torch.onnx.export(
        Wrapped(),
        (ids, torch.ones_like(ids)),  # one tensor twice would become one input
        str(path),
        input_names=["input_ids", "attention_mask"],
        output_names=["states"],
        dynamic_axes={"input_ids": axes, "attention_mask": axes, "states": axes},
        opset_version=17,
        dynamo=False,
    )


def pad(rows: Sequence[Sequence[int]], size: int, *, ordered: bool) -> Batches:
    """Pad batches to the longest of each, in the order of the data or by length."""
    rows = sorted(rows, key=len) if ordered else rows
    batches = []
    for start in range(0, len(rows), size):
        group = rows[start : start + size]
        longest = max(map(len, group))
        ids = np.full((len(group), longest), 3, np.int64)
        mask = np.zeros((len(group), longest), np.int64)
        for place, row in enumerate(group):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        batches.append((ids, mask))
    return batches


def tokenize(tokenizer: Path, texts: Sequence[str]) -> list[list[int]]:
    """Encode texts in a batch, as fast as the package can."""
    loaded = tokenizers.Tokenizer.from_file(str(tokenizer))
    return [encoding.ids for encoding in loaded.encode_batch(texts)]


def run_padded(
    model: Path, tokenizer: Path, texts: Sequence[str], size: int, *, ordered: bool
) -> None:
    """Run ONNX Runtime over padded batches, from the files on."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    for ids, mask in pad(tokenize(tokenizer, texts), size, ordered=ordered):
        session.run(None, {"input_ids": ids, "attention_mask": mask})


def run_hooks(network: torch.nn.Module, tokenizer: Path, texts: Sequence[str], size: int) -> None:
    """Run the network in transformers, with sums over real positions by hooks."""
    sums: list[torch.Tensor] = []
    current: list[torch.Tensor] = []

    def hook(_: torch.nn.Module, __: object, output: torch.Tensor) -> None:
        kept = torch.where(current[0][:, :, None] > 0, output, 0)
        sums.append(kept.sum(dim=(1, 2), dtype=torch.float64))

    handles = [
        module.register_forward_hook(hook)
        for module in network.modules()
        if isinstance(module, torch.nn.Linear)
    ]
    with torch.inference_mode():
        for ids, mask in pad(tokenize(tokenizer, texts), size, ordered=True):
            current[:] = [torch.from_numpy(mask)]
            network(torch.from_numpy(ids), current[0])
    for handle in handles:
        handle.remove()


def dump(model: Path, tokenizer: Path, texts: Path, store: Path, **options: Any) -> None:
    """Dump the texts."""
    cnatool.dump(model, texts, store, tokenizer=tokenizer, overwrite=True, **options)


def measure_disk(path: Path) -> int:
    """Sum the sizes of all files of a store."""
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file())


def list_calls(
    folder: Path, texts: Sequence[str], network: torch.nn.Module
) -> Iterator[tuple[str, Callable[[], object]]]:
    """List what is timed, each peer with its own fastest batch."""
    model, tokenizer = folder / "bert.onnx", folder / "tokenizer.json"
    some = texts[: len(texts) // 8]
    for title, ordered in (("order of the data", False), ("sorted by length", True)):
        run = partial(run_padded, model, tokenizer, ordered=ordered)
        size = find_fastest(lambda size, run=run: run(some, size), _BATCHES)
        yield f"ONNX Runtime, padded, {title}, batch {size}", partial(run, texts, size)
    size = find_fastest(lambda size: run_hooks(network, tokenizer, some, size), _BATCHES, 1)
    yield (
        f"transformers with hooks, batch {size}",
        partial(run_hooks, network, tokenizer, texts, size),
    )
    whole = partial(dump, model, tokenizer, folder / "texts.txt", folder / "store.zarr")
    yield "cnatool, sums of layers", partial(whole, keep="statistics", tensors="layers")
    yield "cnatool, sums of all tensors", partial(whole, keep="statistics")


def compare_disk(folder: Path, texts: Sequence[str]) -> None:
    """Print the sizes of a store of whole layers, ragged and padded to the longest text."""
    model, tokenizer = folder / "bert.onnx", folder / "tokenizer.json"
    dump(model, tokenizer, folder / "texts.txt", folder / "ragged.zarr", tensors="layers")
    [(ids, mask)] = pad(tokenize(tokenizer, texts), len(texts), ordered=False)
    np.savez(folder / "padded.npz", input_ids=ids, attention_mask=mask)
    cnatool.dump(
        model,
        folder / "padded.npz",
        folder / "padded.zarr",
        tensors="layers",
        mask="none",
        batch_size=8,
    )
    ragged, padded = (measure_disk(folder / f"{name}.zarr") for name in ("ragged", "padded"))
    print(f"{len(texts)} texts, layers whole: {ragged / 1e6:.1f} MB, padded {padded / 1e6:.1f} MB")


def main() -> None:
    """Print real tokens a second, and the sizes of stores."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    onnxruntime.set_default_logger_severity(3)
    texts = make_texts(options.texts * 5 // 4)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = train_tokenizer(texts, folder / "tokenizer.json")
        texts = select_short(texts, tokenizer)[: options.texts]
        tokens = sum(len(encoding.ids) for encoding in tokenizer.encode_batch(texts))
        network = build_network()
        export(network, folder / "bert.onnx")
        (folder / "texts.txt").write_text("\n".join(texts) + "\n", "utf-8")
        print(f"{len(texts)} texts, {tokens:,} tokens")
        calls = dict(list_calls(folder, texts, network))
        for title, taken in alternate(calls, options.rounds, lambda: None).items():
            best = min(each.seconds for each in taken)
            used = min(each.processor_seconds for each in taken)
            print(
                f"{title}: {best:.1f} s, {tokens / best:,.0f} tokens a second; "
                f"{used:.1f} s of processor time, {tokens / used:,.0f} tokens",
                flush=True,
            )
        few = texts[: len(texts) // 10]
        (folder / "texts.txt").write_text("\n".join(few) + "\n", "utf-8")
        compare_disk(folder, few)


if __name__ == "__main__":
    main()
