"""Stores from PyTorch: hooks on a network's modules, while it runs.

>>> from cnatool.recorders.torch import Recorder
>>> with Recorder(network, "net.zarr") as recorder:  # doctest: +SKIP
...     for pictures, labels in loader:
...         with recorder.batch("train", inputs=pictures, labels=labels):
...             network(normalised(pictures))
"""

from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from cnatool.errors import DataError, UsageError
from cnatool.recorders.statistics import parse_statistics
from cnatool.recording.recording import create_store

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from types import TracebackType

    import torch
    from numpy.typing import ArrayLike

    from cnatool.recorders.select import Modules, Selection
    from cnatool.recorders.torch.hooks import Taps
    from cnatool.recording.recording import Recording
    from cnatool.records.choices import Codec, Statistic


class Recorder:
    """Records what a PyTorch network computes into a store; a context.

    The network's first call is watched on a few of its samples, to find which values are layers
    and which axis is the samples'. From then on hooks take what is recorded, in whatever mode and
    precision the network runs; statistics are computed on its device, and only they leave it.

    Parameters
    ----------
    network : torch.nn.Module
        Not compiled; it may be a ``DataParallel``, whose module is then recorded.
    path : str or Path
        Where the store goes; its ending chooses the format.
    modules : str, type, or sequence of these
        What is recorded. ``preactivation``: of each linear operator its result and what enters the
        nonlinearity, as `cnatool.dump` finds them. ``linear``: its result alone, which then stands
        for both. ``all``: these, and what every module gives. Or globs of the modules' names, and
        types of modules: each of their results is then a layer.
    keep : {"statistics", "activations"}
        Whether statistics of each sample are stored, or whole tensors too.
    statistics : str or sequence of str
        As of `cnatool.create_store`. By absolute sums `cnatool.compare` tells rounding from error.
    weights : bool
        Store norms of the layers' weights, for the baselines of `cnatool.score`. In ``eval`` mode
        a BatchNorm behind a layer is folded into them.
    initial_state : mapping of str to Tensor, optional
        The network's ``state_dict`` before training, for distances from it.
    tags, classes, codec, overwrite
        As of `cnatool.create_store`.

    Attributes
    ----------
    path : Path
        Where the store is.
    left_out : dict of str to str
        Outputs and, with ``modules="all"``, modules that are not recorded, and why.

    Raises
    ------
    UsageError
        If PyTorch is not installed, or an option cannot be meant.
    NotAStoreError
        If the path is taken.
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
        codec: Codec | None = None,
        overwrite: bool = False,
    ) -> None:
        check_installed()
        if keep not in ("statistics", "activations"):
            raise UsageError(f"keep={keep!r}: statistics or activations.")
        from cnatool.recorders.torch.arguments import check_network

        check_network(network)
        if initial_state is not None and not weights:
            raise UsageError(
                "initial_state: give weights=True too, from which distances are taken."
            )
        self.path = Path(path)
        self.left_out: dict[str, str] = {}
        self._network = network
        self._modules = modules
        self._keep = keep
        self._statistics: tuple[Statistic, ...] = parse_statistics(statistics)
        self._weights = weights
        self._initial_state = initial_state
        self._options: dict[str, Any] = {
            "tags": tags,
            "classes": classes,
            "codec": codec,
            "overwrite": overwrite,
        }
        self._held = ExitStack()
        self._store: Recording | None = None
        self._choice: Selection | None = None
        # By whether the network runs under inference_mode, and whether on one sample alone: its
        # operators may be others then.
        self._taps: dict[tuple[bool, bool], Taps] = {}
        # Of what the network is called with, the tensors that have samples.
        self._with_samples: list[str] = []
        self._entered = False
        self._over = False
        self._in_batch = False

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
            self._over = True
            raise UsageError(f"{self.path}: no batch was recorded, so there is no store.")
        self._over = True
        self._held.__exit__(kind, error, trace)

    @contextmanager
    def batch(
        self,
        split: str,
        *,
        inputs: ArrayLike | Mapping[str, ArrayLike] | None = None,
        labels: ArrayLike | None = None,
        ids: Sequence[str] | None = None,
    ) -> Iterator[None]:
        """Record what happens within this context: one call of the network.

        Parameters
        ----------
        split : str
            The split that its samples belong to.
        inputs : array_like or Tensor, or mapping of str to these, optional
            The raw samples as they were before any preprocessing, (n, …), from which α is taken; by
            default what the network is called with.
        labels, ids
            As of `cnatool.Recording.append`.

        Raises
        ------
        DataError
            If the network is called never or twice, or gives other tensors than in the first batch.
        """
        if not self._entered:
            raise UsageError("use the recorder as a context: with Recorder(…) as recorder.")
        if self._over:
            raise UsageError(f"{self.path}: the recorder's context is over; make another.")
        if self._in_batch:
            raise UsageError(f"split {split!r}: a batch within a batch; each is one call.")
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
        given = call.taps.taken()
        self._store.append(
            split,
            inputs=call.raw,
            outputs=given.outputs,
            activations=given.activations,
            statistics=given.statistics,
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
        """Prepare for a call of the network; find out what to record at the first."""
        import torch

        from cnatool.recorders.torch.arguments import arrays, name_arguments

        if call.count > 1:
            raise DataError(
                "the network was called twice within one batch: give each call its own."
            )
        called = name_arguments(args, kwargs) if raw is None or not self._taps else {}
        rows = len(next(iter((called if raw is None else raw).values())))
        if not rows:
            raise DataError("a batch of no samples: leave it out.")
        mode = torch.is_inference_mode_enabled()
        if not self._taps:
            self._taps[mode, False] = self._first_taps(args, kwargs, rows, called, raw)
        kind = mode, rows == 1
        if kind not in self._taps:
            self._taps[kind] = self._other_taps(args, kwargs, rows)
        wanted = {name: called[name] for name in self._with_samples if name in called}
        call.raw = arrays(wanted) if raw is None else raw
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
        """Find out what to record, and create the store."""
        from cnatool.recorders.torch.hooks import slow_attention
        from cnatool.recorders.torch.weights import layer_arrays

        self._held.enter_context(slow_attention())
        choice, with_samples = self._chosen(args, kwargs, rows)
        known = {id(tensor) for tensor in with_samples}
        self._with_samples = [
            name for name, one in called.items() if id(one) in known and len(one) == rows
        ]
        self._choice = choice
        self.left_out = choice.left_out
        options = dict(self._options)
        if self._weights:
            options |= layer_arrays(self._inner, choice, self._initial_state)
        inputs = self._with_samples if raw is None else list(raw)
        self._store = self._held.enter_context(self._created(choice, inputs, options))
        return self._taps_of(choice)

    def _other_taps(self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: int) -> Taps:
        """Return taps that take the same tensors from other operators."""
        taps, first = next(iter(self._taps.values())), self._choice
        if not taps.in_operators or first is None:
            return taps
        choice, _ = self._chosen(args, kwargs, rows, alone=rows == 1)
        kinds, others = (
            [(one.name, one.shape) for one in each.tensors] for each in (first, choice)
        )
        if kinds != others:
            raise DataError(
                "under inference_mode, or for one sample alone, the network has other tensors than "
                "in the first batch: record it in one mode, and leave out batches of one."
            )
        tensors = [
            replace(one, axis=known.axis)
            for one, known in zip(choice.tensors, first.tensors, strict=True)
        ]
        return self._taps_of(replace(choice, tensors=tensors, outputs=first.outputs))

    @property
    def _parallel(self) -> bool:
        import torch

        wrappers = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)
        return isinstance(self._network, wrappers)

    @property
    def _inner(self) -> Any:
        return self._network.module if self._parallel else self._network

    def _chosen(
        self, args: tuple[Any, ...], kwargs: Mapping[str, Any], rows: int, *, alone: bool = False
    ) -> tuple[Selection, list[torch.Tensor]]:
        """Watch the network; say what to record, and which arguments have samples."""
        from cnatool.recorders.select import select_values
        from cnatool.recorders.torch.trace import trace_network

        trace, with_samples = trace_network(self._inner, args, kwargs, rows, alone=alone)
        return select_values(dict(self._inner.named_modules()), trace, self._modules), with_samples

    def _taps_of(self, choice: Selection) -> Taps:
        from cnatool.recorders.torch.hooks import Taps

        taps = Taps(
            self._inner,
            choice,
            self._statistics,
            whole=self._keep == "activations",
            parallel=self._parallel,
        )
        self._held.callback(taps.remove)
        return taps

    def _created(self, choice: Selection, inputs: list[str], options: dict[str, Any]) -> Recording:
        return create_store(
            self.path,
            tensors={one.name: one.operator for one in choice.tensors},
            layers=choice.layers,
            inputs=inputs,
            outputs=[one.name for one in choice.outputs],
            keep="full" if self._keep == "activations" else "statistics",
            statistics=self._statistics,
            shapes={one.name: one.shape for one in choice.tensors},
            **options,
        )


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
        Left in the mode that it was in.
    path : str or Path
        Where the store goes.
    splits : mapping of str to iterable of (raw, labels)
        Batches of each split: raw samples, and labels or None.
    prepare : callable, optional
        Makes of raw samples what the network is called with: an array or a tensor, a tuple of
        several, or a mapping of keywords to them; by default the samples are that. All are moved to
        the device of the network's parameters.
    **options
        Of `Recorder`.

    Raises
    ------
    UsageError, DataError, NotAStoreError
        As of `Recorder`.
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
    """Say what to install where there is no PyTorch."""
    try:
        import torch  # noqa: F401
    except ImportError as error:
        raise UsageError("recording from PyTorch needs it: python -m pip install torch") from error
