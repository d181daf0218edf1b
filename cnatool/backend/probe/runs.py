"""The runs of a probe, and what they return for each tensor."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.graph.random_operators import find_random_tensors
from cnatool.backend.probe.counted_axes import PROVOKING, find_counted_axes, provoke_shapes
from cnatool.errors import BackendError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import Samples
    from cnatool.backend.probe.sample_axis import SampleAxis


class ProbeRuns:
    """The runs of a probe, and what they returned for each tensor."""

    def __init__(
        self,
        graph: Graph,
        samples: Samples,
        bound: int | None,
        run: Callable[..., dict[str, Any]],
    ) -> None:
        self.graph = graph
        self.run = run
        self._samples = samples
        self.count = len(samples)
        # Each sample has a run of its own; the model is bound to a number of samples.
        self.single, self.fixed = bound == 1, bound is not None
        self.rows = np.arange(self.count)
        self.first_rows = self.rows[:1] if self.single else self.rows
        self.large = run(self.first_rows)
        self._single_shapes = [
            _shapes(self.large),
            *(_shapes(run(self.rows[i : i + 1])) for i in range(1, self.count * self.single)),
        ]
        if self.single:
            self.other_rows = self.rows[:1]
        else:
            self.other_rows = np.roll(self.rows, 1) if self.fixed else self.rows[:-1]
        self.small = self.large if self.single else run(self.other_rows)
        self.random = find_random_tensors(graph)
        fed = samples.feeds(self.first_rows)
        self.provoked = provoke_shapes(graph, samples, self.other_rows, run)
        self.counted: Mapping[str, frozenset[int]] = {}
        computed = {name: self.shape(name) for name in _shapes(self.large)}
        self.counted = find_counted_axes(graph, _shapes(fed) | computed)
        self.surely_counted = find_counted_axes(graph, _shapes(fed) | computed, guess=False)

    @property
    def fed(self) -> Collection[str]:
        """Names of the inputs that are given samples."""
        return self._samples.values.keys()

    @cached_property
    def rolled(self) -> dict[str, Any]:
        """Results of the samples in another order."""
        return self.run(np.roll(self.rows, 1))

    @cached_property
    def exchanged(self) -> dict[int, dict[str, Any]]:
        """Results of a bound model with another sample at one place, by that place."""
        last = self.count - 1
        with suppress(BackendError):
            return {
                place: self.run(np.where(self.rows == place, last - place, self.rows))
                for place in (0, last)
            }
        return {}

    @property
    def replaced(self) -> Iterator[dict[str, Any]]:
        """Results with a sample unlike the data's, such as zeros, at the first place."""
        for provoke in PROVOKING:
            values = {
                name: np.concatenate([provoke(value[:1]), value[1:]])
                for name, value in self._samples.values.items()
            }
            with suppress(BackendError):
                yield self.run(self.rows, replace(self._samples, values=values))

    def is_absent(self, name: str, shape: Sequence[int]) -> bool:
        """Whether a shape is that of a run that does not compute the tensor."""
        if name in self.graph.inner:
            return self.graph.inner[name].is_absent(shape)
        # Of the results of a loop without iterations, all axes that are not declared are empty.
        counted = self.counted.get(name, ()) if name in self.graph.decided else ()
        return any(shape[axis : axis + 1] == (0,) for axis in counted)

    def is_never_computed(self, name: str) -> bool:
        """Whether no run computes a tensor, so that its shape is unknown."""
        return name in self.graph.inner and not self.shapes(name)

    def add_shapes(self, shapes: Iterable[dict[str, tuple[int, ...]]]) -> None:
        """Add shapes that tensors had in other runs of single samples."""
        self._single_shapes.extend(shapes)

    def shapes(self, name: str) -> list[tuple[int, ...]]:
        """List the shapes that a tensor had in runs of single samples that compute it."""
        runs = (*self._single_shapes, *(self.provoked if self.single else ()))
        shapes = [shapes[name] for shapes in runs if name in shapes]
        computed = [shape for shape in shapes if not self.is_absent(name, shape)]
        return computed if computed or name in self.graph.inner else shapes

    def shape(self, name: str) -> tuple[int, ...]:
        """Return the shape of a tensor in the first run that computes it."""
        inner = self.graph.inner.get(name)
        rank = np.ndim(self.large[name])
        if inner is not None and inner.rank is not None:
            rank = inner.loops + inner.rank
        return next(iter(self.shapes(name)), (0,) * rank)

    def varying_axes(self, name: str, axis: SampleAxis) -> frozenset[int]:
        """Find the axes of a tensor's shape for one sample whose length depends on the data."""
        # Where each sample has a run of its own, the runs show what is not sure.
        counted = (self.surely_counted if self.single else self.counted).get(name, frozenset())
        pair = (self.large[name].shape, self.small[name].shape)
        shapes = {*self.shapes(name), *(shape for shape in pair if not self.is_absent(name, shape))}
        axes = set(counted)
        for sizes in zip(*(enumerate(shape) for shape in shapes), strict=True):
            if len(set(sizes)) > 1:
                axes.add(sizes[0][0])
        if axis.axis is None or axis.merged is not None:
            return frozenset(axes - {axis.axis})
        return frozenset(k - (k > axis.axis) for k in axes if k != axis.axis)

    def drop_comparisons(self) -> None:
        """Free the memory of what only the search for sample axes needs."""
        self.small = {}
        for name in ("rolled", "exchanged"):
            self.__dict__.pop(name, None)


def _shapes(values: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(value) for name, value in values.items() if value is not None}
