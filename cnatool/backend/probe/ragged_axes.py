"""The axis along which the samples of a tensor differ in length, where they do along one alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from cnatool.backend.probe.runs import ProbeRuns
    from cnatool.backend.probe.sample_axis import SampleAxis

# Iterations that show whether all have the same shape.
_FEWEST_ITERATIONS = 2


def find_ragged_axis(
    runs: ProbeRuns, name: str, axis: SampleAxis, varying: Collection[int]
) -> int | None:
    """Find the axis of one sample's shape along which samples differ in length.

    None where several axes vary, or iterations may differ in shape. ``varying`` are the axes that
    do by the runs. A sample that does not take a branch has no rows along the first.
    """
    graph = runs.graph
    if name in graph.unstackable:
        return None
    if name not in graph.controlled:
        return _only(varying)
    shapes = runs.shapes(name)
    if not shapes:
        return None
    loops = [place for place, body in enumerate(graph.bodies(name)) if body.repeats]
    counted = [k for k, place in enumerate(loops) if place in graph.controlled[name]]
    if any(max(shape[k] for shape in shapes) < _FEWEST_ITERATIONS for k in counted):
        return None
    if axis.axis in counted:
        return None
    if axis.axis is not None and axis.merged is None:
        counted = [k - (k > axis.axis) for k in counted]
    axes = {*varying, *counted}
    return _only(axes or {0})


def _only(axes: Collection[int]) -> int | None:
    return next(iter(axes)) if len(axes) == 1 else None
