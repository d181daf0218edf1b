"""The result of `cnatool layers`: z_d over depth, and what each layer contributes to β and CNA."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.html import shown_by
from cnatool._util.text import count_text
from cnatool.metrics.estimate import Estimate
from cnatool.scoring.results import ScoreHeader


class LayerPart(msgspec.Struct, frozen=True):
    """One layer over all samples of a split.

    Attributes
    ----------
    number : int
        Of the layer, as in ``layers`` of the result.
    coefficient : float
        c_d, the weight of z_d in β = Σ c_d z_d.
    mean, std : float or None
        Of z_d over the samples; None where not finite. The deviation is the population's.
    beta : float or None
        c_d · mean z_d; over the layers these sum to the mean of β.
    cna : float or None
        c_d · cov(α, z_d) / (σ_α σ_β); over the layers these sum to Pearson's CNA. None where CNA
        is undefined.
    correlation : float or None
        Pearson's correlation of α and z_d; None where one of them is constant.
    reason : str or None
        Why there is no number, for those that are None; None where there are all.
    """

    number: int
    coefficient: float
    mean: float | None
    std: float | None
    beta: float | None
    cna: float | None
    correlation: float | None
    reason: str | None


class GroupProfile(msgspec.Struct, frozen=True):
    """The samples of one quantile of α.

    Attributes
    ----------
    samples : int
        How many; samples of equal α are never divided.
    alpha_min, alpha_mean, alpha_max : float or None
        Their α; None where there are no samples.
    beta : float or None
        Mean of their β.
    z : tuple of float or None
        Mean z_d of each layer.
    reason : str or None
        Why there is no number, for those that are None; None where there are all.
    """

    samples: int
    alpha_min: float | None
    alpha_mean: float | None
    alpha_max: float | None
    beta: float | None
    z: tuple[float | None, ...]
    reason: str | None


class SampleProfile(msgspec.Struct, frozen=True):
    """One sample that was asked for.

    Attributes
    ----------
    id : str
        Where it came from.
    row : int
        Its row in the split, from 0.
    alpha, beta : float or None
        None where not finite; β also where it is 0 for every sample but for rounding.
    z : tuple of float or None
        z_d of each layer.
    """

    id: str
    row: int
    alpha: float | None
    beta: float | None
    z: tuple[float | None, ...]


class SplitLayers(msgspec.Struct, frozen=True):
    """The layers over one split.

    Attributes
    ----------
    samples : int
        Rows that were scored.
    complete : bool
        Whether the dump of this split was finished.
    rows : int
        Rows that the split has, or will have once its dump is finished.
    skipped : int
        Samples that have no row since they could not be read.
    beta : float or None
        Mean of β; None where not finite, or where there are no samples, or of `beta_reason`.
    beta_reason : str or None
        Why β has no mean: it is 0 for every sample but for rounding, or not finite for some.
    cna : Estimate
        Pearson's correlation of α and β, whichever the convention names.
    layers : tuple of LayerPart
        One a layer.
    groups : tuple of GroupProfile
        The samples by quantiles of α, lowest first.
    profiles : tuple of SampleProfile
        Those that were asked for.
    """

    samples: int
    complete: bool
    rows: int
    skipped: int
    beta: float | None
    beta_reason: str | None
    cna: Estimate
    layers: tuple[LayerPart, ...]
    groups: tuple[GroupProfile, ...]
    profiles: tuple[SampleProfile, ...]


class LayerScores(ScoreHeader, frozen=True):
    """The result of `cnatool layers`.

    Attributes
    ----------
    splits : dict of str to SplitLayers
        Each split.
    notes : tuple of str
        Remarks on the results.
    """

    schema: Literal["cnatool.layers/2"]
    splits: dict[str, SplitLayers]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        layers = count_text(len(self.layers), "layer")
        return f"<cnatool layers of {self.store!r}: {layers}; {', '.join(self.splits)}>"

    _repr_html_ = shown_by("cnatool.scoring.html", "layers_html")
