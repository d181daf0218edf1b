"""Hooks that record values of a running PyTorch network."""

from __future__ import annotations

from collections import Counter, defaultdict
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Lock, local
from typing import TYPE_CHECKING, Any, Self

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cnatool._util.text import count_text
from cnatool.errors import DataError
from cnatool.recorders.torch.arguments import array
from cnatool.recorders.torch.statistics import device_statistics
from cnatool.recorders.torch.trace import is_watching, operator_name, tensors_by_name
from cnatool.recorders.trace import Origin, Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.recorders.select import SelectedTensor, Selection
    from cnatool.records.choices import Statistic


@dataclass(frozen=True, slots=True)
class RecordedBatch:
    """One batch, for `cnatool.Recording.append`."""

    outputs: dict[str, NDArray[Any]]
    activations: dict[str, NDArray[Any]]
    statistics: dict[str, dict[str, NDArray[np.float64]]]


@dataclass(slots=True)
class _Attention:
    """Number of contexts that need slow attention, and the setting before; one for the process."""

    lock: Lock = field(default_factory=Lock)
    wanted: int = 0
    fast: bool = True


_attention = _Attention()


@contextmanager
def slow_attention() -> Iterator[None]:
    """Disable fused attention, which hides the steps of its modules."""
    with _attention.lock:
        if not _attention.wanted:
            _attention.fast = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _attention.wanted += 1
    try:
        yield
    finally:
        with _attention.lock:
            _attention.wanted -= 1
            if not _attention.wanted:
                torch.backends.mha.set_fastpath_enabled(_attention.fast)


class RootCall:
    """Context that calls ``before`` and ``after`` around each call of a network."""

    def __init__(self, network: torch.nn.Module) -> None:
        self._network = network
        self._handles: list[Any] = []
        self.count = 0
        self.raw: dict[str, NDArray[Any]] = {}
        self.taps: Taps | None = None
        self.before: Callable[[tuple[Any, ...], Mapping[str, Any]], object] = lambda _, __: None
        self.after: Callable[[Any], object] = lambda _: None

    def __enter__(self) -> Self:
        self._handles = [
            self._network.register_forward_pre_hook(self._begin, with_kwargs=True, prepend=True),
            self._network.register_forward_hook(self._end),
        ]
        return self

    def __exit__(self, *_: object) -> None:
        for handle in self._handles:
            handle.remove()

    def take_outputs(self, result: Any) -> None:
        """Pass on the outputs of the network."""
        if self.taps is not None:
            self.taps.take_outputs(result)

    def _begin(self, module: torch.nn.Module, args: Any, kwargs: Any) -> None:
        if not is_watching() and module is self._network:
            self.count += 1
            self.before(args, kwargs)

    def _end(self, module: torch.nn.Module, args: Any, result: Any) -> None:
        if not is_watching() and module is self._network:
            self.after(result)


@dataclass(slots=True)
class _Run:
    """One replica's run through a batch."""

    calls: Counter[str] = field(default_factory=Counter)
    values: dict[str, torch.Tensor] = field(default_factory=dict)
    watching: list[_Watch] = field(default_factory=list)

    @property
    def place(self) -> int:
        """Index of its device."""
        device = next((value.device for value in self.values.values()), None)
        return -1 if device is None or device.index is None else device.index


class Taps:
    """Hooks on the modules that compute the selected values.

    With ``whole``, tensors are recorded whole. With ``parallel``, replicas of the network are
    called, each with a part of the samples.
    """

    def __init__(
        self,
        network: torch.nn.Module,
        selection: Selection,
        statistics: Sequence[Statistic],
        *,
        whole: bool,
        parallel: bool,
    ) -> None:
        self._network = network
        self._selection = selection
        self._statistics = tuple(statistics)
        self._whole = whole
        self._parallel = parallel
        self._active = False
        self._rows = 0
        self._runs: list[_Run] = []
        self._lock = Lock()
        # Each replica runs in a thread of its own.
        self._thread = local()
        self._outputs: dict[str, NDArray[Any]] = {}
        self._placed: dict[tuple[str, int], list[SelectedTensor]] = defaultdict(list)
        self._made: dict[tuple[str, int], list[SelectedTensor]] = defaultdict(list)
        for selected in selection.tensors:
            by_source = self._placed if isinstance(selected.source, Place) else self._made
            by_source[selected.source.module, selected.source.call].append(selected)
        modules = dict(network.named_modules())
        makers = dict.fromkeys(name for name, _ in self._made)
        self._handles = []
        if parallel:
            self._handles.append(network.register_forward_pre_hook(lambda *_: self._begin()))
        for name in makers:
            if name:
                self._handles.append(
                    modules[name].register_forward_pre_hook(lambda *_, name=name: self._enter(name))
                )
        for name in dict.fromkeys([*(name for name, _ in self._placed), *makers]):
            self._handles.append(
                modules[name].register_forward_hook(
                    lambda _, __, result, name=name: self._leave(name, result)
                )
            )

    @property
    def in_operators(self) -> bool:
        """Whether a value is recorded that no module returns."""
        return bool(self._made)

    def remove(self) -> None:
        """Remove the hooks."""
        for handle in self._handles:
            handle.remove()

    def start(self, rows: int) -> None:
        """Begin a batch, before the network is called."""
        self._rows = rows
        self._runs = []
        self._outputs = {}
        self._active = True
        if not self._parallel:
            self._begin()

    def stop(self) -> None:
        """End a batch, also after an error of the network."""
        self._active = False
        for run in self._runs:
            while run.watching:
                run.watching.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]

    def take_outputs(self, result: Any) -> None:
        """Record the outputs of the network."""
        tensors = tensors_by_name(result)
        outputs = self._selection.outputs
        if not tensors.keys() >= {output.part for output in outputs}:
            raise DataError("the network returns different outputs from those in the first batch.")
        self._outputs = {
            output.name: array(tensors[output.part].movedim(output.axis, 0)) for output in outputs
        }

    def collect(self) -> RecordedBatch:
        """Collect the values of this batch, its samples in their original order."""
        # Samples are scattered over devices in their order.
        runs = sorted(self._runs, key=lambda run: run.place)
        for selected in self._selection.tensors:
            if any(selected.name not in run.values for run in runs) or not runs:
                raise DataError(
                    f"module {selected.source.module!r} did not run in this batch as it did in the "
                    "first: record the modules that always run."
                )
        activations: dict[str, NDArray[Any]] = {}
        statistics: dict[str, dict[str, NDArray[np.float64]]] = {n: {} for n in self._statistics}
        names = [selected.name for selected in self._selection.tensors]
        if self._whole:
            for name in names:
                parts = [array(run.values[name]) for run in runs]
                activations[name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        elif names:
            # One transfer for all.
            packed = [_stack([run.values[name] for name in names]) for run in runs]
            numbers = np.concatenate([part.cpu().double().numpy() for part in packed], axis=2)
            for name, rows in zip(names, numbers, strict=True):
                for statistic, row in zip(self._statistics, rows, strict=True):
                    statistics[statistic][name] = row
        for name, rows in {**activations, **self._outputs}.items():
            if len(rows) != self._rows:
                raise DataError(
                    f"tensor {name!r} has {count_text(len(rows), 'row')} for "
                    f"{count_text(self._rows, 'sample')}."
                )
        return RecordedBatch(self._outputs, activations, statistics)

    def _begin(self) -> None:
        """Begin a run of the network, or of a replica, in this thread."""
        if not self._active or is_watching():
            return
        run = _Run()
        with self._lock:
            self._runs.append(run)
        self._thread.run = run
        self._enter("")

    def _enter(self, name: str) -> None:
        run = self._current_run()
        selected = [] if run is None else self._made.get((name, run.calls[name]), [])
        if run is not None and selected:
            watch = _Watch(
                selected, lambda selected_tensor, tensor: self._take(run, selected_tensor, tensor)
            )
            watch.__enter__()  # type: ignore[no-untyped-call]
            run.watching.append(watch)

    def _leave(self, name: str, result: Any) -> None:
        run = self._current_run()
        if run is None:
            return
        call = name, run.calls[name]
        run.calls[name] += 1
        if call in self._made and run.watching:
            run.watching.pop().__exit__(None, None, None)  # type: ignore[no-untyped-call]
        selected = self._placed.get(call, [])
        tensors = tensors_by_name(result) if selected else {}
        for selected_tensor in selected:
            if (
                isinstance(selected_tensor.source, Place)
                and selected_tensor.source.result in tensors
            ):
                self._take(run, selected_tensor, tensors[selected_tensor.source.result])

    def _current_run(self) -> _Run | None:
        """Return this thread's run; None outside of a batch."""
        if not self._active or is_watching():
            return None
        return getattr(self._thread, "run", None)

    def _take(self, run: _Run, selected: SelectedTensor, tensor: torch.Tensor) -> None:
        tensor = tensor.detach()
        if tensor.ndim != len(selected.shape) + 1:
            raise DataError(
                f"tensor {selected.name!r} has {tensor.ndim} axes, but in the first batch "
                f"{len(selected.shape) + 1}."
            )
        rows = tensor.movedim(selected.axis, 0)
        if self._whole:
            # Copied now: later operators may write into the same memory.
            run.values[selected.name] = rows.to("cpu", copy=True)
        else:
            run.values[selected.name] = device_statistics(rows, self._statistics)


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Records the results of operators that no module returns."""

    def __init__(
        self,
        selected: Sequence[SelectedTensor],
        take: Callable[[SelectedTensor, torch.Tensor], None],
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._wanted = {
            (tensor.source.operator, tensor.source.number): tensor
            for tensor in selected
            if isinstance(tensor.source, Origin)
        }
        self._take = take
        self._counted: Counter[str] = Counter()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        name = operator_name(func)
        selected = self._wanted.get((name, self._counted[name]))
        self._counted[name] += 1
        if selected is not None:
            self._take(selected, tensors_by_name(result).get("", result))
        return result


def _stack(values: Sequence[torch.Tensor]) -> torch.Tensor:
    """Stack statistics on one device: parts of a network may be on several."""
    return torch.stack([part.to(values[0].device) for part in values])
