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

    from cnatool.comparing import compare
    from cnatool.comparison_results import Comparison
    from cnatool.converting import convert
    from cnatool.dumping import dump, preflight
    from cnatool.forecast import Preflight
    from cnatool.layer_results import LayerScores
    from cnatool.layer_scores import score_layers
    from cnatool.observing import Observer
    from cnatool.recording import Layer, Recording, create_store
    from cnatool.report.plotting import plot
    from cnatool.results import ScoreResult
    from cnatool.scoring import score, score_samples
    from cnatool.store.flatness_records import Flatness
    from cnatool.store.reader import Split, Store
    from cnatool.store.reader import open_store as open
    from cnatool.store.stored_array import StoredArray
    from cnatool.studying.landscape import Landscape, landscape
    from cnatool.studying.landscape_results import LandscapeResult
    from cnatool.studying.results import StudyResult
    from cnatool.studying.study import Study, study
    from cnatool.studying.trajectory import Trajectory, trajectory
    from cnatool.studying.trajectory_results import TrajectoryResult
    from cnatool.verifying import Verification, verify

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
    "Comparison": ("cnatool.comparison_results", "Comparison"),
    "Flatness": ("cnatool.store.flatness_records", "Flatness"),
    "Landscape": ("cnatool.studying.landscape", "Landscape"),
    "LandscapeResult": ("cnatool.studying.landscape_results", "LandscapeResult"),
    "Layer": ("cnatool.recording", "Layer"),
    "LayerScores": ("cnatool.layer_results", "LayerScores"),
    "Observer": ("cnatool.observing", "Observer"),
    "Preflight": ("cnatool.forecast", "Preflight"),
    "Recording": ("cnatool.recording", "Recording"),
    "ScoreResult": ("cnatool.results", "ScoreResult"),
    "Split": ("cnatool.store.reader", "Split"),
    "Store": ("cnatool.store.reader", "Store"),
    "StoredArray": ("cnatool.store.stored_array", "StoredArray"),
    "Study": ("cnatool.studying.study", "Study"),
    "StudyResult": ("cnatool.studying.results", "StudyResult"),
    "Trajectory": ("cnatool.studying.trajectory", "Trajectory"),
    "TrajectoryResult": ("cnatool.studying.trajectory_results", "TrajectoryResult"),
    "Verification": ("cnatool.verifying", "Verification"),
    "compare": ("cnatool.comparing", "compare"),
    "convert": ("cnatool.converting", "convert"),
    "create_store": ("cnatool.recording", "create_store"),
    "dump": ("cnatool.dumping", "dump"),
    "landscape": ("cnatool.studying.landscape", "landscape"),
    "open": ("cnatool.store.reader", "open_store"),
    "plot": ("cnatool.report.plotting", "plot"),
    "preflight": ("cnatool.dumping", "preflight"),
    "score": ("cnatool.scoring", "score"),
    "score_layers": ("cnatool.layer_scores", "score_layers"),
    "score_samples": ("cnatool.scoring", "score_samples"),
    "study": ("cnatool.studying.study", "study"),
    "trajectory": ("cnatool.studying.trajectory", "trajectory"),
    "verify": ("cnatool.verifying", "verify"),
}


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'cnatool' has no attribute {name!r}")
    from importlib import import_module

    module, attribute = _LAZY[name]
    return getattr(import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(__all__)
