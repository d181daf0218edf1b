"""Baselines from the norms of a store's weights, the margin and flatness."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.metrics.norms import (
    Baseline,
    divide_by_margin,
    norm_product,
    plain,
    root_sum_of_squares,
    spectral_bound,
)
from cnatool.metrics.pac_bayes import inverse_square, magnitude_bound, plain_bound
from cnatool.scoring.results import BaselinesResult

if TYPE_CHECKING:
    from cnatool.metrics.estimate import Estimate
    from cnatool.records.weights import FlatnessRecord, NoiseRecord, WeightsRecord
    from cnatool.scoring.split import ScoredSplit
    from cnatool.store.store import Store

_NO_INITIAL = "the initial weights are not known: dump with `initial_model=FILE`"
_NONE_RECORDED = "the initial weights are not known: pass `initial_weights` beside `weights`"


def compute_baselines(store: Store, margin: Estimate, train: ScoredSplit | None) -> BaselinesResult:
    """Compute the baselines of a network."""
    record = store.record
    samples = None
    if train is not None:
        samples = train.split.record.available or len(train.alpha)
    weights = record.weights
    if weights is None:
        measures = dict.fromkeys(_MEASURES, Baseline.undefined(_explain_absence(store)))
    else:
        # A store without a runtime was written by a recording.
        absent = _NONE_RECORDED if record.runtime is None else _NO_INITIAL
        measures = _layer_baselines(weights, margin, samples, absent) | {
            "l2_path": _path_baseline(weights, margin),
            "parameters": Baseline.undefined("the number of parameters is not known")
            if weights.parameters is None
            else plain(weights.parameters),
            "depth": plain(weights.depth),
        }
    return BaselinesResult(
        layers=len(record.layers),
        training_samples=samples,
        initial=None if record.initial is None else record.initial.name,
        **measures,
        flatness=None if record.flatness is None else record.flatness.settings,
        **compute_flatness_baselines(record.flatness, samples, _no_samples_text(samples)),
    )


def _explain_absence(store: Store) -> str:
    if store.record.runtime is not None and not store.record.complete:
        return "the dump is not finished, and measures weights while it runs: dump with `resume`"
    return "the store holds no norms of weights: dump the model again, or record with `weights`"


_OF_LAYERS = (
    "l2",
    "spectral",
    "bound_2018",
    "bound_2018_from_zero",
    "parameter_norm",
    "l1",
    "distance",
)
_MEASURES = (*_OF_LAYERS, "l2_path", "parameters", "depth")


def _no_samples_text(samples: int | None) -> str:
    return "no split called train" if samples is None else "the training split has no samples"


def _path_baseline(weights: WeightsRecord, margin: Estimate) -> Baseline:
    if weights.log_path_norm is None:
        return Baseline.undefined(weights.path_norm_reason or "there is no path norm")
    return divide_by_margin(weights.log_path_norm, margin)


def _layer_baselines(
    weights: WeightsRecord, margin: Estimate, samples: int | None, no_initial: str
) -> dict[str, Baseline]:
    """Compute the measures that are products or sums over all layers."""
    layers = weights.layers
    unread = next((layer.reason for layer in layers if layer.reason is not None), None)
    reason = unread or weights.unseen
    if reason is None and not layers:
        reason = "the store lists no linear operators"
    if reason is not None:
        return dict.fromkeys(_OF_LAYERS, Baseline.undefined(reason))
    frobenius = [layer.frobenius or 0.0 for layer in layers]
    spectral = [layer.spectral or 0.0 for layer in layers]
    units = [layer.shape[0] if layer.shape else 0 for layer in layers]
    distances = [layer.distance for layer in layers if layer.distance is not None]
    moved = len(distances) == len(layers)
    own = [number for number, layer in enumerate(layers) if layer.same_as is None]

    def product(norms: list[float]) -> Baseline:
        if weights.unfolded is not None:
            return Baseline.undefined(weights.unfolded)
        return divide_by_margin(norm_product(norms), margin)

    def bound(of: list[float]) -> Baseline:
        if weights.unfolded is not None:
            return Baseline.undefined(weights.unfolded)
        if not samples:
            return Baseline.undefined(_no_samples_text(samples))
        if not all(spectral):
            number = spectral.index(0.0) + 1
            return Baseline.undefined(f"the weights of layer {number} are all 0")
        return divide_by_margin(spectral_bound(spectral, of, units, samples), margin)

    return {
        "l2": product(frobenius),
        "spectral": product(spectral),
        "bound_2018": bound(distances) if moved else Baseline.undefined(no_initial),
        "bound_2018_from_zero": bound(frobenius),
        "parameter_norm": plain(root_sum_of_squares([frobenius[n] for n in own])),
        "l1": plain(sum(layers[n].absolute_sum or 0.0 for n in own)),
        "distance": plain(root_sum_of_squares([distances[n] for n in own]))
        if moved
        else Baseline.undefined(no_initial),
    }


_FLATNESS_MEASURES = (
    "pac_bayes_flatness",
    "pac_bayes_init",
    "pac_bayes_orig",
    "pac_bayes_mag_flatness",
    "pac_bayes_mag_init",
    "pac_bayes_mag_orig",
    "pac_bayes_mag_from_zero",
)


def compute_flatness_baselines(
    record: FlatnessRecord | None, samples: int | None, no_samples: str
) -> dict[str, Baseline]:
    """Compute the flatness measures, by the names of their fields."""
    if record is None:
        reason = "the store holds no flatness: dump with `flatness=True`"
        return dict.fromkeys(_FLATNESS_MEASURES, Baseline.undefined(reason))
    reason = record.reason or "the dump did not measure flatness"
    plain, magnitude = record.plain, record.magnitude
    square_sum, moved = record.square_sum, record.distance_square_sum

    def sharpness(noise: NoiseRecord | None) -> Baseline:
        if noise is None or noise.sigma is None:
            return Baseline.undefined((noise and noise.reason) or reason)
        return inverse_square(noise.sigma)

    def bound(of: float | None) -> Baseline:
        if plain is None or plain.sigma is None:
            return sharpness(plain)
        if of is None:
            return Baseline.undefined(_NO_INITIAL)
        if not samples:
            return Baseline.undefined(no_samples)
        return plain_bound(of, plain.sigma, samples)

    def aware(of: float | None, log_sum: float | None) -> Baseline:
        if magnitude is None or magnitude.sigma is None:
            return sharpness(magnitude)
        if of is None or log_sum is None:
            return Baseline.undefined(_NO_INITIAL)
        if not samples:
            return Baseline.undefined(no_samples)
        assert record.weights is not None
        assert record.epsilon is not None
        return magnitude_bound(
            of, log_sum, record.weights, magnitude.sigma, record.epsilon, samples
        )

    return {
        "pac_bayes_flatness": sharpness(plain),
        "pac_bayes_init": bound(moved),
        "pac_bayes_orig": bound(square_sum),
        "pac_bayes_mag_flatness": sharpness(magnitude),
        "pac_bayes_mag_init": aware(moved, record.distance_log_sum),
        "pac_bayes_mag_orig": aware(square_sum, record.distance_log_sum),
        "pac_bayes_mag_from_zero": aware(square_sum, record.log_sum),
    }
