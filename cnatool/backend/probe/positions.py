"""Along which axes of each tensor padding lies, and whether real positions depend on it.

Where a model takes samples of any length, a sample runs padded and alone without padding: axes
whose lengths differ are those of positions, and the values at real positions are compared. Where
the length is fixed, positions are followed through the operators, and another padding takes the
place of the sample's: what changes, and where, confirms the axes and shows what depends on padding.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.outputs import make_readable
from cnatool.backend.inputs import ConstantInput
from cnatool.backend.probe.axis_rules import CountedRules
from cnatool.backend.probe.closeness import agree_closely
from cnatool.backend.probe.followed_positions import KnownRules, follow_positions
from cnatool.backend.probe.sample_axis import SampleAxis
from cnatool.backend.session import Session
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.session import RunOptions
    from cnatool.records.choices import Statistic
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord

# Values of tensors that are held at a time, of a run.
_HELD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Positions:
    """What padding does to the tensors of a network, by name, in execution order."""

    # Axes of one sample's shape along which padding lies
    axes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    # Tensors whose values at real positions depend on padding
    mixed: tuple[str, ...] = ()
    # Tensors with padding whose place in them is not known
    counted: tuple[str, ...] = ()
    # Sums of absolute values at real positions, of the samples that were run
    reference: dict[str, dict[Statistic, NDArray[np.float64]]] = field(default_factory=dict)
    free: bool = False  # whether the model runs without padding


def choose_padded(real: NDArray[np.bool_]) -> list[int]:
    """Choose samples with padding, of different lengths if there are such."""
    lengths = real.sum(axis=1)
    chosen: dict[int, int] = {}
    for row in np.argsort(lengths, kind="stable")[::-1]:
        if 1 < lengths[row] < real.shape[1]:
            chosen.setdefault(int(lengths[row]), int(row))
    rows = list(chosen.values())
    return [rows[0], rows[-1]] if len(rows) > 1 else rows


def find_positions(
    graph: Graph,
    tensors: Sequence[TensorRecord],
    samples: Samples,
    mask: MaskRecord,
    *,
    bound: int | None,
    run: RunOptions,
) -> Positions:
    """Find where padding lies in each tensor, and what depends on it, from samples with padding."""
    runs = _Runs(graph, tensors, samples, mask, bound or 1, run)
    alone = [row for row in runs.rows if runs.runs_alone(row)]
    if not alone:
        return _compare_paddings(runs)
    runs.take(alone)
    return _compare_alone(runs)


class _Runs:
    """Runs of padded samples, one at a time, repeated where the model is bound to several."""

    def __init__(
        self,
        graph: Graph,
        tensors: Sequence[TensorRecord],
        samples: Samples,
        mask: MaskRecord,
        copies: int,
        run: RunOptions,
    ) -> None:
        self.graph, self.tensors, self.mask = graph, tensors, mask
        self._samples, self._copies = samples, copies
        names = [tensor.name for tensor in tensors]
        types = {tensor.name: tensor.onnx_type or "" for tensor in tensors}
        exposed = make_readable(graph.model, names, types, graph.inner)
        self._outputs = dict(zip(names, exposed.outputs, strict=True))
        self._session = Session(exposed.model, graph, run)
        self.real = mask.find_real(samples.feeds())
        self.rows = range(len(samples))

    def parts(self) -> Iterator[list[TensorRecord]]:
        """Yield tensors as many as can be held at a time."""
        part: list[TensorRecord] = []
        held = 0
        for tensor in self.tensors:
            size = int(np.prod(tensor.shape)) * np.dtype(tensor.dtype).itemsize * self._copies
            if part and held + size > _HELD_BYTES:
                yield part
                part, held = [], 0
            part.append(tensor)
            held += size
        if part:
            yield part

    def padded(self, row: int) -> Samples:
        """Return a sample as it is."""
        samples = self._samples
        return replace(
            samples,
            values={name: value[row : row + 1] for name, value in samples.values.items()},
            lengths={name: lengths[row : row + 1] for name, lengths in samples.lengths.items()},
        )

    def alone(self, row: int) -> Samples:
        """Return a sample without its padding."""
        kept = np.flatnonzero(self.real[row])
        values = dict(self.padded(row).values)
        for name, axes in self.mask.axes.items():
            for axis in axes if name in values else ():
                values[name] = np.take(values[name], kept, axis + 1)
        constants = [
            _shorten(each, self.mask.length, len(kept)) for each in self._samples.constants
        ]
        return replace(self._samples, values=values, constants=tuple(constants), lengths={})

    def repadded(self, row: int) -> Samples:
        """Return a sample with real values of its own, the last first, in place of its padding."""
        real = self.real[row]
        kept, gone = np.flatnonzero(real)[::-1], np.flatnonzero(~real)
        values = dict(self.padded(row).values)
        for name, axes in self.mask.axes.items():
            if name not in values or name == self.mask.input or len(axes) != 1:
                continue
            value = np.moveaxis(values[name], axes[0] + 1, 0).copy()
            value[gone] = value[np.resize(kept, len(gone))]
            values[name] = np.moveaxis(value, 0, axes[0] + 1)
        return replace(self.padded(row), values=values)

    def run(self, sample: Samples, tensors: Sequence[TensorRecord]) -> dict[str, NDArray[Any]]:
        """Return the values of tensors for a sample."""
        names = [tensor.name for tensor in tensors]
        outputs = [self._outputs[name] for name in names]
        feeds = sample.feeds(np.zeros(self._copies, np.intp))
        return dict(zip(names, self._session.run(outputs, feeds), strict=True))

    def runs_alone(self, row: int) -> bool:
        """Whether the model runs on a sample without padding."""
        try:
            self.run(self.alone(row), self.tensors[-1:])
        except BackendError:
            return False
        return True

    def take(self, rows: Sequence[int]) -> None:
        """Leave all samples but some out: others are shorter than the model takes."""
        samples = self._samples
        self._samples = replace(
            samples,
            values={name: value[rows] for name, value in samples.values.items()},
            lengths={name: lengths[rows] for name, lengths in samples.lengths.items()},
        )
        self.real, self.rows = self.real[rows], range(len(rows))

    def read(self, tensor: TensorRecord, value: NDArray[Any]) -> NDArray[Any] | None:
        """Return the values of the sample, of whatever length; None where they are not found."""
        axis, factor = tensor.batch_axis, 1
        if not isinstance(value, np.ndarray) or (axis is not None and axis >= value.ndim):
            return None
        if axis is not None and tensor.merged is not None:
            factor = value.shape[axis] // self._copies
        place = SampleAxis(axis, factor, tensor.merged)
        if axis is not None and not place.holds(value.shape, self._copies):
            return None
        sample = place.samples_first(value)[0]
        return sample if sample.ndim == len(tensor.shape) else None

    def read_both(
        self, tensors: Sequence[TensorRecord], other: Callable[[int], Samples]
    ) -> Iterator[tuple[TensorRecord, list[tuple[NDArray[Any] | None, NDArray[Any] | None]]]]:
        """Yield the values of each tensor for each padded sample, and for another form of it."""
        runs = [(self.run(self.padded(i), tensors), self.run(other(i), tensors)) for i in self.rows]
        for tensor in tensors:
            name = tensor.name
            yield (
                tensor,
                [(self.read(tensor, a[name]), self.read(tensor, b[name])) for a, b in runs],
            )

    def keep_real(self, value: NDArray[Any], axes: Sequence[int], row: int) -> NDArray[Any]:
        """Take the real positions of a sample along axes."""
        kept = np.flatnonzero(self.real[row])
        for axis in axes:
            value = np.take(value, kept, axis)
        return value


def _compare_alone(runs: _Runs) -> Positions:
    """Compare padded samples with the same samples without padding."""
    length, lengths = runs.mask.length, runs.real.sum(axis=1)
    found = _Found(runs)
    for part in runs.parts():
        for tensor, pairs in runs.read_both(part, runs.alone):
            shapes = [(p.shape, a.shape) for p, a in pairs if p is not None and a is not None]
            if len(shapes) < len(pairs):
                found.counted.append(tensor.name)
                continue
            ranks = range(len(tensor.shape))
            differing = {k for k in ranks if any(p[k] != a[k] for p, a in shapes)}
            axes = tuple(
                k
                for k in sorted(differing)
                if all(
                    (p[k], a[k]) == (length, own)
                    for (p, a), own in zip(shapes, lengths, strict=True)
                )
            )
            if len(axes) < len(differing) or not found.takes(tensor, axes):
                found.counted.append(tensor.name)
                continue
            kept = [
                (runs.keep_real(padded, axes, row), alone)
                for row, (padded, alone) in enumerate(pairs)
                if padded is not None and alone is not None
            ]
            found.add(tensor, axes, [_sum_magnitudes(value) for value, _ in kept])
            if not all(agree_closely(*pair) for pair in kept):
                found.mixed.append(tensor.name)
    return found.result(free=True)


def _compare_paddings(runs: _Runs) -> Positions:
    """Follow positions through the operators, and compare samples with other padding."""
    found = _Found(runs)
    followed, surely = (
        follow_positions(runs.graph, runs.tensors, runs.padded(0), runs.mask, by)
        for by in (CountedRules, KnownRules)
    )
    read: dict[str, _Read] = {}
    for part in runs.parts():
        for tensor, pairs in runs.read_both(part, runs.repadded):
            kept = [(p, q) for p, q in pairs if p is not None and q is not None]
            if len(kept) == len(pairs) and all(p.shape == q.shape for p, q in kept):
                name = tensor.name
                read[name] = _Read.of(runs, tensor, followed[name], surely[name], kept)
    # Another axis of some tensor is as long as samples are.
    by_chance = any(one.has_other_axis for one in read.values())
    for tensor in runs.tensors:
        one = read.get(tensor.name)
        chosen = None if one is None else one.choose(by_chance=by_chance)
        # Positions are followed to an axis of another length, if not to every axis, as through an
        # operator of which nothing is known.
        thinned = not chosen and 0 < len(surely[tensor.name]) < len(tensor.shape)
        if one is None or chosen is None or thinned or not found.takes(tensor, chosen):
            found.counted.append(tensor.name)
            continue
        found.add(tensor, chosen, one.sums.get(chosen, ()))
        if not one.agrees.get(chosen):
            found.mixed.append(tensor.name)
    return found.result(free=False)


@dataclass(frozen=True, slots=True)
class _Read:
    """What a tensor shows in runs with two paddings, by sets of axes that may have positions."""

    sure: tuple[int, ...]  # axes that operators pass on, whatever the lengths
    likely: tuple[int, ...]  # and those that arithmetic of shapes may make
    has_other_axis: bool  # one that is as long by chance
    agrees: dict[tuple[int, ...], bool]  # whether all that changes lies at padding
    sums: dict[tuple[int, ...], list[float]]  # of absolute values at real positions, by sample

    @classmethod
    def of(
        cls,
        runs: _Runs,
        tensor: TensorRecord,
        followed: frozenset[int],
        surely: frozenset[int],
        pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]],
    ) -> _Read:
        """Compare the values of the samples in both runs."""
        axes = [k for k, size in enumerate(tensor.shape) if size == runs.mask.length]
        sure = tuple(k for k in axes if k in surely)
        likely = tuple(k for k in axes if k in followed or k in surely)
        agrees, sums = {}, {}
        for count in range(len(axes) + 1):
            for chosen in combinations(axes, count):
                kept = [
                    [runs.keep_real(value, chosen, row) for value in pair]
                    for row, pair in enumerate(pairs)
                ]
                agrees[chosen] = all(agree_closely(*pair) for pair in kept)
                sums[chosen] = [_sum_magnitudes(pair[0]) for pair in kept]
        changes = not agrees[()]
        other = changes and bool(sure) and len(sure) < len(axes) and agrees[sure]
        return cls(sure, likely, other, agrees, sums)

    def choose(self, *, by_chance: bool) -> tuple[int, ...]:
        """Choose the axes of positions; what changes shows those that were not followed."""
        axes = self.sure if by_chance else self.likely
        if self.agrees[axes]:
            return axes
        fitting = [chosen for chosen, agrees in self.agrees.items() if agrees]
        fewest = [chosen for chosen in fitting if len(chosen) == min(map(len, fitting))]
        return fewest[0] if len(fewest) == 1 else axes


class _Found:
    """What is found of one tensor after another."""

    def __init__(self, runs: _Runs) -> None:
        self._inner = runs.graph.inner
        self.axes: dict[str, tuple[int, ...]] = {}
        self.mixed: list[str] = []
        self.counted: list[str] = []
        self._sums: dict[str, list[float]] = {}

    def takes(self, tensor: TensorRecord, axes: Sequence[int]) -> bool:
        """Whether padding along axes of a tensor can be left out."""
        return not axes or not (tensor.varies or tensor.name in self._inner)

    def add(self, tensor: TensorRecord, axes: tuple[int, ...], sums: Sequence[float]) -> None:
        """Add a tensor with its axes of positions, and the absolute sums of samples there."""
        if axes:
            self.axes[tensor.name] = axes
            self._sums[tensor.name] = list(sums)

    def result(self, *, free: bool) -> Positions:
        reference: dict[str, dict[Statistic, NDArray[np.float64]]] = {
            name: {"abs_sum": np.array(sums)} for name, sums in self._sums.items()
        }
        return Positions(self.axes, tuple(self.mixed), tuple(self.counted), reference, free)


def _sum_magnitudes(values: NDArray[Any]) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return float(np.abs(values.astype(np.float64)).sum())


def _shorten(constant: ConstantInput, length: int, kept: int) -> ConstantInput:
    """Shorten the axes of a constant that are as long as padded samples, where it is the same."""
    value = constant.value
    for axis, size in enumerate(value.shape):
        if size == length and axis != constant.batch_axis:
            part = np.take(value, range(kept), axis)
            if np.array_equal(np.take(value, [0] * size, axis), value):
                value = part
    return ConstantInput(constant.name, value, constant.batch_axis)
