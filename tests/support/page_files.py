"""Models, data and loops that pages of the documentation name without making them."""

from __future__ import annotations

import io
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import polars
from PIL import Image

import cnatool
from support.buckets import Bucket, Server
from support.networks import Builder, mlp

DEMO = Path(cnatool.__file__).parent / "demo" / "data"


def make_demo_files(folder: Path) -> None:
    """Copy what a clone has of the demo; a network and the digits under the names of examples."""
    (folder / "cnatool").symlink_to(Path(cnatool.__file__).parent)
    for name in ("model.onnx", "net.onnx"):
        shutil.copy(DEMO / "networks" / "adam-epoch040.onnx", folder / name)
    (folder / "data").symlink_to(DEMO / "digits")


def make_photographs(folder: str, *, size: tuple[int, int] = (300, 260)) -> None:
    """Write pictures of two classes into a folder each."""
    rng = np.random.default_rng(0)
    for kind in ("cat", "dog"):
        (Path(folder) / kind).mkdir(parents=True)
        for number in range(3):
            pixels = rng.integers(0, 256, (*size[::-1], 3), np.uint8)
            Image.fromarray(pixels).save(Path(folder) / kind / f"{number}.png")


def make_convolution(path: str, side: int = 224) -> None:
    """Write a small convolutional network that takes colour pictures of this size."""
    b = Builder()
    hidden = b.node("Relu", [b.conv("pixels", "conv1", 3, 4, 3)], "relu1")
    hidden = b.node("Relu", [b.conv(hidden, "conv2", 4, 4, 3)], "relu2")
    pooled = b.node("GlobalAveragePool", [hidden], "pooled")
    b.gemm(b.node("Flatten", [pooled], "flat"), "logits", 4, 2)
    model = b.model({"pixels": ("n", 3, side, side)}, {"logits": ("n", 2)})
    onnx.save(model, path)


def make_text_model(path: str) -> None:
    """Write a network that takes token ids and their mask: embeddings, averaged, and a layer."""
    b = Builder()
    ids, mask = ("n", "length"), ("n", "length")
    embedded = b.node("Gather", [b.weight("table", 30, 8), "input_ids"], "embedded")
    weights = b.node("Cast", ["attention_mask"], "weights", to=onnx.TensorProto.FLOAT)
    axis = b.constant("axis", np.array([2], np.int64))
    masked = b.node("Mul", [embedded, b.node("Unsqueeze", [weights, axis], "columns")], "masked")
    pooled = b.node("ReduceMean", [masked], "pooled", axes=[1], keepdims=0)
    hidden = b.node("Relu", [b.gemm(pooled, "fc1", 8, 8)], "relu1")
    b.gemm(hidden, "logits", 8, 2)
    shapes = {"input_ids": ids, "attention_mask": mask}
    model = b.model(shapes, {"logits": ("n", 2)}, dtype=onnx.TensorProto.INT64)
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT
    onnx.save(model, path)


def make_tokenizer(folder: str, *texts: str) -> None:
    """Save a tokenizer of the words of some texts, as a hub has it."""
    import tokenizers

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *sorted({w for t in texts for w in t.split()})]
    model = tokenizers.models.WordLevel({word: i for i, word in enumerate(words)}, "[UNK]")
    made = tokenizers.Tokenizer(model)
    made.pre_tokenizer = tokenizers.pre_tokenizers.WhitespaceSplit()
    made.add_special_tokens(["[PAD]", "[CLS]", "[SEP]"])
    made.post_processor = tokenizers.processors.TemplateProcessing(
        single="[CLS] $A [SEP]", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    Path(folder).mkdir(exist_ok=True)
    made.save(f"{folder}/tokenizer.json")
    settings = json.dumps({"model_max_length": 12})
    Path(folder, "tokenizer_config.json").write_text(settings)


def make_sound_model(path: str) -> None:
    """Write a network over amplitudes of any length, and the settings of its hub."""
    b = Builder()
    shape = b.constant("shape", np.array([0, 1, -1], np.int64))
    tensor = b.node("Reshape", ["input_values", shape], "waves")
    for layer, (inputs, outputs, size, step) in enumerate([(1, 8, 25, 8), (8, 8, 9, 4)], 1):
        kernel = b.weight(f"conv{layer}.weight", outputs, inputs, size)
        tensor = b.node("Conv", [tensor, kernel], f"conv{layer}", strides=[step])
        tensor = b.node("Relu", [tensor], f"relu{layer}")
    pooled = b.node("ReduceMean", [tensor], "pooled", axes=[2], keepdims=0)
    hidden = b.node("Relu", [b.gemm(pooled, "fc1", 8, 8)], "relu3")
    b.gemm(hidden, "logits", 8, 2)
    onnx.save(b.model({"input_values": ("n", "length")}, {"logits": ("n", 2)}), path)
    settings = {
        "feature_extractor_type": "Wav2Vec2FeatureExtractor",
        "do_normalize": True,
        "feature_size": 1,
        "padding_value": 0.0,
        "sampling_rate": 16000,
    }
    config = Path("wav2vec2", "preprocessor_config.json")
    config.parent.mkdir(exist_ok=True)
    config.write_text(json.dumps(settings))


def make_two_exports(original: str, exported: str) -> None:
    """Write a network, and one whose second layer has other weights."""
    model = mlp()
    onnx.save(model, original)
    for weight in model.graph.initializer:
        if weight.name == "fc2.weight":
            values = onnx.numpy_helper.to_array(weight)
            weight.CopyFrom(onnx.numpy_helper.from_array(values.round(1), weight.name))
    onnx.save(model, exported)


def make_preprocessor_config(path: str) -> None:
    """Write the file that a hub keeps beside the weights of a vision transformer."""
    settings: dict[str, Any] = {
        "image_processor_type": "ViTImageProcessor",
        "do_resize": True,
        "size": {"height": 224, "width": 224},
        "resample": 2,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(json.dumps(settings), encoding="utf-8")


def fill_bucket() -> None:
    """Put digits into the bucket of the pages, and pictures as hubs keep them; write a recipe."""
    bucket = Bucket(Server(os.environ["AWS_ENDPOINT_URL"], Path()), "bucket")
    bucket.upload(DEMO / "digits", "mnist")
    images = []
    for pixels, _ in batches_of("train", 40, 1):
        encoded = io.BytesIO()
        Image.fromarray(pixels[0]).resize((32, 32)).save(encoded, "PNG")
        images.append({"bytes": encoded.getvalue(), "path": None})
    table = io.BytesIO()
    polars.DataFrame({"image": images, "label": [0, 1] * 20}).write_parquet(table)
    bucket.put("cifar10/train.parquet", table.getvalue())
    recipe = {"schema": "cnatool.preprocess/1", "colour": "grey", "resize": [8, 8]}
    Path("recipe.json").write_text(json.dumps(recipe), encoding="utf-8")


def batches_of(split: str, rows: int = 64, size: int = 32) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return the first digits of a split in batches."""
    with np.load(DEMO / "digits" / f"{split}.npz") as arrays:
        x, y = arrays["x"][:rows], arrays["y"][:rows]
    return [(x[i : i + size], y[i : i + size]) for i in range(0, rows, size)]
