"""A model that returns statistics, compared with those of the probe's values first."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from cnatool._util.text import count_text
from cnatool.backend.graph.nodes import overwrites_weights
from cnatool.backend.probe.closeness import same_values
from cnatool.backend.probe.repeatability import unrepeatable_error
from cnatool.backend.session import CPU
from cnatool.backend.statistics.exposed_model import ExposedModel

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from numpy.typing import NDArray

    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.session import RunOptions
    from cnatool.backend.statistics.reduced_tensors import ReducedTensor
    from cnatool.records.choices import Statistic
    from cnatool.records.masks import MaskRecord
    from cnatool.records.store import TensorRecord, TokensRecord

# Relative to the absolute sum; half of the promised 1e-5.
_TOLERANCE = 5e-6
# The others are computed in float64, or cannot lose digits.
_CHECKED: tuple[Statistic, ...] = ("sum", "abs_sum", "positive_sum")


def build_exposed_model(
    network: Network,
    probed: ProbedNetwork,
    tensors: Sequence[TensorRecord],
    outputs: Sequence[TensorRecord],
    statistics: Sequence[Statistic],
    run: RunOptions,
    mask: MaskRecord | None = None,
    tokens: TokensRecord | None = None,
    reduced: Sequence[ReducedTensor] = (),
) -> ExposedModel:
    """Build a model whose statistics were compared with those of the probe's values.

    Sums in parts, and sums computed from other tensors, lose digits where large numbers cancel. A
    tensor whose statistics differ from the reference is summed in float64 instead.
    """
    samples = probed.samples
    fed = next(iter(samples.values))

    def build(exact: Sequence[str], names: Sequence[Statistic] = statistics) -> ExposedModel:
        return ExposedModel(
            network.graph,
            tensors,
            outputs,
            probed.tensors,
            fed,
            run,
            names,
            exact,
            mask,
            tokens,
            reduced,
        )

    model = build(())
    count = len(samples)
    feeds = samples.feeds(np.arange(count))
    results = model.run([feeds], count).statistics
    if any(map(overwrites_weights, network.graph.nodes)):
        again = model.run([feeds], count).statistics
        for tensor in tensors:
            if tensor.reduction:
                continue
            if tensor.name not in probed.random and not all(
                same_values(results[name][:, tensor.number], again[name][:, tensor.number])
                for name in results
            ):
                raise unrepeatable_error(network.graph, tensor.name)
    # The probe's values include padding.
    padded = [tensor for tensor in tensors if tensor.positions]
    apart = {tensor.name for tensor in padded}
    reference = {name: sums for name, sums in probed.reference.items() if name not in apart}
    if padded and run.provider == CPU:
        exact = build([*apart], _CHECKED).run([feeds], count).statistics
        for tensor in padded:
            reference[tensor.name] = {name: exact[name][:, tensor.number] for name in _CHECKED}
    differing = [
        tensor.name
        for tensor in tensors
        if tensor.name in reference and not _agree(results, tensor.number, reference[tensor.name])
    ]
    if run.provider == CPU:
        return build(differing) if differing else model
    # Elsewhere everything is summed in float64 already, or should be.
    finite = [name for name in differing if np.isfinite(reference[name]["abs_sum"]).all()]
    if finite:
        model.notes.append(
            f"{run.provider} gives other statistics of {count_text(len(finite), 'tensor')}, "
            f"first {finite[0]!r}, than its values have when the whole tensor is fetched: by more "
            f"than {_TOLERANCE:g} of the sum of absolute values. It sums in less than float64, or "
            "computes these tensors otherwise"
        )
    return model


def _agree(
    results: Mapping[str, NDArray[np.float64]],
    column: int,
    reference: Mapping[Statistic, NDArray[np.float64]],
) -> bool:
    for name in _CHECKED:
        if name not in results or name not in reference:
            continue
        scale = reference["abs_sum"]
        if not np.isfinite(scale).all():
            return False  # as a mask of -inf: it will be so in every batch
        error = np.abs(results[name][:, column] - reference[name])
        if not (error <= _TOLERANCE * scale).all():
            return False
    return True
