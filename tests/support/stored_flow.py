"""What a store holds of the tensors inside If, Loop and Scan, against their literal evaluation."""

from __future__ import annotations

import numpy as np
import onnx.inliner

import cnatool
from cnatool.store.statistics import row_statistics
from support.control_flow import Flow
from support.literal import Values, literal_values, stack
from support.reference import difference


def evaluate_alone(flow: Flow) -> list[dict[str, Values]]:
    """Evaluate each sample by itself."""
    model = flow.model
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    count = len(next(iter(flow.feeds.values())))
    rows = ({name: x[i : i + 1] for name, x in flow.feeds.items()} for i in range(count))
    return [literal_values(model, feeds) for feeds in rows]


def compare_with_literal(store: cnatool.Store, flow: Flow) -> list[str]:
    """Compare each inner tensor of a store, whole or by its statistics; return their names."""
    expected = evaluate_alone(flow)
    made = {name for values in expected for name in values if "/" in name}
    inner = [tensor for tensor in store.tensors if tensor.name in made]
    split = store.splits["all"]
    for tensor in inner:
        by_sample = [values.get(tensor.name, {}) for values in expected]
        for row, values in enumerate(by_sample):
            _compare_row(store, tensor.number, row, values)
        if tensor.stored is not None:
            rows = split.activations(tensor.name)[:]
            for row, values in zip(rows, by_sample, strict=True):
                if not values:
                    assert row.size == 0, tensor.name
                    continue
                # Of a single sample, its axis holds nothing apart.
                whole = stack(values)
                assert row.size == whole.size, tensor.name
                alike = whole.reshape(row.shape).astype(row.dtype)
                assert difference(row, alike) is None, tensor.name
    return [tensor.name for tensor in inner]


def _compare_row(store: cnatool.Store, number: int, row: int, values: Values) -> None:
    split, name = store.splits["all"], store.tensors[number].name
    parts = [np.asarray(value).reshape(-1).astype(np.float64) for value in values.values()]
    elements = np.concatenate(parts) if parts else np.zeros(0)
    scale = max(1.0, np.abs(elements).sum())
    for statistic in store.record.statistics:
        value = split.statistics(statistic)[row][number]
        if statistic == "count":
            assert value == elements.size, (name, row)
            continue
        truth = row_statistics(elements[None], [statistic])[statistic][0]
        # What the runtime and the evaluator round differently adds up over iterations.
        close = value == truth or abs(value - truth) <= 1e-4 * scale
        assert close, (name, row, statistic, value, truth)
