"""Flatness of a network: the largest noise on its weights that accuracy tolerates."""

from __future__ import annotations

import math
import time
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnatool._util.memory import available_memory
from cnatool._util.text import bytes_text, count_text, time_text
from cnatool._util.threads import map_ordered
from cnatool.backend.weights.noisy_model import NoisyModel, Weights, log_sum, square_sum
from cnatool.errors import CnatoolError, DataError, ModelError
from cnatool.metrics.performance import validate_labels
from cnatool.records.weights import FlatnessRecord, NoiseRecord
from cnatool.scoring.output import select_dumped_output

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from numpy.typing import NDArray

    from cnatool.dumping.plan import DumpPlan
    from cnatool.records.weights import Flatness

# ε of the magnitude-aware noise (Jiang et al. 2019, appendix C).
_EPSILON = 1e-3
# Samples of more bytes than this are read again in each pass.
_HELD_BYTES = 256 * 2**20
_TRAIN = "train"


def describe_effort(settings: Flatness, rows: Mapping[str, int]) -> str:
    """Describe how often measuring flatness runs the model; ``rows`` are those of each split."""
    train = max(rows.values()) if len(rows) == 1 else rows.get(_TRAIN, 0)
    samples = min(settings.samples, train)
    count = 2 * EVALUATIONS * settings.draws * samples
    return (
        f"flatness: 2 kinds of noise × {EVALUATIONS} scales × {settings.draws} draws × "
        f"{count_text(samples, 'sample')}, at most {count:,} through the model"
    )


def measure_flatness(plan: DumpPlan) -> FlatnessRecord | None:
    """Measure flatness if the plan asks for it; a failure is noted, and recorded as the reason."""
    asked = plan.record.flatness
    if asked is None:
        return None
    if not plan.measures_model:
        return FlatnessRecord(asked.settings, reason="the first part of the dump measures it")
    try:
        return _Measurement(plan, asked.settings).record()
    except Exception as error:
        # An unforeseen failure of the runtime must not end the dump.
        known = isinstance(error, CnatoolError)
        reason = str(error) if known else f"it cannot be measured ({type(error).__name__}: {error})"
        plan.observer.note(f"flatness is not measured: {reason}")
        return FlatnessRecord(asked.settings, reason=reason)


class _Measurement:
    """The measurement of one network."""

    def __init__(self, plan: DumpPlan, settings: Flatness) -> None:
        if plan.schedule.stateful:
            raise ModelError(
                "the model draws random numbers or has custom operators, so that two runs differ"
            )
        self._plan = plan
        self._settings = settings
        self._observer = plan.observer
        self._weights = Weights(plan.network.graph, plan.run.custom_ops)
        self._initial = None
        if plan.initial is not None:
            self._initial = Weights(plan.initial.graph, plan.run.custom_ops)
        self._samples = _Samples(plan, settings.samples)
        self._total = 2 * EVALUATIONS * settings.draws * len(self._samples.labels)
        self._done = 0

        outputs: list[NDArray[Any]] = []

        def plain_outputs(number: int) -> list[NDArray[Any]]:
            self._model = NoisyModel(
                plan.network.graph, self._weights, plan.outputs[number], plan.run
            )
            self._check_memory()
            outputs.extend(self._run_samples(noise=False))
            return outputs

        operators = [tensor.operator for tensor in plan.outputs]
        self._output = select_dumped_output(plan.record, operators, plain_outputs)
        if self._output.kind is None:
            raise ModelError(self._output.reason or "no output holds class scores")
        scores = self._output.scores(np.concatenate(outputs))
        validate_labels(scores, self._samples.labels)
        self._classes = scores.shape[1]
        self._correct = sum(map(self._count_hits, outputs, self._samples.labels_of(outputs)))
        started = time.perf_counter()
        self._model.add_noise((settings.seed, 0), 0.0)
        self._run_samples(noise=False)
        self._announce(time.perf_counter() - started)

    def record(self) -> FlatnessRecord:
        """Measure flatness by both kinds of noise."""
        samples, values = len(self._samples.labels), self._model.values
        total = math.fsum(map(square_sum, values.values()))
        # First, since weights that do not fit end the measurement here.
        moved = self._sum_distances(square_sum)
        unit = math.sqrt(total / self._model.count)
        if not math.isfinite(unit) or not unit:
            raise ModelError("the weights are all 0" if not unit else "the weights are not finite")
        plain = self._search("plain", unit, None)
        magnitude = self._search("magnitude-aware", 1.0, _EPSILON)
        self._advance(self._total - self._done)
        logs = moved_logs = None
        if magnitude.sigma is not None:
            logs_of = partial(log_sum, sigma=magnitude.sigma, epsilon=_EPSILON)
            logs = math.fsum(map(logs_of, values.values()))
            moved_logs = self._sum_distances(logs_of)
        return FlatnessRecord(
            settings=self._settings,
            split=self._samples.split,
            samples=samples,
            output=self._output.name,
            accuracy=self._correct / samples,
            weights=self._model.count,
            square_sum=total,
            distance_square_sum=moved,
            plain=plain,
            magnitude=magnitude,
            epsilon=_EPSILON,
            log_sum=logs,
            distance_log_sum=moved_logs,
        )

    def _sum_distances(self, term: Callable[..., float]) -> float | None:
        """Sum a term over the distances to the initial weights, read one tensor at a time."""
        initial, values = self._initial, self._model.values
        if initial is None:
            return None
        layers = self._weights.layers
        return math.fsum(
            term(value, less=initial.of_layer(layers[name], self._weights))
            for name, value in values.items()
        )

    def _search(self, kind: str, unit: float, epsilon: float | None) -> NoiseRecord:
        """Search for the largest tolerated σ of one kind of noise."""
        settings, samples = self._settings, len(self._samples.labels)
        accuracy, target = self._correct / samples, settings.target
        if accuracy <= target:
            reason = f"the accuracy without noise is {accuracy:g}, and cannot fall by {target:g}"
            return NoiseRecord(reason=reason)
        accuracies: dict[float, float] = {}
        # Over all draws, with room for the rounding of the target.
        allowed = target * samples * settings.draws * (1 + 1e-9)
        finished = self._done

        def tolerates(sigma: float) -> bool:
            nonlocal finished
            lost = 0
            for draw in range(settings.draws):
                self._model.add_noise((settings.seed, draw), sigma, epsilon)
                outputs = self._run_samples(noise=True)
                hits = sum(map(self._count_hits, outputs, self._samples.labels_of(outputs)))
                lost += self._correct - hits
                # Later draws can gain at most the samples that were wrong without noise.
                left = (settings.draws - draw - 1) * (samples - self._correct)
                if lost - left > allowed:
                    break
            else:
                every = samples * settings.draws
                accuracies[sigma] = (self._correct * settings.draws - lost) / every
            finished += settings.draws * samples
            self._advance(finished - self._done)
            return lost <= allowed

        interval = largest_scale(tolerates, unit)
        if interval.low is None:
            alone = f"ε = {epsilon:g} alone" if epsilon else f"{kind} noise of {interval.high:g}"
            return NoiseRecord(reason=f"{alone} lowers accuracy by more than {target:g}")
        if interval.high is None:
            return NoiseRecord(
                reason=f"accuracy falls by no more than {target:g} however large the {kind} noise"
            )
        return NoiseRecord(interval.low, interval.high, accuracies[interval.low])

    def _run_samples(self, *, noise: bool) -> list[NDArray[Any]]:
        """Run all samples, and return the output of each batch."""
        model = self._model

        def run(feeds: Mapping[str, NDArray[Any]]) -> NDArray[Any]:
            return model.run(feeds, noise=noise)

        batches, runs = self._samples.batches(), self._plan.schedule.runs
        with closing(map_ordered(run, batches, runs)) as results:
            outputs = []
            # The rest of a batch that is filled up are copies.
            for output, size in zip(results, self._samples.sizes, strict=True):
                outputs.append(output[:size])
                if noise:
                    self._advance(size)
            return outputs

    def _count_hits(self, output: NDArray[Any], labels: NDArray[np.int64]) -> int:
        """Count correct predictions; scores of NaN predict nothing."""
        known = ~np.isnan(output.reshape(len(output), -1)).any(axis=1)
        return int((known & (self._output.predictions(output) == labels)).sum())

    def _advance(self, samples: int) -> None:
        if not samples:
            return
        self._done += samples
        self._observer.progress("flatness", self._done, self._total)

    def _check_memory(self) -> None:
        available = available_memory()
        needed = sum(value.nbytes for value in self._model.values.values())
        if available is not None and needed > available:
            raise ModelError(
                f"noise on the weights needs {bytes_text(needed)} more memory, but only "
                f"{bytes_text(available)} is available"
            )

    def _announce(self, seconds: float) -> None:
        """Note how long the measurement may take, and which classes the samples lack."""
        samples, labels = len(self._samples.labels), self._samples.labels
        most = seconds * self._total / samples
        self._observer.note(
            f"measuring flatness on {count_text(samples, 'sample')} of {self._samples.split}, "
            f"accuracy {self._correct / samples:g}: up to {time_text(most)}"
        )
        classes = len(np.unique(labels))
        if (
            classes < self._classes
            and samples < self._samples.rows
            and (np.diff(labels) >= 0).all()
        ):
            self._observer.note(
                f"these samples are sorted by class and contain only {classes} of {self._classes} "
                "classes: shuffle the data, or use all samples with "
                f"`flatness.samples={self._samples.rows}`"
            )


class _Samples:
    """The samples that accuracy is measured on, held in memory if they are few."""

    def __init__(self, plan: DumpPlan, most: int) -> None:
        sources, rows = plan.whole
        names = list(sources)
        if _TRAIN not in names and len(names) > 1:
            raise DataError(f"no split called {_TRAIN}")
        self.split = _TRAIN if _TRAIN in names else names[0]
        source = sources[self.split]
        if not source.labelled:
            raise DataError(f"the samples of split {self.split} have no labels")
        if source.label_lists:
            raise DataError(f"the samples of split {self.split} have lists of labels")
        self.rows = rows[self.split]
        self._plan, self._source = plan, source
        self._most = min(most, self.rows)
        sample = sum(
            math.prod(step.shape) * np.dtype(step.dtype).itemsize
            for step in plan.feed.preprocessing
        )
        labels: list[NDArray[np.int64]] = []
        self.sizes: list[int] = []  # samples of each run, without copies
        kept: list[dict[str, NDArray[Any]]] = []
        for block in source.blocks(plan.schedule.block, self._most):
            plan.feed.check(source.name, block)
            for run in plan.group(block):
                own = np.unique(np.asarray(run))
                self.sizes.append(len(own))
                if isinstance(block.labels, np.ndarray):
                    labels.append(block.labels[own])
                if self._most * sample <= _HELD_BYTES:
                    kept.append(plan.feed.feeds(block, run))
        if not self.sizes:
            raise DataError(f"split {self.split} has no samples")
        self.labels = np.concatenate(labels)  # in the order of the runs
        self._kept = kept or None

    def batches(self) -> Iterator[dict[str, NDArray[Any]]]:
        """Iterate over the inputs of each run."""
        if self._kept is not None:
            yield from self._kept
            return
        for block in self._source.blocks(self._plan.schedule.block, self._most):
            for rows in self._plan.group(block):
                yield self._plan.feed.feeds(block, rows)

    def labels_of(self, outputs: list[NDArray[Any]]) -> list[NDArray[np.int64]]:
        """Split the labels by batch."""
        return np.split(self.labels, np.cumsum([len(output) for output in outputs])[:-1])


# In units of the scale: from noise without effect to noise that leaves no accuracy.
_LEAST, _MOST = 2.0**-20, 2.0**8
# So many halvings bring the ends within half a percent of each other.
_STEPS = 12
EVALUATIONS = _STEPS + 2


class Interval(NamedTuple):
    """Where the largest tolerated scale lies."""

    low: float | None  # the largest scale that was tolerated; None if none was
    high: float | None  # the next larger one that was tried; None if all were tolerated


def largest_scale(tolerates: Callable[[float], bool], unit: float) -> Interval:
    """Search for the largest scale of noise that is tolerated."""
    low, high = _LEAST * unit, _MOST * unit
    if tolerates(high):
        return Interval(high, None)
    if not tolerates(low):
        return Interval(None, low)
    for _ in range(_STEPS):
        middle = math.sqrt(low * high)
        if tolerates(middle):
            low = middle
        else:
            high = middle
    return Interval(low, high)
