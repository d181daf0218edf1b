"""Further states and results of nodes with bodies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.backend.graph.nodes import attributes

if TYPE_CHECKING:
    import onnx


def add_state(
    node: onnx.NodeProto,
    body: onnx.GraphProto,
    initial: str,
    values: tuple[onnx.ValueInfoProto, onnx.ValueInfoProto],
    result: str,
) -> None:
    """Add a state to a loop; its body reads the first of ``values`` and makes the second."""
    before, after = values
    if node.op_type == "Loop":
        # A number of iterations and a condition come first, either of which may be left out.
        node.input.extend([""] * (2 - len(node.input)))
        states, scanned = len(node.input) - 2, 0
    else:
        scanned = int(attributes(node)["num_scan_inputs"])
        states = len(node.input) - scanned
    name_results(node, body, result)
    node.input.insert(len(node.input) - scanned, initial)
    body.input.insert(len(body.input) - scanned, before)
    body.output.insert(states + (node.op_type == "Loop"), after)
    node.output.insert(states, result)


def add_stacked(
    node: onnx.NodeProto, body: onnx.GraphProto, value: onnx.ValueInfoProto, result: str
) -> None:
    """Let a loop return a tensor of its body from all iterations, along a new first axis."""
    name_results(node, body, result)
    body.output.append(value)
    node.output.append(result)
    declare_stacked(node, 1)


def declare_stacked(node: onnx.NodeProto, count: int) -> None:
    """Declare that so many further results of a Scan have the iterations along their first axis."""
    for attribute in node.attribute:
        if attribute.name in ("scan_output_axes", "scan_output_directions"):
            attribute.ints.extend([0] * count)


def name_results(node: onnx.NodeProto, body: onnx.GraphProto, prefix: str) -> None:
    """Name the results that a node leaves out of those of its body.

    The runtime finds a result behind them by its place.
    """
    results = len(body.output) - (node.op_type == "Loop")
    node.output.extend([""] * (results - len(node.output)))
    for place, name in enumerate(node.output):
        if not name:
            node.output[place] = f"{prefix} left out {place}"
