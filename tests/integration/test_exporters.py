"""Files that optimum and onnxruntime-genai write, against hooks on each text alone."""

from __future__ import annotations

import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support.tokenizers import doc_lines, save_tokenizer

import cnatool
from cnatool.errors import DataError

torch = pytest.importorskip("torch", reason="torch is not installed")
transformers = pytest.importorskip("transformers", reason="transformers is not installed")
tokenizers = pytest.importorskip("tokenizers", reason="tokenizers is not installed")

VOCABULARY, WIDTH = 400, 64
SIZES = {"num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 48}
LLAMA = {"num_key_value_heads": 2, "bos_token_id": 0, "eos_token_id": 0, "pad_token_id": 0}
# Modules whose results the graph has as tensors of their own.
KINDS = ("Linear", "LayerNorm", "Conv1D", "LlamaRMSNorm", "Qwen2RMSNorm", "T5LayerNorm")


def build(name: str) -> tuple[Any, str]:
    """Build a small network with random weights; return also the kind of its tokenizer."""
    t, sizes = transformers, {"vocab_size": VOCABULARY, "hidden_size": WIDTH, **SIZES}
    torch.manual_seed(0)
    if name == "bert":
        return t.BertForSequenceClassification(t.BertConfig(**sizes, num_labels=3)), "bert"
    if name == "distilbert":
        made = t.DistilBertConfig(VOCABULARY, dim=WIDTH, n_layers=2, n_heads=4, hidden_dim=48)
        return t.DistilBertModel(made), "bert"
    if name == "gpt2":
        made = t.GPT2Config(VOCABULARY, 64, WIDTH, 2, 4, bos_token_id=0, eos_token_id=0)
        return t.GPT2LMHeadModel(made), "bpe"
    if name == "llama":
        return t.LlamaForCausalLM(t.LlamaConfig(**sizes, **LLAMA)), "bpe"
    if name == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**sizes, **LLAMA)), "bpe"
    made = t.T5Config(VOCABULARY, WIDTH, 16, 48, 2, num_heads=4, decoder_start_token_id=0)
    return t.T5ForConditionalGeneration(made), "bert"


def export(folder: Path, path: Path, task: str) -> Path:
    """Export by optimum, whose warnings are its own."""
    optimum = pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx is not installed")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        optimum.main_export(str(folder), path, task=task, do_validation=False)
    return path


def save(name: str, folder: Path) -> tuple[Any, Path]:
    """Save a network and its tokenizer as a model hub keeps them."""
    network, kind = build(name)
    with torch.no_grad():  # so that no bias is 0, and no normalisation plain
        for weight in network.parameters():
            weight.add_(0.1 * torch.randn_like(weight))
    network.eval().save_pretrained(folder / name)
    file = str(save_tokenizer(folder / name, kind, VOCABULARY))
    transformers.PreTrainedTokenizerFast(tokenizer_file=file).save_pretrained(folder / name)
    return network, folder / name


def write_texts(path: Path) -> Path:
    """Write 32 texts of one to 14 words of the documentation."""
    lines = [line.split() for line in doc_lines() if len(line) > 20]
    path.write_text("".join(" ".join(lines[n][: 1 + n % 14]) + "\n" for n in range(32)))
    return path


def run_alone(network: Any, **inputs: list[int]) -> dict[str, Any]:
    """Run a text without padding; return the results of its modules, and its scores."""
    caught: dict[str, Any] = {}
    hooks = [
        module.register_forward_hook(
            lambda _module, _given, out, name=name: caught.__setitem__(name, out[0].numpy())
        )
        for name, module in network.named_modules()
        if type(module).__name__ in KINDS
    ]
    ids = {name: torch.tensor([row]) for name, row in inputs.items()}
    with torch.no_grad():
        found = network(**ids, attention_mask=torch.ones_like(ids["input_ids"]))
    for hook in hooks:
        hook.remove()
    scores = getattr(found, "logits", None)
    return caught | ({} if scores is None else {"logits": scores[0].numpy()})


def check_hooks(
    store: cnatool.Store, truth: list[dict[str, Any]], wanted: str, missing: int = 0
) -> None:
    """Find the result of each module, by its values, among the tensors of a store."""
    [split] = store.splits.values()
    sums = split.statistics("sum")[:]
    stored = {t.number: split.activations(t.name)[:] for t in store.tensors if t.kept == "full"}
    stored |= {
        t.number: split.outputs(t.output)[:]
        for t in store.tensors
        if t.output is not None and t.name in {output.name for output in store.record.outputs}
    }
    lost = []
    for name in (name for name in truth[0] if name.startswith(wanted) and name != "logits"):
        values = [each[name] for each in truth]
        fitting = [
            number
            for number, rows in stored.items()
            if all(_close(row, value) for row, value in zip(rows, values, strict=True))
        ]
        if not fitting:
            lost.append(name)
            continue
        total = np.array([value.sum(dtype=float) for value in values])
        scale = np.array([np.abs(value).sum(dtype=float) for value in values])
        assert (np.abs(sums[:, fitting[0]] - total) <= 1e-5 * scale).all(), name
    assert len(lost) == missing, lost


def _close(row: Any, value: Any) -> bool:
    """Whether values are the same in any shape, as of merged axes."""
    row, value = np.ravel(row), np.ravel(value)
    return row.size == value.size and np.allclose(row, value, 1e-4, 1e-5 * np.abs(value).max())


def check_loss(store: cnatool.Store, ids: list[list[int]], truth: list[dict[str, Any]]) -> None:
    """Compare the loss of the next token of each text with PyTorch's."""
    losses = store.splits["all"].token_scores("loss")[:]
    for loss, row, each in zip(losses, ids, truth, strict=True):
        scores = torch.tensor(each["logits"][:-1]).double()
        target = torch.tensor(row[1:], dtype=torch.int64)
        wanted = torch.nn.functional.cross_entropy(scores, target, reduction="sum").item()
        assert loss == pytest.approx(wanted if len(target) else 0, rel=1e-5)


def tokenize(folder: Path, texts: Path) -> list[list[int]]:
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    return [tokenizer.encode(text).ids for text in texts.read_text().splitlines()]


@pytest.mark.parametrize(
    ("name", "task"),
    [
        ("bert", "text-classification"),
        ("distilbert", "feature-extraction"),
        ("gpt2", "text-generation-with-past"),
        ("llama", "text-generation-with-past"),
    ],
)
def test_optimum(name: str, task: str, tmp_path: Path) -> None:
    pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx is not installed")
    network, folder = save(name, tmp_path)
    exported = export(folder, tmp_path / "onnx", task)
    texts = write_texts(tmp_path / "t.txt")
    store = cnatool.dump(exported / "model.onnx", texts, tmp_path / "s.zarr", tokenizer=folder)
    ids = tokenize(folder, texts)
    truth = [run_alone(network, input_ids=row) for row in ids]
    # The scores of the vocabulary, which the last module gives, are not stored.
    check_hooks(store, truth, "", missing=int("generation" in task))
    if "generation" in task:
        check_loss(store, ids, truth)


def test_optimum_encoder_and_decoder(tmp_path: Path) -> None:
    """The encoder reads texts; the decoder takes its states, merged with the one with a past."""
    pytest.importorskip("optimum.exporters.onnx", reason="optimum-onnx is not installed")
    network, folder = save("t5", tmp_path)
    task = "text2text-generation-with-past"
    files = {path.stem: path for path in export(folder, tmp_path / "onnx", task).glob("*.onnx")}
    texts = write_texts(tmp_path / "t.txt")
    ids = tokenize(folder, texts)
    read = [[0, *range(7, 7 + n % 4)] for n in range(len(ids))]
    truth = [
        run_alone(network, input_ids=row, decoder_input_ids=told)
        for row, told in zip(ids, read, strict=True)
    ]
    encoder = cnatool.dump(files["encoder_model"], texts, tmp_path / "e.zarr", tokenizer=folder)
    check_hooks(encoder, truth, "encoder")
    states = encoder.splits["all"].outputs(0)
    np.savez(
        tmp_path / "d.npz",
        **{
            "input_ids/values": np.concatenate(read),
            "input_ids/offsets": np.cumsum([0, *map(len, read)]),
            "encoder_hidden_states/values": np.concatenate(list(states[:])),
            "encoder_hidden_states/offsets": np.cumsum([0, *map(len, ids)]),
        },
    )
    decoder = cnatool.dump(files["decoder_model_merged"], tmp_path / "d.npz", tmp_path / "d.zarr")
    check_hooks(decoder, truth, "decoder")
    check_loss(decoder, read, truth)
    with pytest.raises(DataError, match="dump the decoder without a past, or the merged one"):
        cnatool.dump(files["decoder_with_past_model"], texts, tmp_path / "p.zarr", tokenizer=folder)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_genai(name: str, tmp_path: Path) -> None:
    """The past, whose heads have a size by a name; query, key and value lie in one tensor."""
    pytest.importorskip("onnxruntime_genai", reason="onnxruntime-genai is not installed")
    network, folder = save(name, tmp_path)
    texts = write_texts(tmp_path / "t.txt")
    ids = tokenize(folder, texts)
    truth = [run_alone(network, input_ids=row) for row in ids]
    for precision in ("fp32", "int4"):
        command = [sys.executable, "-m", "onnxruntime_genai.models.builder", "-i", str(folder)]
        command += ["-o", str(tmp_path / precision), "-p", precision, "-e", "cpu"]
        command += ["-c", str(tmp_path / "cache")]
        subprocess.run(command, check=True, capture_output=True)
        store = cnatool.dump(
            tmp_path / precision / "model.onnx", texts, tmp_path / "s.zarr",
            tokenizer=folder, overwrite=True,
        )  # fmt: skip
        assert [rule.rule for rule in store.record.derived] == ["mask", *["empty"] * 4]
        assert len(store.layers) == 11
        if precision == "fp32":
            check_hooks(store, truth, "", missing=7)
            check_loss(store, ids, truth)
