"""Recording of PyTorch networks by hooks on their modules.

>>> from cnatool.recorders.torch import Recorder
>>> with Recorder(network, "net.zarr") as recorder:  # doctest: +SKIP
...     for pictures, labels in loader:
...         with recorder.batch("train", inputs=pictures, labels=labels):
...             network(normalised(pictures))
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from cnatool.errors import DataError, UsageError
from cnatool.recorders.base import BaseRecorder

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    import torch
    from numpy.typing import ArrayLike

    from cnatool.recorders.select import Modules, Selection
    from cnatool.recorders.torch.hooks import Taps
    from cnatool.records.choices import Codec, InputKind


class Recorder(BaseRecorder):
    """Records in a store what a PyTorch network computes; a context manager.

    The network's first call is traced on a few of its samples, to find its layers and the axes of
    samples. From then on, hooks record the selected tensors, in any mode and precision of the
    network; statistics are computed on its device, and only they are transferred.

    Parameters
    ----------
    network : torch.nn.Module
        The network, not compiled. If it is a ``DataParallel``, its module is recorded.
    path : str or Path
        Path of the store; its suffix determines the format.
    modules : str, type, or sequence of these
        The tensors to record. ``preactivation``: the result of each linear operator and the input
        of its nonlinearity, as in `cnatool.dump`. ``linear``: only its result, which then counts as
        both. ``all``: these, and the results of all modules. Or globs of names of modules, and
        types of modules: each of their results is then a layer.
    keep : {"statistics", "activations"}
        Store statistics of each sample, or full tensors as well.
    statistics : str or sequence of str
        As in `cnatool.create_store`. Absolute sums let `cnatool.compare` distinguish rounding from
        errors.
    weights : bool
        Store norms of the layers' weights, for the baselines of `cnatool.score`. In ``eval`` mode,
        a BatchNorm after a layer is folded into its weights.
    initial_state : mapping of str to Tensor, optional
        The network's ``state_dict`` before training, to measure distances from it.
    tags, classes, kinds, special, codec, overwrite
        As in `cnatool.create_store`.

    Attributes
    ----------
    path : Path
        Path of the store.
    left_out : dict of str to str
        Outputs and, with ``modules="all"``, modules that are not recorded, with the reasons.

    Raises
    ------
    UsageError
        If PyTorch is not installed, or a parameter is invalid.
    NotAStoreError
        If the path exists.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        path: str | Path,
        *,
        modules: Modules = "preactivation",
        keep: str = "statistics",
        statistics: str | Sequence[str] = ("sum", "abs_sum"),
        weights: bool = False,
        initial_state: Mapping[str, torch.Tensor] | None = None,
        tags: Mapping[str, str] | None = None,
        classes: Sequence[str] | None = None,
        kinds: Mapping[str, InputKind] | None = None,
        special: Sequence[int] = (),
        codec: Codec | None = None,
        overwrite: bool = False,
    ) -> None:
        check_installed()
        from cnatool.recorders.torch.arguments import check_network

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
        check_network(network)
        self._network = network
        # By whether the network runs under inference_mode, and whether on a single sample: its
        # operators may differ then.
        self._taps: dict[tuple[bool, bool], Taps] = {}
        # Names of the arguments of the network that have samples.
        self._with_samples: list[str] = []
        self._in_batch = False

    @contextmanager
    def batch(
        self,
        split: str,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> Iterator[None]:
        """Record one call of the network, made within this context.

        Parameters
        ----------
        split : str
            The split of the samples.
        inputs : array_like or Tensor, or mapping of str to these, optional
            The raw samples before any preprocessing, (n, …), from which α is computed; by default
            the arguments of the network. Texts (``kinds``) are a list of strings.
        labels, ids
            As in `cnatool.Recording.append`.

        Raises
        ------
        DataError
            If the network is not called exactly once, or computes different tensors from the first
            batch.
        """
        self._check_open()
        if self._in_batch:
            raise UsageError(f"split {split!r}: batches cannot be nested; each is one call.")
        from cnatool.recorders.torch.arguments import arrays
        from cnatool.recorders.torch.hooks import RootCall

        raw = None if inputs is None else arrays(inputs)
        with RootCall(self._network) as call:
            call.before = lambda args, kwargs: self._begin(call, raw, args, kwargs)
            call.after = call.take_outputs
            self._in_batch = True
            try:
                yield
            finally:
                self._in_batch = False
                if call.taps is not None:
                    call.taps.stop()
        if call.count == 0:
            raise DataError(f"split {split!r}: the network was not called within this batch.")
        assert call.taps is not None
        assert self._store is not None
        recorded = call.taps.collect()
        self._store.append(
            split,
            inputs=call.raw,
            outputs=recorded.outputs,
            activations=recorded.activations,
            statistics=recorded.statistics,
            labels=None if labels is None else arrays({"": labels})[""],
            ids=ids,
        )

    def _begin(
        self,
        call: Any,
        raw: dict[str, Any] | None,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
    ) -> None:
        """Prepare for a call of the network; at the first, select what to record."""
        import torch

        from cnatool.recorders.torch.arguments import arrays, name_arguments

        if call.count > 1:
            raise DataError(
                "the network was called twice within one batch: use a batch for each call."
            )
        called = name_arguments(args, kwargs) if raw is None or not self._taps else {}
        rows = len(next(iter((called if raw is None else raw).values())))
        if not rows:
            raise DataError("a batch without samples: omit it.")
        mode = torch.is_inference_mode_enabled()
        if not self._taps:
            self._taps[mode, False] = self._first_taps(args, kwargs, rows, called, raw)
        kind = mode, rows == 1
        if kind not in self._taps:
            self._taps[kind] = self._other_taps(args, kwargs, rows)
        with_samples = {name: called[name] for name in self._with_samples if name in called}
        call.raw = arrays(with_samples) if raw is None else raw
        call.taps = self._taps[kind]
        call.taps.start(rows)

    def _first_taps(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        rows: int,
        called: Mapping[str, torch.Tensor],
        raw: Mapping[str, Any] | None,
    ) -> Taps:
        """Select what to record, and create the store."""
        from cnatool.recorders.torch.hooks import slow_attention
        from cnatool.recorders.torch.weights import layer_arrays

        self._context.enter_context(slow_attention())
        selection, with_samples = self._select(args, kwargs, rows)
        sampled = {id(tensor) for tensor in with_samples}
        self._with_samples = [
            name for name, tensor in called.items() if id(tensor) in sampled and len(tensor) == rows
        ]
        self._selection = selection
        self.left_out = selection.left_out
        weights = layer_arrays(self._inner, selection, self._initial_state) if self._weights else {}
        inputs = self._with_samples if raw is None else list(raw)
        self._create_store(selection, selection.layers, inputs, weights)
        return self._create_taps(selection)

    def _other_taps(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: int) -> Taps:
        """Create taps that take the same tensors from other operators."""
        taps, first = next(iter(self._taps.values())), self._selection
        if not taps.in_operators or first is None:
            return taps
        selection, _ = self._select(args, kwargs, rows, alone=rows == 1)
        kinds, kinds2 = (
            [(tensor.name, tensor.shape) for tensor in chosen.tensors]
            for chosen in (first, selection)
        )
        if kinds != kinds2:
            raise DataError(
                "under inference_mode, or for a single sample, the network has different tensors "
                "from those in the first batch: record it in one mode, and omit batches of one "
                "sample."
            )
        tensors = [
            replace(tensor, axis=first_tensor.axis)
            for tensor, first_tensor in zip(selection.tensors, first.tensors, strict=True)
        ]
        return self._create_taps(replace(selection, tensors=tensors, outputs=first.outputs))

    @property
    def _parallel(self) -> bool:
        import torch

        wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
        return isinstance(self._network, wrappers)

    @property
    def _inner(self) -> Any:
        return self._network.module if self._parallel else self._network

    def _select(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: int, *, alone: bool = False
    ) -> tuple[Selection, list[torch.Tensor]]:
        """Trace the network; return the selection, and the arguments that have samples."""
        from cnatool.recorders.select import select_values
        from cnatool.recorders.torch.trace import trace_network

        trace, with_samples = trace_network(self._inner, args, kwargs, rows, alone=alone)
        return select_values(dict(self._inner.named_modules()), trace, self._modules), with_samples

    def _create_taps(self, selection: Selection) -> Taps:
        from cnatool.recorders.torch.hooks import Taps

        taps = Taps(
            self._inner,
            selection,
            self._statistics,
            whole=self._whole,
            parallel=self._parallel,
        )
        self._context.callback(taps.remove)
        return taps


def record(
    network: torch.nn.Module,
    path: str | Path,
    splits: Mapping[str, Iterable[Any]],
    *,
    prepare: Callable[[Any], Any] | None = None,
    **options: Any,
) -> None:
    """Run a network over data, in ``eval`` mode and without gradients, and record it.

    Parameters
    ----------
    network : torch.nn.Module
        The network; its mode is restored.
    path : str or Path
        Path of the store.
    splits : mapping of str to iterable of (raw, labels)
        Batches of each split: raw samples, and labels or None.
    prepare : callable, optional
        Turns raw samples into the arguments of the network: an array or a tensor, a tuple of
        several, or a mapping of keywords to them; by default, samples are passed as they are. All
        are moved to the device of the network's parameters.
    **options
        Parameters of `Recorder`.

    Raises
    ------
    UsageError, DataError, NotAStoreError
        As in `Recorder`.
    """
    check_installed()
    import torch

    from cnatool.recorders.torch.arguments import move_to_device

    modes = {module: module.training for module in network.modules()}
    device = next((p.device for p in network.parameters()), torch.device("cpu"))
    try:
        network.eval()
        with Recorder(network, path, **options) as recorder, torch.no_grad():
            for split, batches in splits.items():
                for raw, labels in batches:
                    x = raw if prepare is None else prepare(raw)
                    args, kwargs = move_to_device(x, device)
                    with recorder.batch(split, inputs=raw, labels=labels):
                        network(*args, **kwargs)
    finally:
        for module, training in modes.items():
            module.training = training


def check_installed() -> None:
    """Raise UsageError, with advice, if PyTorch is not installed."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError(
            "recording from PyTorch requires it: python -m pip install torch"
        ) from error
