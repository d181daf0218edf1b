"""The table of figures."""

from __future__ import annotations

from cnatool.plotting.figure import Figure
from cnatool.plotting.figures.alpha_beta import alpha_beta
from cnatool.plotting.figures.area import area
from cnatool.plotting.figures.bins import bins
from cnatool.plotting.figures.depth_profile import depth_profile
from cnatool.plotting.figures.error_by_alpha import error_by_alpha, error_over_training
from cnatool.plotting.figures.gap import gap
from cnatool.plotting.figures.landscape import landscape
from cnatool.plotting.figures.measures import measures
from cnatool.plotting.figures.trajectory import draw_study, draw_trajectory

_SCORED = ("test", "convention", "overrides", "inputs", "split")
FIGURES = (
    Figure(
        "depth-profile",
        "store",
        "z over depth by quantiles of α, with the slope β",
        depth_profile,
        (*_SCORED, "sample"),
        width=270,
        height=200,
    ),
    Figure(
        "alpha-beta",
        "store",
        "β over α of each sample, the smoothed curve, CNA",
        alpha_beta,
        (*_SCORED, "output"),
        width=250,
        height=200,
    ),
    Figure(
        "area",
        "store",
        "the smoothed curves of both splits, and CNA-A between them",
        area,
        ("test", "convention", "overrides", "inputs", "output"),
        width=290,
        height=240,
    ),
    Figure(
        "error-by-alpha",
        "store",
        "error by quantiles of α",
        error_by_alpha,
        (*_SCORED, "output"),
        width=270,
        height=200,
    ),
    Figure(
        "trajectory",
        "study",
        "CNA, CNA-M, loss and accuracy over training",
        draw_study,
        ("by", "order", "split"),
        width=240,
        height=140,
    ),
    Figure(
        "trajectory",
        "trajectory",
        "CNA, CNA-M, loss and accuracy over training",
        draw_trajectory,
        ("split",),
        width=240,
        height=140,
    ),
    Figure(
        "error-by-alpha",
        "trajectory",
        "error by quantiles of α over training",
        error_over_training,
        ("split",),
        width=240,
        height=150,
    ),
    Figure(
        "landscape",
        "landscape",
        "CNA over the plane of the activations, and the path of training on it",
        landscape,
        (),
        width=330,
        height=0,
    ),
    Figure(
        "bins",
        "study",
        "test accuracy over CNA: networks, means of bins, quadratic fit",
        bins,
        ("measure", "by"),
        width=250,
        height=220,
    ),
    Figure(
        "gap",
        "study",
        "the generalisation gap over each measure",
        gap,
        ("measure", "by"),
        width=160,
        height=130,
    ),
    Figure(
        "measures",
        "study",
        "the correlation of each measure with test accuracy and with the gap",
        measures,
        ("measure", "coefficient"),
        width=190,
        height=0,
    ),
)
