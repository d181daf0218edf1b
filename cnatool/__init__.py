"""Dump the activations of exported networks, and score how they generalise.

>>> import cnatool
>>> store = cnatool.dump("model.onnx", "data/", "model.zarr")  # doctest: +SKIP
>>> store.splits["test"].activations("/relu/Relu_output_0")[:10]  # doctest: +SKIP
>>> cnatool.score(store).splits["test"].cna.value  # doctest: +SKIP
"""

from __future__ import annotations

from cnatool._version import __version__
from cnatool.errors import (
    BackendError,
    CnatoolError,
    DataError,
    MetricError,
    ModelError,
    NotAStoreError,
    StoreDamagedError,
    StoreInUseError,
    StoreVersionError,
    StoreWarning,
    StoreWriteError,
    UsageError,
)

# As in `typing`, which takes longer to import than everything here: until the command has begun,
# Ctrl-C gives a traceback.
TYPE_CHECKING = False

if TYPE_CHECKING:
    from typing import Any

    from cnatool._util.observer import Observer
    from cnatool.comparing.compare import compare
    from cnatool.comparing.results import Comparison
    from cnatool.dumping.dump import dump, preflight
    from cnatool.dumping.preflight import Preflight
    from cnatool.plotting.plot import plot
    from cnatool.recording.recording import Layer, Recording, create_store
    from cnatool.records.weights import Flatness
    from cnatool.scoring.layer_results import LayerScores
    from cnatool.scoring.layers import score_layers
    from cnatool.scoring.results import ScoreResult
    from cnatool.scoring.score import score, score_samples
    from cnatool.store.convert import convert
    from cnatool.store.reader import open_store as open
    from cnatool.store.store import Split, Store
    from cnatool.store.stored_array import StoredArray
    from cnatool.store.verify import Verification, verify
    from cnatool.studying.landscape import Landscape, landscape
    from cnatool.studying.results import LandscapeResult, StudyResult, TrajectoryResult
    from cnatool.studying.study import Study, study
    from cnatool.studying.trajectory import Trajectory, trajectory

__all__ = [
    "BackendError",
    "CnatoolError",
    "Comparison",
    "DataError",
    "Flatness",
    "Landscape",
    "LandscapeResult",
    "Layer",
    "LayerScores",
    "MetricError",
    "ModelError",
    "NotAStoreError",
    "Observer",
    "Preflight",
    "Recording",
    "ScoreResult",
    "Split",
    "Store",
    "StoreDamagedError",
    "StoreInUseError",
    "StoreVersionError",
    "StoreWarning",
    "StoreWriteError",
    "StoredArray",
    "Study",
    "StudyResult",
    "Trajectory",
    "TrajectoryResult",
    "UsageError",
    "Verification",
    "__version__",
    "compare",
    "convert",
    "create_store",
    "dump",
    "landscape",
    "open",
    "plot",
    "preflight",
    "score",
    "score_layers",
    "score_samples",
    "study",
    "trajectory",
    "verify",
]

# Scoring must not wait for onnxruntime, nor `cnatool --help` for anything: each name is imported
# when it is first used.
_LAZY = {
    "Comparison": ("cnatool.comparing.results", "Comparison"),
    "Flatness": ("cnatool.records.weights", "Flatness"),
    "Landscape": ("cnatool.studying.landscape", "Landscape"),
    "LandscapeResult": ("cnatool.studying.results", "LandscapeResult"),
    "Layer": ("cnatool.recording.recording", "Layer"),
    "LayerScores": ("cnatool.scoring.layer_results", "LayerScores"),
    "Observer": ("cnatool._util.observer", "Observer"),
    "Preflight": ("cnatool.dumping.preflight", "Preflight"),
    "Recording": ("cnatool.recording.recording", "Recording"),
    "ScoreResult": ("cnatool.scoring.results", "ScoreResult"),
    "Split": ("cnatool.store.store", "Split"),
    "Store": ("cnatool.store.store", "Store"),
    "StoredArray": ("cnatool.store.stored_array", "StoredArray"),
    "Study": ("cnatool.studying.study", "Study"),
    "StudyResult": ("cnatool.studying.results", "StudyResult"),
    "Trajectory": ("cnatool.studying.trajectory", "Trajectory"),
    "TrajectoryResult": ("cnatool.studying.results", "TrajectoryResult"),
    "Verification": ("cnatool.store.verify", "Verification"),
    "compare": ("cnatool.comparing.compare", "compare"),
    "convert": ("cnatool.store.convert", "convert"),
    "create_store": ("cnatool.recording.recording", "create_store"),
    "dump": ("cnatool.dumping.dump", "dump"),
    "landscape": ("cnatool.studying.landscape", "landscape"),
    "open": ("cnatool.store.reader", "open_store"),
    "plot": ("cnatool.plotting.plot", "plot"),
    "preflight": ("cnatool.dumping.dump", "preflight"),
    "score": ("cnatool.scoring.score", "score"),
    "score_layers": ("cnatool.scoring.layers", "score_layers"),
    "score_samples": ("cnatool.scoring.score", "score_samples"),
    "study": ("cnatool.studying.study", "study"),
    "trajectory": ("cnatool.studying.trajectory", "trajectory"),
    "verify": ("cnatool.store.verify", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cnatool' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
