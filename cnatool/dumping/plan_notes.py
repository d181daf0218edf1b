"""What a dump notes about its plan: inputs and splits, tensors, and values that need care."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import UNSET

from cnatool._util.text import classes_text, count_text
from cnatool.backend.derived_inputs import describe_rules
from cnatool.backend.graph.nodes import attributes, operator_set
from cnatool.dumping.branch_notes import describe_branches
from cnatool.dumping.skipped_summary import describe_missing_outputs, summarise_skipped
from cnatool.records.skipped import is_counted_empty
from cnatool.scoring.output import explain_missing_output

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.network import ProbedNetwork
    from cnatool.backend.schedule import Schedule
    from cnatool.data.source import Source
    from cnatool.dumping.feed import Feed
    from cnatool.records.row_index import RowIndex
    from cnatool.records.store import LayerRecord, StoreRecord


def describe_inputs(
    sources: Mapping[str, Source], feed: Feed, rows: Mapping[str, int]
) -> Iterator[str]:
    """Describe the preprocessing of each input, and the samples of each split."""
    yield from feed.notes
    filled = describe_rules({each.name: each.rule for each in feed.derived})
    name, first = next(iter(sources.items()))
    yield from filter(None, (filled, feed.describe_lengths(first, rows[name]), feed.padding(first)))
    for name, source in sources.items():
        yield _describe_split(name, source, rows[name])


def _describe_split(name: str, source: Source, rows: int) -> str:
    count = count_text(source.rows, "sample")
    if rows != source.rows:
        count = f"{rows:,} of {count}"
    labels = "with labels" if source.labelled else "no labels found"
    if source.labelled and source.classes:
        labels += f" ({classes_text(source.classes)})"
    return f"split {name}: {count} of {source.name}, {labels}"


def _describe_varying(record: StoreRecord) -> Iterator[str]:
    """Describe how tensors are stored that differ in shape from sample to sample."""
    padded = [tensor for tensor in record.tensors if tensor.positions and tensor.kept != "full"]
    squares = [t for t in padded if t.output is None and len(t.positions or ()) > 1]
    if squares and any(tensor.kept == "full" for tensor in record.tensors):
        yield (
            f"{count_text(len(squares), 'tensor')}, first {squares[0].name!r}, "
            f"{'has' if len(squares) == 1 else 'have'} a value for each pair of positions: only "
            "sums and element counts are stored"
        )
    # Of scores of tokens, another note says what is stored.
    classes = record.tokens.classes if record.tokens else None
    varying = [
        tensor
        for tensor in record.tensors
        if tensor.varies
        and not tensor.positions
        and not (tensor.kept == "statistics" and tensor.shape[-1:] == (classes,))
    ]
    if not varying:
        return
    rest = [tensor for tensor in varying if tensor.ragged_axis is UNSET]
    whole = len(varying) - len(rest)
    own = "each sample is stored in its own shape, as values and offsets"
    sums = "only sums and element counts are stored"
    if not whole or not any(tensor.kept == "full" for tensor in record.tensors):
        text = sums
    elif not rest:
        text = own
    else:
        others = f"{len(rest):,}, first {rest[0].name!r}" if rest[1:] else f"one, {rest[0].name!r}"
        text = (
            f"for {whole:,}, {own}; for the other {others}, {sums}, because several axes may differ"
        )
    differ = f"{count_text(len(varying), 'tensor')} differ{'s' * (len(varying) == 1)} in shape"
    yield f"{differ} from sample to sample: {text}"
    divided = [tensor for tensor in varying if tensor.index]
    if divided:
        first = divided[0]
        assert first.index
        yield (
            f"the rows of {first.name!r} are divided among samples by {_index_text(first.index)}"
            + (f", those of {len(divided) - 1} others in the same way" if divided[1:] else "")
        )


def _index_text(index: RowIndex) -> str:
    return (f"column {index.column} of " if index.column is not None else "") + repr(index.tensor)


def _describe_left_out(
    record: StoreRecord, probed: ProbedNetwork, graph: Graph, batch: int
) -> Iterator[str]:
    """Describe the layers that scores leave out, in a line for each reason."""
    apart = [layer for layer in record.layers if not layer.per_sample]
    skipped = {tensor.name for tensor in record.skipped}
    by_reason: dict[str, list[LayerRecord]] = {}
    for layer in apart:
        names = {layer.linear, layer.preactivation}
        if not names.isdisjoint(probed.counted) and any(map(graph.loops, names)):
            reason = "in a loop whose number of iterations differs from sample to sample"
        elif not names.isdisjoint(probed.counted):
            reason = (
                "applied to what is found in the samples, such as detections, rather than to the "
                "samples"
            )
        elif not names.isdisjoint(skipped):
            reason = "inside an If, Loop or Scan, without a row for each sample"
        else:
            reason = f"in a branch that only some {'batches' if batch > 1 else 'samples'} take"
        by_reason.setdefault(reason, []).append(layer)
    for reason, layers in by_reason.items():
        one = len(layers) == 1
        yield (
            f"{count_text(len(layers), 'layer')}, first {layers[0].linear!r}, "
            f"{'is' if one else 'are'} {reason}: scores leave {'it' if one else 'them'} out"
        )


_RECURRENT = operator_set("GRU LSTM RNN")


def _describe_steps(probed: ProbedNetwork, graph: Graph) -> Iterator[str]:
    """Describe a recurrent layer that goes from one sample to the next, as if from step to step."""
    for tensor in probed.tensors:
        node = graph.producer.get(tensor.name)
        if node is None or node.op_type not in _RECURRENT or tensor.batch_axis != 0:
            continue
        if node.output[0] == tensor.name and not attributes(node).get("layout", 0):
            yield (
                f"{tensor.name!r} ({node.op_type}) runs from one sample to the next, as if they "
                "were the steps of a sequence: if the model expects steps before samples, as "
                "PyTorch models do without `batch_first`, all results are wrong; export it with "
                "the samples first, or with a Transpose after its input"
            )
            return


def _describe_decisions(graph: Graph) -> Iterator[str]:
    """Describe in a line the Ifs and loops that values of a whole batch decide about."""
    bodies = [
        graph.bodies(name)[place] for name in graph.controlled for place in graph.controlled[name]
    ]
    names = [
        f"{body.operator} {(graph.producer[body.node].name or body.node)!r}"
        for body in {body.node: body for body in bodies if body.node in graph.producer}.values()
    ]
    if names:
        many = f" and {len(names) - 1} more are" if names[1:] else " is"
        yield (
            f"{names[0]}{many} decided for a whole batch: all its samples take the same branch "
            "or number of iterations; `batch_size=1` decides for each sample"
        )


def _advise_one(graph: Graph, *, doubtful: bool) -> str:
    """Advise runs of one sample, as far as the first axis of inputs is sure to be the samples'."""
    text = "; `batch_size=1` runs each sample alone"
    shapes = [value.type.tensor_type.shape.dim for value in graph.inputs]
    if not doubtful and all(shape[0].dim_param or shape[0].dim_value for shape in shapes if shape):
        return text
    return f"{text}, which helps if samples lie along the first axis of its inputs"


def describe_stored(
    record: StoreRecord,
    probed: ProbedNetwork,
    schedule: Schedule,
    graph: Graph,
    rows: int,
    *,
    bound: bool,
) -> list[str]:
    """Describe what is stored and which values need care, in lines.

    ``rows`` is the number of samples of the largest split.
    """
    reduced = sum(bool(tensor.reduction) for tensor in record.tensors)
    tensors, layers = len(record.tensors) - reduced, len(record.layers)
    levels = (
        "; for each image, only how often each level occurs, which is all that α needs "
        "(`keep_inputs='values'` stores the images, if all have the same size)"
    )
    counted = any(array.levels is not None for array in record.inputs)
    lines = [
        f"{count_text(tensors, 'tensor')}, {count_text(layers, 'layer')}"
        + (f"; {count_text(reduced, 'reduced tensor')} besides" if reduced else "")
        + levels * counted,
        *summarise_skipped(record.skipped, tensors + len(record.unselected)),
    ]
    if record.model is not None and record.outputs:
        # Of scores of tokens, another note says what is stored.
        scores = record.tokens.output if record.tokens else None
        named = [name for name in record.model.outputs if name != scores]
        lines += describe_missing_outputs(named, record.skipped, record.tensors)
    if record.runtime is not None:
        lines += describe_branches(record.runtime.branches)
    if not record.outputs and not record.tokens:
        advice = ""
        if not bound and any(is_counted_empty(tensor) for tensor in record.skipped):
            advice = "; with `batch_size=1` all rows of a run belong to its sample"
        lines.append(
            f"{explain_missing_output(record)}: scores will have no accuracy, loss or "
            f"margin{advice}"
        )
    if schedule.batch > 1 and not bound:
        lines += _describe_decisions(graph)
    lines += _describe_varying(record)
    lines += _describe_left_out(record, probed, graph, schedule.batch)
    if layers and not any(layer.output for layer in record.layers):
        lines.append(
            "no layer leads directly to an output, so scores count all layers as hidden; "
            "`inspect(layers=True)` lists them"
        )
    steps = list(_describe_steps(probed, graph))
    lines += steps
    # A run of one sample has no others.
    mixed = [tensor.name for tensor in record.tensors if tensor.name in probed.mixed]
    if mixed and schedule.batch > 1:
        count = len(mixed)
        lines.append(
            f"{count_text(count, 'tensor')}, first {mixed[0]!r}, depend{'s' * (count == 1)} on "
            "the other samples of a batch: the values are valid only for batches of "
            f"{schedule.batch if bound else min(schedule.batch, rows)} in this order"
            + (", the last one filled up with copies of its last sample" if bound else "")
            + (_advise_one(graph, doubtful=bool(steps)) if probed.one_runs else "")
        )
    if probed.random:
        count, (first, operator) = len(probed.random), next(iter(probed.random.items()))
        lines.append(
            f"{count_text(count, 'tensor')}, first {first!r}, {'are' if count != 1 else 'is'} "
            f"random ({operator}): another dump would store different values. A model exported in "
            "evaluation mode has no dropout"
        )
    return lines
