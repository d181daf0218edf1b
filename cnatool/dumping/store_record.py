"""The record of the store that a dump writes, before its first row."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._version import __version__
from cnatool.backend.select import list_unselected
from cnatool.backend.session import RUNTIME_VERSION, numeric_options
from cnatool.records.run import ConstantRecord, DerivedRecord, RuntimeRecord
from cnatool.records.store import ArrayRecord, StoreRecord
from cnatool.records.weights import FlatnessRecord

if TYPE_CHECKING:
    from collections.abc import Sequence

    from cnatool.backend.derived_inputs import DerivedInput
    from cnatool.backend.inputs import ConstantInput
    from cnatool.backend.network import Network, ProbedNetwork
    from cnatool.backend.schedule import Schedule
    from cnatool.data.source import InputSpec, Source
    from cnatool.dumping.feed import Feed
    from cnatool.dumping.options import DumpOptions
    from cnatool.records.store import LayerRecord, TensorRecord


def _describe_layers(network: Network, probed: ProbedNetwork) -> tuple[LayerRecord, ...]:
    """Describe the layers of a network, and which have a row for each sample."""
    inside = {tensor.name for tensor in probed.skipped if network.graph.lies_inside(tensor.name)}
    apart = inside | probed.counted
    return tuple(
        msgspec.structs.replace(
            layer,
            per_sample=layer.per_sample and apart.isdisjoint((layer.linear, layer.preactivation)),
        )
        for layer in network.layers.layers
    )


def describe_store(
    options: DumpOptions,
    source: Source,
    feed: Feed,
    network: Network,
    probed: ProbedNetwork,
    tensors: tuple[TensorRecord, ...],
    outputs: Sequence[TensorRecord],
    schedule: Schedule,
    initial: Network | None,
    *,
    label_lists: bool,
) -> StoreRecord:
    """Describe the store, but for its splits and for what is measured of the model."""
    flatness = options.flatness_settings
    counted = ["count"] if any(tensor.varies for tensor in tensors) else []
    return StoreRecord(
        schema="cnatool.store/1",
        created_by=f"cnatool {__version__}",
        inputs=tuple(map(_input_record, source.inputs)),
        outputs=tuple(
            ArrayRecord(
                t.name,
                t.dtype,
                t.shape,
                ragged_axis=t.ragged_axis,
                stored="bfloat16" if t.onnx_type == "bfloat16" else msgspec.UNSET,
            )
            for t in outputs
        ),
        tensors=tensors,
        layers=_describe_layers(network, probed),
        statistics=(*options.computed_statistics, *counted),
        splits={},
        skipped=tuple(probed.skipped),
        unselected=list_unselected(probed.tensors, tensors),
        model=network.record,
        initial=None if initial is None else initial.record,
        runtime=RuntimeRecord(
            name="onnxruntime",
            version=RUNTIME_VERSION,
            provider=probed.run.provider,
            optimization=probed.run.optimization,
            batch_size=schedule.batch,
            threads=schedule.threads,
            provider_options=numeric_options(probed.run.provider),
            branches=network.branch_record,
        ),
        preprocessing=feed.preprocessing,
        constants=tuple(map(_constant_record, feed.constants)),
        derived=tuple(map(_derived_record, feed.derived)) or msgspec.UNSET,
        tags=dict(options.tags or {}),
        flatness=None if flatness is None else FlatnessRecord(flatness),
        label_lists=label_lists or msgspec.UNSET,
        mask=msgspec.UNSET if feed.mask is None else feed.mask,
    )


def _input_record(spec: InputSpec) -> ArrayRecord:
    return ArrayRecord(
        spec.name,
        spec.dtype.name,
        spec.shape,
        "uint8" if spec.levels else None,
        ragged_axis=msgspec.UNSET if spec.ragged_axis is None else spec.ragged_axis,
        kind=spec.kind or msgspec.UNSET,
        special=spec.special or msgspec.UNSET,
        sound=msgspec.UNSET if spec.sound is None else spec.sound,
        stored="bfloat16" if spec.bfloat16 else msgspec.UNSET,
    )


def _constant_record(constant: ConstantInput) -> ConstantRecord:
    value = np.ascontiguousarray(constant.value)
    little = value.astype(value.dtype.newbyteorder("<"))
    return ConstantRecord(
        input=constant.name,
        dtype=value.dtype.name,
        shape=constant.value.shape,
        value=float(value.item()) if value.size == 1 and np.isfinite(value).all() else None,
        sha256=hashlib.sha256(little.tobytes()).hexdigest(),
    )


def _derived_record(derived: DerivedInput) -> DerivedRecord:
    return DerivedRecord(derived.name, derived.rule, derived.dtype.name, derived.dims)
