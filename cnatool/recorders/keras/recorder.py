"""Stores from Keras 3 on TensorFlow.

>>> from cnatool.recorders.keras import Recorder
>>> with Recorder(model, "net.zarr") as recorder:  # doctest: +SKIP
...     for pictures, labels in batches:
...         recorder.batch("train", pictures / 255, inputs=pictures, labels=labels)
"""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from cnatool.errors import DataError, UsageError
from cnatool.recorders.checkpoints import Series
from cnatool.recorders.statistics import parse_statistics
from cnatool.recording.recording import create_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from types import TracebackType

    from numpy.typing import ArrayLike, NDArray

    from cnatool.recorders.checkpoints import Unit
    from cnatool.recorders.select import Modules, Selection
    from cnatool.recording.recording import Recording
    from cnatool.records.choices import Codec, Statistic


class Recorder:
    """Runs a Keras model and records what it computes into a store; a context.

    The model is traced once, in inference mode, into a graph of TensorFlow's operations, in which
    layers are found as in an exported model, those inside composed layers too. Statistics are
    computed on the model's device, and only they leave it.

    Parameters
    ----------
    model : keras.Model
        Built in any way; its backend is TensorFlow.
    path : str or Path
        Where the store goes; its ending chooses the format.
    modules : str, type, or sequence of these
        As of `cnatool.recorders.torch.Recorder`, with Keras's layers for modules. A layer inside
        another is called ``outer.inner``.
    weights : bool
        Store norms of the kernels of Dense and convolutions, for the baselines of `cnatool.score`.
        A BatchNormalization behind a layer is folded into them.
    initial_state : mapping of str to ndarray, optional
        The model's variables before training by path, for distances from them.
    keep, statistics, tags, classes, codec, overwrite
        As of the same.

    Attributes
    ----------
    path : Path
        Where the store is.
    left_out : dict of str to str
        Outputs and, with ``modules="all"``, layers that are not recorded, and why.

    Raises
    ------
    UsageError
        If Keras or TensorFlow is not installed, or an option cannot be meant.
    NotAStoreError
        If the path is taken.
    """

    def __init__(
        self,
        model: Any,
        path: str | Path,
        *,
        modules: Modules = "preactivation",
        keep: str = "statistics",
        statistics: str | Sequence[str] = ("sum", "abs_sum"),
        weights: bool = False,
        initial_state: Mapping[str, NDArray[Any]] | None = None,
        tags: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        codec: Codec | None = None,
        overwrite: bool = False,
    ) -> None:
        _check_installed()
        if keep not in ("statistics", "activations"):
            raise UsageError(f"keep={keep!r}: statistics or activations.")
        if initial_state is not None and not weights:
            raise UsageError(
                "initial_state: give weights=True too, from which distances are taken."
            )
        self._weights = weights
        self._initial_state = initial_state
        self.path = Path(path)
        self.left_out: dict[str, str] = {}
        self._model = model
        self._modules = modules
        self._whole = keep == "activations"
        self._statistics: tuple[Statistic, ...] = parse_statistics(statistics)
        self._options: dict[str, Any] = {
            "tags": tags,
            "classes": classes,
            "codec": codec,
            "overwrite": overwrite,
        }
        self._held = ExitStack()
        self._store: Recording | None = None
        self._choice: Selection | None = None
        self._run: Any = None
        self._entered = False

    def __enter__(self) -> Self:
        if self._entered:
            raise UsageError(f"{self.path}: a recorder is one context; make another for more.")
        self._entered = True
        self._held.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None and self._store is None:
            raise UsageError(f"{self.path}: no batch was recorded, so there is no store.")
        self._held.__exit__(kind, error, trace)

    def batch(
        self,
        split: str,
        x: Any,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model on a batch, record it, and give its outputs by name.

        Parameters
        ----------
        split : str
            The split that the samples belong to.
        x : array_like or nest of these
            What the model is called with.
        inputs : array_like, or mapping of str to array_like, optional
            The raw samples as they were before any preprocessing, (n, …), from which α is taken; by
            default what the model is called with.
        labels, ids
            As of `cnatool.Recording.append`.

        Raises
        ------
        DataError
            If a tensor has no sample axis, or another shape than in the first batch.
        """
        if not self._entered:
            raise UsageError("use the recorder as a context: with Recorder(…) as recorder.")
        from cnatool.recorders.keras.statistics import arrays, device_statistics, samples_first

        raw = arrays(x if inputs is None else inputs)
        if not len(next(iter(raw.values()))):
            raise DataError("a batch of no samples: leave it out.")
        if self._store is None:
            self._prepare(x, list(raw))
        assert self._store is not None
        assert self._choice is not None
        found = self._run(x)
        chosen = self._choice.tensors
        rows = [samples_first(tensor, one.axis) for tensor, one in zip(found, chosen, strict=False)]
        outputs = {
            one.name: arrays(samples_first(tensor, one.axis))["input"]
            for one, tensor in zip(self._choice.outputs, found[len(chosen) :], strict=True)
        }
        activations: dict[str, Any] = {}
        statistics: dict[str, dict[str, Any]] = {name: {} for name in self._statistics}
        for one, tensor in zip(chosen, rows, strict=True):
            if self._whole:
                activations[one.name] = arrays(tensor)["input"]
                continue
            numbers = device_statistics(tensor, self._statistics)
            for name, row in zip(self._statistics, numbers, strict=True):
                statistics[name][one.name] = row
        self._store.append(
            split,
            inputs=raw,
            outputs=outputs,
            activations=activations,
            statistics=statistics,
            labels=labels,
            ids=ids,
        )
        return outputs

    def _prepare(self, x: Any, inputs: list[str]) -> None:
        from cnatool.recorders.keras.graph import ModelGraph
        from cnatool.recorders.keras.weights import layer_arrays, with_groups
        from cnatool.recorders.select import select_values

        graph = ModelGraph(self._model, x)
        choice = self._choice = select_values(graph.layers, graph.trace, self._modules)
        self.left_out = choice.left_out
        options = dict(self._options)
        if self._weights:
            options |= layer_arrays(self._model, choice, graph.layers, self._initial_state)
        self._run = graph.runner(
            [*(one.value for one in choice.tensors), *(one.value for one in choice.outputs)]
        )
        self._store = self._held.enter_context(
            create_store(
                self.path,
                tensors={one.name: one.operator for one in choice.tensors},
                layers=with_groups(choice, graph.layers),
                inputs=inputs,
                outputs=[one.name for one in choice.outputs],
                keep="full" if self._whole else "statistics",
                statistics=self._statistics,
                shapes={one.name: one.shape for one in choice.tensors},
                **options,
            )
        )


def record(
    model: Any,
    path: str | Path,
    splits: Mapping[str, Iterable[Any]],
    *,
    prepare: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Run a model over data, in inference mode, and record it.

    Parameters
    ----------
    model : keras.Model
    path : str or Path
        Where the store goes.
    splits : mapping of str to iterable of (raw, labels)
        Batches of each split: raw samples, and labels or None.
    prepare : callable, optional
        Makes of raw samples what the model is called with; by default they are that.
    **options
        Of `Recorder`.

    Raises
    ------
    UsageError, DataError, NotAStoreError
        As of `Recorder`.
    """
    with Recorder(model, path, **options) as recorder:
        for split, batches in splits.items():
            for raw, labels in batches:
                x = raw if prepare is None else prepare(raw)
                targets = None if labels is None else np.asarray(labels)
                recorder.batch(split, x, inputs=raw, labels=targets)


def store_callback(
    folder: str | Path,
    probe: Mapping[str, Iterable[Any]],
    *,
    every: int = 1,
    unit: Unit = "epoch",
    run: str = "run",
    tags: Mapping[str, str] | None = None,
    prepare: Callable[[Any], Any] | None = None,
    **options: Any,
) -> Any:
    """Make a Keras ``Callback`` that records the model at its start and as it is trained.

    Parameters
    ----------
    folder, probe, every, unit, run, tags
        As of `cnatool.recorders.checkpoints.Series`.
    prepare : callable, optional
        As of `record`.
    **options
        Of `Recorder`.

    Returns
    -------
    keras.callbacks.Callback

    Raises
    ------
    UsageError
        If Keras or TensorFlow is not installed, or an option cannot be meant.
    """
    _check_installed()
    import keras

    series = Series(folder, probe, every=every, unit=unit, run=run, tags=tags)

    class StoreCallback(keras.callbacks.Callback):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self._options = options
            self._steps = 0
            self._epochs = 0

        def on_train_begin(self, logs: Any = None) -> None:
            if options.get("weights") and "initial_state" not in options:
                from cnatool.recorders.keras.weights import model_state

                self._options = options | {"initial_state": model_state(self.model)}
            self._record()

        def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
            self._steps += 1
            if unit == "step":
                self._record()

        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            self._epochs = epoch + 1
            if unit == "epoch":
                self._record()

        def _record(self) -> None:
            def write(path: Path, told: dict[str, str]) -> None:
                record(self.model, path, series.probe, prepare=prepare, tags=told, **self._options)

            series.record(write, self._steps, self._epochs)

    return StoreCallback()


def _check_installed() -> None:
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "recording from Keras needs it and TensorFlow: python -m pip install tensorflow"
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on {keras.backend.backend()}, and is recorded on tensorflow: set "
            "KERAS_BACKEND=tensorflow."
        )
