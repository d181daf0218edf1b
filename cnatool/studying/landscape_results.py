"""What a landscape gives: typed results, the same whether printed, returned, or as JSON."""

from __future__ import annotations

from typing import Literal

import msgspec

from cnatool._util.documents import Document
from cnatool.metrics.convention import Convention
from cnatool.metrics.estimate import Estimate
from cnatool.scoring.results import LayerResult
from cnatool.studying.results import NotScored


class LandscapePoint(msgspec.Struct, frozen=True):
    """A checkpoint.

    Attributes
    ----------
    run : str or None
        Value of the tag that tells runs apart; None where there is but one run.
    step : float
        Its place in the run.
    id, path : str
        Its name, and its store.
    x, y : float
        Its coordinates along the first and the second principal component, from the mean.
    captured : float or None
        Share of its squared distance from the mean that lies in the plane; None where it is the
        mean.
    cna : Estimate
        CNA of the minibatch at this checkpoint.
    cna_projected : Estimate
        The same at the point of the plane that is nearest to it.
    """

    run: str | None
    step: float
    id: str
    path: str
    x: float
    y: float
    captured: float | None
    cna: Estimate
    cna_projected: Estimate


class GridPoint(msgspec.Struct, frozen=True):
    """A point of the plane.

    Attributes
    ----------
    x, y : float
        Its coordinates, as of the checkpoints.
    cna : Estimate
        CNA of the minibatch with the activations that inverse PCA gives there.
    """

    x: float
    y: float
    cna: Estimate


class LandscapeResult(Document, frozen=True):
    """Everything `cnatool landscape` says of checkpoints (paper Fig. 5).

    Attributes
    ----------
    schema : str
        Name and version of this format.
    convention : Convention
        The convention of α, the layers and CNA.
    order : str or None
        The tag whose number is the step; None where steps are the places in which the stores were
        given, from 1.
    by : str or None
        The tag that tells runs apart.
    split : str
        The split that the minibatch is of.
    samples : int
        Its samples, the first ones of the split.
    fingerprint : str
        SHA-256 over the SHA-256 digests of each raw input's bytes, of these samples.
    layers : tuple of LayerResult
        The layers whose activations were taken.
    dimension : int
        Activations of all these layers and samples together: the length of a checkpoint's vector.
    variance_shares : tuple of float
        Share of the variance along each principal component, the largest first; those of the plane
        are the first two.
    points : tuple of LandscapePoint
        The checkpoints, run by run, by rising step.
    grid_size : int
        Points of the grid along each axis.
    grid : tuple of GridPoint
        By rising y, and for each y by rising x.
    notes : tuple of str
        What a reader of these numbers should know beside them.
    not_scored : tuple of NotScored
        Stores that have no point.
    """

    schema: Literal["cnatool.landscape/1"]
    convention: Convention
    order: str | None
    by: str | None
    split: str
    samples: int
    fingerprint: str
    layers: tuple[LayerResult, ...]
    dimension: int
    variance_shares: tuple[float, ...]
    points: tuple[LandscapePoint, ...]
    grid_size: int
    grid: tuple[GridPoint, ...]
    notes: tuple[str, ...]
    not_scored: tuple[NotScored, ...] = ()
