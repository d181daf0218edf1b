"""A score layer by layer: z_d over depth, and what each layer contributes to β and CNA."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import msgspec
import numpy as np

from cnatool._util.observer import Silent
from cnatool._util.text import count_text
from cnatool.errors import UsageError
from cnatool.metrics.beta import slopes
from cnatool.metrics.convention import NO_OVERRIDES, Convention
from cnatool.metrics.correlation import pearson
from cnatool.metrics.estimate import Estimate
from cnatool.metrics.groups import quantile_groups
from cnatool.metrics.layer_sums import LayerSums
from cnatool.scoring.alpha import compute_alpha
from cnatool.scoring.beta import measure_rounding, read_z, resolve_rounding
from cnatool.scoring.layer_results import (
    GroupProfile,
    LayerPart,
    LayerScores,
    SampleProfile,
    SplitLayers,
)
from cnatool.scoring.layer_selection import find_missing_layers
from cnatool.scoring.notes import layer_notes
from cnatool.scoring.split import find_defined, finite_or_none, locate_errors
from cnatool.scoring.split_selection import select_splits, suggest_range

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from numpy.typing import NDArray

    from cnatool._util.observer import Observer
    from cnatool.metrics.convention import ConventionFields
    from cnatool.metrics.rounding import Rounding
    from cnatool.scoring.layer_selection import ScoredLayer
    from cnatool.scoring.score import StoreScores
    from cnatool.scoring.split_selection import SelectedSplits
    from cnatool.store.store import Split, Store

_NO_SAMPLES = "no samples"
_TOO_LARGE = "z is too large for float64"


def score_layers(
    store: str | Path | Store,
    test: str | Path | Store | None = None,
    *,
    convention: str = "paper",
    overrides: Mapping[str, object] = NO_OVERRIDES,
    samples: Sequence[str] = (),
    inputs: str | Path | Iterable[str | Path] = (),
    observer: Observer | None = None,
) -> LayerScores:
    """Score a store layer by layer: z over depth (paper Fig. 1), and what β and CNA are made of.

    β = Σ c_d z_d is linear in the layers, and so is its covariance with α: a layer contributes c_d
    · mean z_d to the mean of β, and c_d · cov(α, z_d) / (σ_α σ_β) to CNA.

    Parameters
    ----------
    store, test, convention, overrides
        As in `cnatool.score`.
    samples : sequence of str
        Ids of samples, in any split, whose z_d to return.
    inputs : str, Path or iterable of these
        As in `cnatool.score`.
    observer : Observer, optional
        Receives progress.

    Returns
    -------
    LayerScores

    Raises
    ------
    UsageError
        If no split has a sample with such an id; also the errors of `cnatool.score`.
    """
    named = Convention.named(convention, overrides)
    fields, observer = named.fields, observer or Silent()
    selected = select_splits(store, test, fields, inputs)
    for note in selected.unfinished_notes():
        observer.note(note)
    rows = {name: _find_rows(split, samples) for name, (split, _) in selected.splits.items()}
    for sample in samples:
        if not any(sample in named_rows.values() for named_rows in rows.values()):
            raise UsageError(
                f"`samples=[{sample!r}]`: {selected.store.path} has no sample with this id; "
                "`cnatool.score_samples` lists them all."
            )
    splits = {}
    with suggest_range(selected, fields):
        for name, (split, layers) in selected.splits.items():
            with locate_errors(split):
                alpha = compute_alpha(split, fields, observer)
                splits[name] = _score_split_layers(split, layers, fields, alpha, rows[name])
    return _collect(selected, named, splits)


def score_sampled_layers(
    scored: StoreScores, take: Callable[[str, int, NDArray[np.float64]], None]
) -> LayerScores:
    """Score a store layer by layer whose samples are scored already.

    Parameters
    ----------
    scored : StoreScores
        The scored store, whose α is not computed again.
    take : callable
        Called with the name of the split, the number of the first row, and z of shape (rows, L),
        block by block.
    """
    fields = scored.convention.fields
    splits = {}
    for name, (split, layers) in scored.selected.splits.items():
        with locate_errors(split):
            splits[name] = _score_split_layers(
                split, layers, fields, scored.splits[name].alpha, {}, partial(take, name)
            )
    return _collect(scored.selected, scored.convention, splits)


def _collect(
    selected: SelectedSplits, convention: Convention, splits: dict[str, SplitLayers]
) -> LayerScores:
    return LayerScores(
        schema="cnatool.layers/2",
        **selected.header(convention),
        splits=splits,
        notes=(
            *selected.unfinished_notes(),
            *layer_notes(
                selected.store,
                convention.fields,
                find_missing_layers(selected.store, convention.fields),
                selected.layers,
                {name: split for name, (split, _) in selected.splits.items()},
            ),
        ),
    )


def _find_rows(split: Split, samples: Sequence[str]) -> dict[int, str]:
    """Find the rows that have one of these ids."""
    if not samples:
        return {}
    ids = set(samples)
    return {
        start + place: str(name)
        for start, block in split.ids.blocks()
        for place, name in enumerate(block)
        if name in ids
    }


def _score_split_layers(
    split: Split,
    layers: Sequence[ScoredLayer],
    fields: ConventionFields,
    alpha: NDArray[np.float64],
    rows: Mapping[int, str],
    take: Callable[[int, NDArray[np.float64]], None] | None = None,
) -> SplitLayers:
    """Score the layers over a split, with the profiles of some rows; `take` receives all z."""
    depths = [layer.depth for layer in layers]
    # As everywhere, samples without α count neither for β nor for CNA.
    samples, every, defined = len(alpha), alpha, find_defined(alpha)
    if defined is not None:
        alpha = alpha[defined]
    sloped, profiles = np.empty(samples), {}
    groups = quantile_groups(alpha, fields.alpha_groups)
    sums = LayerSums(alpha, groups, fields.alpha_groups, len(layers))
    for start, z in read_z(split, layers, fields):
        sloped[start : start + len(z)] = slopes(z, depths)
        if defined is None:
            sums.add(start, z)
        else:
            first, last = map(int, np.searchsorted(defined, (start, start + len(z))))
            sums.add(first, z[defined[first:last] - start])
        here = (row for row in rows if start <= row < start + len(z))
        profiles.update({row: z[row - start] for row in here})
        if take is not None:
            take(start, z)
    rounding = measure_rounding(split, layers, fields)
    split_beta = resolve_rounding(sloped if defined is None else sloped[defined], rounding)
    beta, no_beta = split_beta.values, split_beta.reason
    sloped[slice(None) if defined is None else defined] = beta
    cna = pearson(alpha, beta)
    no_cna = split_beta.no_cna(alpha) or cna.reason
    return SplitLayers(
        samples=samples,
        complete=split.record.complete,
        rows=split.record.rows,
        skipped=len(split.record.skipped),
        beta=_mean(beta) if no_beta is None else None,
        beta_reason=split_beta.no_moments(),
        cna=Estimate(cna.value, no_cna),
        layers=tuple(_layer_parts(sums, rounding, alpha, beta, no_cna)),
        groups=tuple(_group_profiles(sums, groups, alpha, beta, no_beta)),
        profiles=tuple(
            SampleProfile(
                id=rows[row],
                row=row,
                alpha=finite_or_none(every[row]),
                beta=finite_or_none(sloped[row]) if no_beta is None else None,
                z=tuple(map(finite_or_none, z)),
            )
            for row, z in sorted(profiles.items())
        ),
    )


def _layer_parts(
    sums: LayerSums,
    rounding: Rounding,
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    undefined: str | None,
) -> Iterator[LayerPart]:
    """Yield each layer's part; `undefined` is why there is no CNA."""
    defined, coefficients = undefined is None, rounding.coefficients
    with np.errstate(invalid="ignore", over="ignore", divide="ignore"):
        means, deviations, correlations = (
            sums.means(),
            sums.deviations(),
            sums.correlations(rounding.of_layers()),
        )
        of_beta = coefficients * means
        of_cna = coefficients * sums.covariances()
        if defined:
            of_cna /= alpha.std() * beta.std()
    for layer, coefficient in enumerate(coefficients):
        part = LayerPart(
            number=layer + 1,
            coefficient=float(coefficient),
            mean=finite_or_none(means[layer]) if len(alpha) else None,
            std=finite_or_none(deviations[layer]) if len(alpha) else None,
            # A product with 0 can be −0.
            beta=finite_or_none(of_beta[layer] + 0.0) if len(alpha) else None,
            cna=finite_or_none(of_cna[layer] + 0.0) if defined else None,
            correlation=finite_or_none(correlations[layer]),
            reason=None,
        )
        broken = int(sums.nonfinite()[:, layer].sum())
        reason = _part_reason(part, broken, len(alpha), undefined)
        yield msgspec.structs.replace(part, reason=reason)


def _part_reason(part: LayerPart, broken: int, n: int, undefined: str | None) -> str | None:
    if not n:
        return _NO_SAMPLES
    if broken:
        return f"z is not finite for {broken:,} of {count_text(n, 'sample')}"
    if None in (part.mean, part.std, part.beta):
        return _TOO_LARGE
    if undefined is not None:
        return f"CNA is undefined: {undefined}"
    if part.correlation is None:
        return f"z is the same for all {count_text(n, 'sample')} but for rounding"
    return _TOO_LARGE if part.cna is None else None


def _group_profiles(
    sums: LayerSums,
    groups: NDArray[np.int64],
    alpha: NDArray[np.float64],
    beta: NDArray[np.float64],
    no_beta: str | None,
) -> Iterator[GroupProfile]:
    for group, z in enumerate(sums.group_means()):
        inside = groups == group
        of_alpha = alpha[inside]
        broken = int(sums.nonfinite()[group].max(initial=0))
        profile = GroupProfile(
            samples=len(of_alpha),
            alpha_min=finite_or_none(of_alpha.min()) if len(of_alpha) else None,
            alpha_mean=_mean(of_alpha),
            alpha_max=finite_or_none(of_alpha.max()) if len(of_alpha) else None,
            beta=_mean(beta[inside]) if no_beta is None else None,
            z=tuple(map(finite_or_none, z)),
            reason=None,
        )
        yield msgspec.structs.replace(profile, reason=_group_reason(profile, broken, no_beta))


def _group_reason(group: GroupProfile, broken: int, no_beta: str | None) -> str | None:
    if not group.samples:
        return _NO_SAMPLES
    if broken:
        return f"z is not finite for {broken:,} of {count_text(group.samples, 'sample')}"
    if group.alpha_mean is None:
        return f"α is not finite for all {count_text(group.samples, 'sample')}"
    if None in group.z:
        return _TOO_LARGE
    return no_beta or (_TOO_LARGE if group.beta is None else None)


def _mean(values: NDArray[np.float64]) -> float | None:
    with np.errstate(invalid="ignore", over="ignore"):
        return finite_or_none(values.mean()) if len(values) else None
