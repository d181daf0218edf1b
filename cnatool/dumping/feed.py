"""Feeding a model: how raw samples become its inputs, a batch at a time."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.derived_rules import MASK_RULES, find_derived_inputs
from cnatool.backend.inputs import ConstantInput, Samples, list_known, make_constants
from cnatool.backend.schedule import LengthRange
from cnatool.data.preprocess.lengths import plan_length, prepare_rows
from cnatool.data.wrappers import read_first_block
from cnatool.dumping.input_plan import assign_options, check_rules, list_fed, plan_input
from cnatool.dumping.lengths import (
    check_lengths,
    choose_lengths,
    list_lengths,
    resize_rows,
    take_run,
)
from cnatool.errors import DataError
from cnatool.metrics.padding import LOOKED_AT, find_padding, padding_text
from cnatool.records.ragged import Ragged

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from numpy.typing import ArrayLike, NDArray

    from cnatool.backend.derived_inputs import DerivedInput
    from cnatool.backend.input_range import InputRange
    from cnatool.backend.network import Network
    from cnatool.data.preprocess.lengths import LengthPlan
    from cnatool.data.preprocess.recipe import Recipe
    from cnatool.data.selection import ArraySelection
    from cnatool.data.source import Block, Source
    from cnatool.dumping.lengths import ProbeLengths, RunRows
    from cnatool.records.masks import MaskRecord
    from cnatool.records.ragged import Rows
    from cnatool.records.run import Preprocessing

PROBE_SAMPLES = 3
# Pixels from 0 to 255 exceed this somewhere in a few samples.
_LEAST_PIXEL = 8.0
# Limits of the rows in which different samples are searched.
_PROBED_ROWS = 64
_PROBED_BYTES = 1 << 28


@dataclass(frozen=True, slots=True)
class Feed:
    """How raw samples become the inputs of a model."""

    preprocessing: tuple[Preprocessing, ...]  # for each input that is fed from data
    constants: tuple[ConstantInput, ...]
    notes: tuple[str, ...]  # a line for each input
    ranges: tuple[InputRange | None, ...]  # values that each input is made for, where that shows
    places: tuple[int, ...]  # of the inputs that the model receives among those of the source
    lengths: tuple[LengthPlan | None, ...]  # how each follows the length of samples, if any does
    derived: tuple[DerivedInput, ...] = ()  # inputs that are filled in by rule
    advice: Mapping[str, str] = field(default_factory=dict)  # a constant for each input, as Python
    masks: tuple[DerivedInput, ...] = ()  # what tells the model where samples are padded here
    mask: MaskRecord | None = None  # what says where samples are padded, if that does not count

    @classmethod
    def plan(
        cls,
        network: Network,
        source: Source,
        selection: ArraySelection,
        recipe: Recipe,
        constants: Mapping[str, ArrayLike],
    ) -> Feed:
        """Plan the preprocessing of every input, and what fills those that data do not give."""
        places = tuple(place for place, spec in enumerate(source.inputs) if spec.fed)
        specs = [source.inputs[place] for place in places]
        inputs = list_fed(network, source, selection)
        if len(inputs) != len(specs):
            needs = ", ".join(map(str, inputs))
            gives = ", ".join(f"{i.name!r} {i.for_model.shape}" for i in specs)
            missing = inputs[len(specs) :]
            raise DataError(
                f"{network.graph.path} takes {len(inputs)} inputs ({needs}) and {source.name} has "
                f"{len(specs)} ({gives}). Give a .npz or .parquet file with an array for "
                "each, or set those that are the same for every sample, as in "
                + selection.constants_text(target.name for target in missing)
            )
        names = [target.name for target in inputs]
        derived = find_derived_inputs(network.inputs, names, constants)
        check_rules(network, source, selection, {each.name for each in derived}, names)
        batch = network.fixed_batch(names) or 1
        options = assign_options(inputs, specs, recipe.options())
        # Whoever gives it, rule or data, a mask tells the model what is padding.
        required = [name for name in names if name not in selection.optional]
        rules = find_derived_inputs(network.inputs, required, constants)
        masks = tuple(each for each in rules if each.rule in MASK_RULES)
        lengths = tuple(
            plan_length(spec.for_model, target, masked=bool(masks))
            for spec, target in zip(specs, inputs, strict=True)
        )
        planned = [
            plan_input(network.graph, *parts, recipe, batch)
            for parts in zip(inputs, specs, options, lengths, strict=True)
        ]
        steps, notes, ranges = zip(*planned, strict=True)
        feed = cls(steps, (), notes, ranges, places, lengths, derived, selection.constant_advice)
        return replace(
            feed, masks=masks, constants=make_constants(network.inputs, constants, feed.shapes)
        )

    @property
    def shapes(self) -> dict[str, tuple[int | None, ...]]:
        """Shape of one sample of each input that data feed, None for a length that differs."""
        return {
            step.input: tuple(
                None if place == step.ragged_axis else size for place, size in enumerate(step.shape)
            )
            for step in self.preprocessing
        }

    @property
    def known(self) -> tuple[ConstantInput, ...]:
        """The constants, and inputs that rules fill in alike whatever the data."""
        return tuple(list_known(self.constants, self.derived))

    @property
    def is_ragged(self) -> bool:
        """Whether the model receives samples that differ in length."""
        return any(plan is not None and plan.fixed is None for plan in self.lengths)

    def length_range(self, source: Source, samples: Samples, rows: int) -> LengthRange | None:
        """Return how the first samples differ in length from those of a probe."""
        if not self.is_ragged:
            return None
        typical = self.lengths_in(samples)
        longest = self.lengths_of(self._first_block(source, 1)).max(axis=0)
        return LengthRange(int(typical.sum()), float((longest / typical).max()), rows)

    def describe_lengths(self, source: Source, rows: int) -> str | None:
        """Describe in a line how long the first of ``rows`` samples are, where these differ."""
        if not self.is_ragged:
            return None
        lengths = self.lengths_of(self._first_block(source, 1))[:rows]
        ranges = [
            f"{low:,} to {high:,}, on average {mean:,.0f}"
            for low, high, mean in zip(
                lengths.min(axis=0), lengths.max(axis=0), lengths.mean(axis=0), strict=True
            )
        ]
        return (
            f"samples differ in length: the first {len(lengths)} have {' and '.join(ranges)}. "
            "Samples of the same length run together, without padding; space and time are "
            "estimated from the first samples"
        )

    def lengths_of(self, block: Block) -> NDArray[np.int64]:
        """List the lengths of samples, (n, inputs), of the inputs that differ in length."""
        return list_lengths(self._parts(block), self.lengths, len(block.ids))

    def lengths_in(self, samples: Samples) -> NDArray[np.int64]:
        """List the lengths of samples of one length each, of the inputs that differ in length."""
        pairs = zip(self.preprocessing, self.lengths, strict=True)
        return np.array(
            [
                samples.values[step.input].shape[plan.axis + 1]
                for step, plan in pairs
                if plan is not None and plan.fixed is None
            ]
        )

    def feeds(self, block: Block, run: RunRows) -> dict[str, NDArray[Any]]:
        """Preprocess some samples of a block for one run, and add the other inputs."""
        return self.prepare(block, run).feeds()

    def prepare(self, block: Block, run: RunRows) -> Samples:
        """Preprocess some samples of a block."""
        return self._prepare(block, [take_run(rows, run) for rows in self._parts(block)])

    def check(self, source: str, block: Block) -> None:
        """Refuse samples that are empty, or longer than the model takes."""
        for rows, step, plan in zip(
            self._parts(block), self.preprocessing, self.lengths, strict=True
        ):
            check_lengths(source, block, rows, step.input, plan)

    def preprocess(self, block: Block) -> dict[str, Rows]:
        """Preprocess a block, for the inputs that are fed from data."""
        parts = zip(self._parts(block), self.preprocessing, self.lengths, strict=True)
        return {step.input: _prepare_each(rows, step, plan) for rows, step, plan in parts}

    def doubts(self, samples: Samples) -> Iterator[str]:
        """Describe each input whose values do not look like those it is made for."""
        for step, input_range in zip(self.preprocessing, self.ranges, strict=True):
            if np.dtype(step.dtype).kind == "f":
                line = _describe_doubt(step, input_range, samples.values[step.input])
                if line is not None:
                    yield line

    def padding(self, source: Source) -> str | None:
        """Describe padding that counts in the first samples of a source, if they are texts."""
        # What is padded here is masked here.
        rows = [
            step
            for step, plan in zip(self.preprocessing, self.lengths, strict=True)
            if len(step.shape) == 1 and plan is None
        ]
        if self.mask is not None or not any(np.dtype(step.dtype).kind in "iu" for step in rows):
            return None
        prepared = self.preprocess(read_first_block(source, LOOKED_AT))
        arrays = {step.input: prepared[step.input] for step in rows}
        texts = {name: value for name, value in arrays.items() if isinstance(value, np.ndarray)}
        masks = [each.name for each in self.derived if each.rule in MASK_RULES]
        padding = find_padding(texts) if masks else None
        if padding is not None:
            share, how = padding
            raise DataError(
                f"{source.name} seems to be padded, at {share:.0%} of the token positions "
                f"({how}), but has no {masks[0]!r}, which tells the model where: provide it as an "
                "array of that name, as tokenizers return it. If nothing is padding, set "
                f"`constants={{{masks[0]!r}: {self.advice.get(masks[0], '1')}}}`."
            )
        return padding_text(texts)

    def probe_lengths(self, source: Source) -> ProbeLengths:
        """Choose the lengths that a probe tries, by those of the first samples."""
        return choose_lengths(self.lengths_of(self._first_block(source, 1)))

    def probe(self, source: Source, count: int, lengths: Sequence[int] | None = None) -> Samples:
        """Take ``count`` samples from the start of a source, all different if possible.

        Equal ones are left out, and repeated where there are too few others. Floating samples get
        some noise; whole numbers then change places within their sample. Samples that differ in
        length are cut or continued to ``lengths``, by default typical ones.
        """
        block = self._first_block(source, count)
        parts = self._parts(block)
        rows = list(range(len(block.ids)))
        if self.is_ragged:
            own = self.lengths_of(block)
            wanted = choose_lengths(own).typical if lengths is None else tuple(lengths)
            # Those that are long enough need not be continued.
            rows.sort(key=lambda row: bool((own[row] < wanted).any()))
            parts = self._resize(parts, wanted)
        seen: dict[tuple[bytes, ...], int] = {}
        for row in rows:
            seen.setdefault(tuple(np.asarray(part[row]).tobytes() for part in parts), row)
        first = list(seen.values())[:count]
        chosen = np.array([first[i % len(first)] for i in range(count)])
        samples = self._prepare(block, [part[chosen] for part in parts])
        values = dict(samples.values)
        rng = np.random.default_rng(0)
        for name, value in values.items():
            filled = value.copy()
            for i in range(len(first), count):
                filled[i] = rng.permutation(filled[i].reshape(-1)).reshape(filled[i].shape)
            if filled.dtype.kind == "f":
                noise = np.asarray(rng.normal(0, _noise(value), filled.shape))
                filled = filled + noise.astype(filled.dtype)
            values[name] = filled
        return replace(samples, values=values)

    def _first_block(self, source: Source, count: int) -> Block:
        """Read the first samples of a source, and others among which different ones may be."""
        fed = [source.inputs[place].for_model for place in self.places]
        size = sum(spec.dtype.itemsize * math.prod(spec.shape) for spec in fed)
        looked_at = max(count, min(_PROBED_ROWS, _PROBED_BYTES // max(1, size)))
        block = read_first_block(source, looked_at)
        self.check(source.name, block)
        return block

    def _parts(self, block: Block) -> list[Rows]:
        """List the arrays of a block that the model receives."""
        return [block.for_model[place] for place in self.places]

    def _resize(self, parts: Sequence[Rows], lengths: Sequence[int]) -> list[Rows]:
        """Cut samples to some lengths, one for each input without padding, or continue them."""
        left = iter(lengths)
        return [
            rows
            if plan is None or plan.fixed is not None or not isinstance(rows, Ragged)
            else resize_rows(rows, next(left))
            for rows, plan in zip(parts, self.lengths, strict=True)
        ]

    def _prepare(self, block: Block, parts: Sequence[Rows]) -> Samples:
        """Preprocess the samples of one run."""
        values, lengths = {}, {}
        for rows, step, plan in zip(parts, self.preprocessing, self.lengths, strict=True):
            values[step.input] = prepare_rows(rows, step, plan)
            if plan is not None and isinstance(rows, Ragged):
                lengths[step.input] = rows.lengths
        return Samples(values, self.constants, self.derived, lengths)


def _prepare_each(rows: Rows, step: Preprocessing, plan: LengthPlan | None) -> Rows:
    """Preprocess samples of any lengths."""
    if plan is None or plan.fixed is not None or not isinstance(rows, Ragged):
        return prepare_rows(rows, step, plan)
    each = [prepare_rows(rows[i : i + 1], step, plan)[0] for i in range(len(rows))]
    return Ragged.join(each, plan.axis)


def probe_count(bound: int | None) -> int:
    """Return how many samples a probe takes of a model, which may be bound to a batch size."""
    return PROBE_SAMPLES if bound in (None, 1) else bound


def _describe_doubt(
    step: Preprocessing, input_range: InputRange | None, values: NDArray[Any]
) -> str | None:
    """Compare the values that an input receives with those it is made for."""
    low, high = float(values.min()), float(values.max())
    prepared = step.scale != 1.0 or bool(step.mean) or bool(step.std)
    text = f"input {step.input!r} receives values from {low:.3g} to {high:.3g}, "
    if input_range is not None and input_range.expects == "pixels":
        # Images with few levels, or dark ones, are no sign of a mistake.
        if high > _LEAST_PIXEL or (step.source_dtype == "uint8" and not prepared):
            return None
        way = "leave `mean` and `std` out and pass `scale=1`" if prepared else "pass `scale=255`"
        return f"{text}but the model {input_range}: if it was trained on such values, {way}"
    if prepared:
        return None
    unit = input_range is not None and input_range.expects == "unit"
    # Tables of numbers may be large; images have at least two axes.
    images = max(len(step.shape), len(step.source_shape)) > 1
    rounded = values.round()
    if rounded.min() >= 0 and 128 <= rounded.max() <= 256 and (images or unit):
        then = "" if input_range is None or not unit else f", and the model {input_range.text}"
        return (
            f"input {step.input!r} receives values up to {rounded.max():g} as they are{then}; if "
            "the model was trained on values from 0 to 1, pass `scale=1/255`"
        )
    return None


def _noise(values: NDArray[Any]) -> float:
    """Choose the noise that tells samples apart and hardly changes them.

    Sums are compared with those of the noisy samples. Noise larger than small samples would hide
    that digits are lost where a network subtracts their mean.
    """
    finite = values[np.isfinite(values)].astype(np.float64)
    if not finite.size or not finite.any():
        return 0.1
    # A smaller noise would be lost to rounding where values are nearly equal.
    largest = float(np.abs(finite).max())
    # Scaled first, so that the squares of large values stay finite.
    spread = float((finite / largest).std()) * largest if largest else 0.0
    return 0.1 * min(1.0, max(spread, 1e-3 * largest))
