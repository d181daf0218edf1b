"""Recording of Keras 3 models on TensorFlow.

>>> from cnatool.recorders.keras import Recorder
>>> with Recorder(model, "net.zarr") as recorder:  # doctest: +SKIP
...     for pictures, labels in batches:
...         recorder.batch("train", pictures / 255, inputs=pictures, labels=labels)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.errors import DataError, UsageError
from cnatool.recorders.base import BaseRecorder
from cnatool.recorders.checkpoints import Series

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import ArrayLike, NDArray

    from cnatool.recorders.checkpoints import Unit
    from cnatool.recorders.select import Modules
    from cnatool.records.choices import Codec, InputKind


class Recorder(BaseRecorder):
    """Runs a Keras model and records in a store what it computes; a context manager.

    The model is traced once, in inference mode, into a graph of TensorFlow's operations, in which
    layers are found as in an exported model, also inside composed layers. Statistics are computed
    on the model's device, and only they are transferred.

    Parameters
    ----------
    model : keras.Model
        The model, on the TensorFlow backend.
    path : str or Path
        Path of the store; its suffix determines the format.
    modules : str, type, or sequence of these
        As in `cnatool.recorders.torch.Recorder`, with Keras layers as modules. A layer inside
        another is called ``outer.inner``.
    weights : bool
        Store norms of the kernels of Dense and convolutions, for the baselines of `cnatool.score`.
        A BatchNormalization after a layer is folded into them.
    initial_state : mapping of str to ndarray, optional
        The model's variables before training by path, to measure distances from them.
    keep, statistics, tags, classes, kinds, special, codec, overwrite
        As in `cnatool.recorders.torch.Recorder`.

    Attributes
    ----------
    path : Path
        Path of the store.
    left_out : dict of str to str
        Outputs and, with ``modules="all"``, layers that are not recorded, with the reasons.

    Raises
    ------
    UsageError
        If Keras or TensorFlow is not installed, or a parameter is invalid.
    NotAStoreError
        If the path exists.
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
        kinds: Mapping[str, InputKind] | None = None,
        special: Sequence[int] = (),
        codec: Codec | None = None,
        overwrite: bool = False,
    ) -> None:
        _check_installed()
        super().__init__(
            path,
            modules=modules,
            keep=keep,
            statistics=statistics,
            weights=weights,
            initial_state=initial_state,
            tags=tags,
            classes=classes,
            kinds=kinds,
            special=special,
            codec=codec,
            overwrite=overwrite,
        )
        self._model = model
        self._run: Any = None

    def batch(
        self,
        split: str,
        x: Any,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> dict[str, NDArray[Any]]:
        """Run the model on a batch, record it, and return its outputs by name.

        Parameters
        ----------
        split : str
            The split of the samples.
        x : array_like or nest of these
            The input of the model.
        inputs : array_like, or mapping of str to array_like, optional
            The raw samples before any preprocessing, (n, …), from which α is computed; by default
            the input of the model.
        labels, ids
            As in `cnatool.Recording.append`.

        Raises
        ------
        DataError
            If a tensor has no sample axis, or not the same shape as in the first batch.
        """
        self._check_open()
        from cnatool.recorders.keras.statistics import arrays, device_statistics, samples_first

        raw = arrays(x if inputs is None else inputs)
        if not len(next(iter(raw.values()))):
            raise DataError("a batch without samples: omit it.")
        if self._store is None:
            self._prepare(x, list(raw))
        assert self._store is not None
        assert self._selection is not None
        selected = self._selection.tensors
        tensors = self._run(x)
        rows = [
            samples_first(tensor, selected_tensor.axis)
            for selected_tensor, tensor in zip(selected, tensors, strict=False)
        ]
        outputs = {
            output.name: arrays(samples_first(tensor, output.axis))["input"]
            for output, tensor in zip(
                self._selection.outputs, tensors[len(selected) :], strict=True
            )
        }
        activations: dict[str, Any] = {}
        statistics: dict[str, dict[str, Any]] = {name: {} for name in self._statistics}
        for selected_tensor, values in zip(selected, rows, strict=True):
            if self._whole:
                activations[selected_tensor.name] = arrays(values)["input"]
                continue
            computed = device_statistics(values, self._statistics)
            for name, row in zip(self._statistics, computed, strict=True):
                statistics[name][selected_tensor.name] = row
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
        selection = self._selection = select_values(graph.layers, graph.trace, self._modules)
        self.left_out = selection.left_out
        weights = (
            layer_arrays(self._model, selection, graph.layers, self._initial_state)
            if self._weights
            else {}
        )
        values = [tensor.value for tensor in selection.tensors]
        self._run = graph.runner([*values, *(output.value for output in selection.outputs)])
        self._create_store(selection, with_groups(selection, graph.layers), inputs, weights)


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
        Path of the store.
    splits : mapping of str to iterable of (raw, labels)
        Batches of each split: raw samples, and labels or None.
    prepare : callable, optional
        Turns raw samples into the input of the model; by default, samples are passed as they are.
    **options
        Parameters of `Recorder`.

    Raises
    ------
    UsageError, DataError, NotAStoreError
        As in `Recorder`.
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
        As in `cnatool.recorders.checkpoints.Series`.
    prepare : callable, optional
        As in `record`.
    **options
        Parameters of `Recorder`.

    Returns
    -------
    keras.callbacks.Callback

    Raises
    ------
    UsageError
        If Keras or TensorFlow is not installed, or a parameter is invalid.
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
            def write(path: Path, tags: dict[str, str]) -> None:
                record(self.model, path, series.probe, prepare=prepare, tags=tags, **self._options)

            series.record(write, self._steps, self._epochs)

    return StoreCallback()


def _check_installed() -> None:
    try:
        import keras
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "recording from Keras requires it and TensorFlow: python -m pip install tensorflow"
        ) from error
    if keras.backend.backend() != "tensorflow":
        raise UsageError(
            f"Keras runs on {keras.backend.backend()}, but recording requires tensorflow: set "
            "KERAS_BACKEND=tensorflow."
        )
