"""What does a dump of a full-size network cost beside plain inference, and does it lose a tensor?

ResNet-50 and DenseNet-121 as the `onnx` package ships them for its own tests: real graphs, with
BatchNormalization unfolded, all weights equal, and a batch of 1. A copy gets random weights, so
that values are as diverse and as hard to compress as real ones, and a free batch axis. The images
are random, of 224 by 224 pixels.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper
from processes import run_process
from timing import compare

import cnatool

MODELS = {"ResNet-50": "light_resnet50", "DenseNet-121": "light_densenet121"}
# Of plain inference; cnatool chooses by itself.
BATCH = 8


def write_model(name: str, path: Path) -> Path:
    """Write a copy of a light model with random weights and a free batch axis."""
    source = Path(onnx.__file__).parent / "backend/test/data/light" / f"{name}.onnx"
    model = onnx.load(source)
    graph = model.graph
    rng = np.random.default_rng(0)
    shapes = {weight.name: numpy_helper.to_array(weight) for weight in graph.initializer}
    users = {name: (node.op_type, i) for node in graph.node for i, name in enumerate(node.input)}
    nodes, weights = [], dict.fromkeys(shapes)
    for node in graph.node:
        if node.op_type == "ConstantOfShape":
            user = users.get(node.output[0], ("", 0))
            values = _make_values(rng, *user, tuple(shapes[node.input[0]]))
            weights[node.output[0]] = numpy_helper.from_array(values, node.output[0])
            weights.pop(node.input[0], None)
            continue
        if node.op_type == "Reshape":  # to (1, features)
            _, size = shapes[node.input[1]]
            flat = numpy_helper.from_array(np.array([-1, size]), node.input[1])
            weights[node.input[1]] = flat
        nodes.append(node)
    old = {weight.name: weight for weight in graph.initializer}
    initializers = [weight or old[name] for name, weight in weights.items()]
    inputs = [value for value in graph.input if value.name not in old]
    outputs = list(graph.output)
    for value in (*inputs, *outputs):
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    copy = onnx.helper.make_graph(nodes, graph.name, inputs, outputs, initializers)
    onnx.save(onnx.helper.make_model(copy, opset_imports=model.opset_import, ir_version=8), path)
    return path


def _make_values(
    rng: np.random.Generator, user: str, place: int, shape: tuple[int, ...]
) -> NDArray[np.float32]:
    """Make weights with which values neither vanish nor explode."""
    if user == "Unsqueeze" or (user == "BatchNormalization" and place in (1, 4)):
        return rng.uniform(0.5, 1.5, shape).astype(np.float32)
    spread = np.sqrt(2 / np.prod(shape[1:])) if len(shape) > 1 else 0.1
    return rng.normal(0, spread, shape).astype(np.float32)


def run_inference(model: Path, data: Path, rows: int) -> None:
    """Run the model over the images as a user would without any tool."""
    session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
    images = np.load(data, mmap_mode="r")
    for start in range(0, rows, BATCH):
        batch = images[start : start + BATCH][: rows - start].astype(np.float32)
        session.run(None, {session.get_inputs()[0].name: batch / np.float32(255)})


def dump(model: Path, data: Path, rows: int, keep: Any, folder: Path) -> None:
    """Dump into a store, check that no tensor is missing, and remove the store."""
    path = folder / f"{uuid4()}.zarr"
    store = cnatool.dump(model, data, path, keep=keep, limit=rows, scale=1 / 255)
    kept = {tensor.name for tensor in store.record.tensors}
    skipped = {tensor.name for tensor in store.record.skipped}
    names = {name for node in onnx.load(model).graph.node for name in node.output}
    missing = names - kept - {name for name in skipped if name not in kept}
    assert not missing, missing
    print(f"  {len(kept)} tensors kept, {len(skipped)} left out as constants, none missing")
    shutil.rmtree(path)


def main() -> None:
    """Print time and memory of each network and kind of dump."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--rows", type=int, default=64, help="images for statistics")
    parser.add_argument("--full-rows", type=int, default=8, help="images for full dumps")
    parser.add_argument("--alone", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.alone:
        model, data, rows, keep, folder = json.loads(options.alone)
        dump(Path(model), Path(data), rows, keep, Path(folder))
        return
    for title, name in MODELS.items():
        with tempfile.TemporaryDirectory() as made:
            folder = Path(made)
            model = write_model(name, folder / f"{name}.onnx")
            data = folder / "images.npy"
            count = max(options.rows, options.full_rows)
            pixels = np.random.default_rng(0).integers(0, 256, (count, 3, 224, 224), np.uint8)
            np.save(data, pixels)
            del pixels
            for keep, rows in (("statistics", options.rows), ("full", options.full_rows)):
                for part in (rows // 4, rows):
                    arguments = json.dumps([str(model), str(data), part, keep, str(folder)])
                    peak = run_process(sys.executable, __file__, "--alone", arguments).megabytes
                    print(f"{title}, {keep}, peak memory over {part} images: {peak:.0f} MB")
                compare(
                    f"{title}, {keep}, {rows} images",
                    ("plain inference", partial(run_inference, model, data, rows)),
                    ("dump", partial(dump, model, data, rows, keep, folder)),
                    options.rounds,
                )


if __name__ == "__main__":
    main()
