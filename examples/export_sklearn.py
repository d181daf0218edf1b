"""Export a network from scikit-learn, and compare it with scikit-learn itself.

Trains an ``MLPClassifier`` on the digits that ship with cnatool, writes the outputs of its layers
to a store through the writing API, exports it with skl2onnx, dumps and scores the export, and
compares the two. Needs skl2onnx. Writes ``OUTPUT/sklearn.zarr``, ``OUTPUT/skl2onnx.onnx`` and
``OUTPUT/skl2onnx.zarr``.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import numpy as np
import skl2onnx
from recipes import DIGITS, dump_and_compare, read_batches
from skl2onnx.common.data_types import FloatTensorType
from sklearn.neural_network import MLPClassifier

import cnatool


def prepare(raw: Any) -> Any:
    """Convert raw images to the input of the network, as the dump does."""
    return raw.reshape(len(raw), -1).astype(np.float32) / np.float32(255)


def record(network: MLPClassifier, path: Path) -> None:
    """Write the output of every layer to a store."""
    names = [f"layer{number}" for number in range(1, len(network.coefs_) + 1)]
    layers = [cnatool.Layer(name, operator="Gemm", output=name == names[-1]) for name in names]
    with cnatool.create_store(
        path,
        tensors={**dict.fromkeys(names, "Gemm"), "probabilities": "Softmax"},
        layers=layers,
        outputs=["probabilities"],
        weights=dict(zip(names, (w.T for w in network.coefs_), strict=True)),
        overwrite=True,
    ) as store:
        for split, parts in read_batches().items():
            for raw, labels in parts:
                values, results = prepare(raw), {}
                for name, w, b in zip(names, network.coefs_, network.intercepts_, strict=True):
                    results[name] = (values @ w + b).astype(np.float32)
                    values = np.maximum(results[name], 0)
                probabilities = network.predict_proba(prepare(raw)).astype(np.float32)
                store.append(
                    split,
                    inputs=raw,
                    labels=labels,
                    outputs=probabilities,
                    activations=results,
                )


def main() -> None:
    """Train, record, export, dump, score, compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", type=Path, default=Path())
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    data = np.load(DIGITS / "train.npz")
    network = MLPClassifier((64, 32), max_iter=200, random_state=0)
    network.fit(prepare(data["x"]), data["y"])
    recorded = options.output / "sklearn.zarr"
    record(network, recorded)

    path = options.output / "skl2onnx.onnx"
    # Without ZipMap, which hides the probabilities in dictionaries.
    exported = skl2onnx.to_onnx(
        network,
        initial_types=[("pictures", FloatTensorType([None, 64]))],
        options={"zipmap": False},
    )
    path.write_bytes(exported.SerializeToString())
    dump_and_compare(path, recorded)


if __name__ == "__main__":
    main()
