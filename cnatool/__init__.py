"""Dump the activations of exported networks, and score how they generalise.

>>> import cnatool
>>> store = cnatool.dump("model.onnx", "data/", "model.zarr")  # doctest: +SKIP
>>> store.splits["test"].activations("/relu/Relu_output_0")[:10]  # doctest: +SKIP
>>> cnatool.score(store).splits["test"].cna.value  # doctest: +SKIP
"""

from __future__ import annotations

# As in `typing`, which takes longer to import than everything here.
TYPE_CHECKING = False

if TYPE_CHECKING:
    # For type checkers and editors, the same names as in the table below.
    from typing import Any

    from cnatool._util.observer import Observer as Observer
    from cnatool._version import __version__ as __version__
    from cnatool.comparing.compare import compare as compare
    from cnatool.comparing.drift.drift import Drift as Drift
    from cnatool.comparing.drift.drift import drift as drift
    from cnatool.comparing.drift.results import DriftResult as DriftResult
    from cnatool.comparing.results import Comparison as Comparison
    from cnatool.dumping.dump import dump as dump
    from cnatool.dumping.dump import preflight as preflight
    from cnatool.dumping.preflight import Preflight as Preflight
    from cnatool.errors import BackendError as BackendError
    from cnatool.errors import CnatoolError as CnatoolError
    from cnatool.errors import DataError as DataError
    from cnatool.errors import MetricError as MetricError
    from cnatool.errors import ModelError as ModelError
    from cnatool.errors import NotAStoreError as NotAStoreError
    from cnatool.errors import StoreAccessError as StoreAccessError
    from cnatool.errors import StoreDamagedError as StoreDamagedError
    from cnatool.errors import StoreInUseError as StoreInUseError
    from cnatool.errors import StoreVersionError as StoreVersionError
    from cnatool.errors import StoreWarning as StoreWarning
    from cnatool.errors import StoreWriteError as StoreWriteError
    from cnatool.errors import UsageError as UsageError
    from cnatool.page.report import Report as Report
    from cnatool.page.report import report as report
    from cnatool.per_unit.results import UnitsResult as UnitsResult
    from cnatool.per_unit.units import Units as Units
    from cnatool.per_unit.units import units as units
    from cnatool.plotting.plot import plot as plot
    from cnatool.recording.recording import Layer as Layer
    from cnatool.recording.recording import Recording as Recording
    from cnatool.recording.recording import create_store as create_store
    from cnatool.records.ragged import Ragged as Ragged
    from cnatool.records.weights import Flatness as Flatness
    from cnatool.scoring.layer_results import LayerScores as LayerScores
    from cnatool.scoring.layers import score_layers as score_layers
    from cnatool.scoring.results import ScoreResult as ScoreResult
    from cnatool.scoring.score import score as score
    from cnatool.scoring.score import score_samples as score_samples
    from cnatool.store.batches import Batch as Batch
    from cnatool.store.batches import Batches as Batches
    from cnatool.store.convert import convert as convert
    from cnatool.store.merge import merge as merge
    from cnatool.store.ragged import RaggedArray as RaggedArray
    from cnatool.store.reader import open_store as open  # noqa: F401
    from cnatool.store.store import Split as Split
    from cnatool.store.store import Store as Store
    from cnatool.store.stored_array import StoredArray as StoredArray
    from cnatool.store.verify import Verification as Verification
    from cnatool.store.verify import verify as verify
    from cnatool.studying.landscape import Landscape as Landscape
    from cnatool.studying.landscape import landscape as landscape
    from cnatool.studying.results import LandscapeResult as LandscapeResult
    from cnatool.studying.results import StudyResult as StudyResult
    from cnatool.studying.results import TrajectoryResult as TrajectoryResult
    from cnatool.studying.study import Study as Study
    from cnatool.studying.study import study as study
    from cnatool.studying.trajectory import Trajectory as Trajectory
    from cnatool.studying.trajectory import trajectory as trajectory

# The module of each public name, which is imported when the name is first used: scoring does not
# wait for onnxruntime, and help waits for nothing.
_MODULES = {
    "BackendError": "errors",
    "Batch": "store.batches",
    "Batches": "store.batches",
    "CnatoolError": "errors",
    "Comparison": "comparing.results",
    "DataError": "errors",
    "Drift": "comparing.drift.drift",
    "DriftResult": "comparing.drift.results",
    "Flatness": "records.weights",
    "Landscape": "studying.landscape",
    "LandscapeResult": "studying.results",
    "Layer": "recording.recording",
    "LayerScores": "scoring.layer_results",
    "MetricError": "errors",
    "ModelError": "errors",
    "NotAStoreError": "errors",
    "Observer": "_util.observer",
    "Preflight": "dumping.preflight",
    "Ragged": "records.ragged",
    "RaggedArray": "store.ragged",
    "Recording": "recording.recording",
    "Report": "page.report",
    "ScoreResult": "scoring.results",
    "Split": "store.store",
    "Store": "store.store",
    "StoreDamagedError": "errors",
    "StoreInUseError": "errors",
    "StoreVersionError": "errors",
    "StoreWarning": "errors",
    "StoreAccessError": "errors",
    "StoreWriteError": "errors",
    "StoredArray": "store.stored_array",
    "Study": "studying.study",
    "StudyResult": "studying.results",
    "Trajectory": "studying.trajectory",
    "TrajectoryResult": "studying.results",
    "Units": "per_unit.units",
    "UnitsResult": "per_unit.results",
    "UsageError": "errors",
    "Verification": "store.verify",
    "__version__": "_version",
    "compare": "comparing.compare",
    "convert": "store.convert",
    "create_store": "recording.recording",
    "drift": "comparing.drift.drift",
    "dump": "dumping.dump",
    "landscape": "studying.landscape",
    "merge": "store.merge",
    "open": "store.reader",
    "plot": "plotting.plot",
    "preflight": "dumping.dump",
    "report": "page.report",
    "score": "scoring.score",
    "score_layers": "scoring.layers",
    "score_samples": "scoring.score",
    "study": "studying.study",
    "trajectory": "studying.trajectory",
    "units": "per_unit.units",
    "verify": "store.verify",
}
# Names that their modules spell otherwise.
_SPELLED = {"open": "open_store"}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module 'cnatool' has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"cnatool.{_MODULES[name]}"), _SPELLED.get(name, name))


def __dir__() -> list[str]:
    return __all__
