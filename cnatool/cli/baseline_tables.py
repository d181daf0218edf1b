"""The measures from the norms of the weights as a table."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.cli.console import say

if TYPE_CHECKING:
    from cnatool.metrics.norms import Baseline
    from cnatool.results import ScoreResult

__all__ = ["print_baselines"]


def print_baselines(result: ScoreResult) -> None:
    """Print the measures from the norms of the weights as a table."""
    from cnatool.cli.tables import number, print_table

    found = result.baselines
    rows: list[tuple[str, str, Baseline]] = [
        ("L2", "∏ ‖W‖ / margin", found.l2),
        ("spectral", "∏ σ₁ / margin", found.spectral),
        ("L2-path", "path norm / margin", found.l2_path),
        ("2018 bound", f"from {found.initial or 'initial weights'}", found.bound_2018),
        ("2018 bound", "from 0", found.bound_2018_from_zero),
        ("parameter norm", "‖W‖ of all layers", found.parameter_norm),
        ("L1", "Σ |w| of all layers", found.l1),
        ("distance", f"from {found.initial or 'initial weights'}", found.distance),
        ("parameters", "number", found.parameters),
        ("depth", "layers on a path", found.depth),
    ]
    noise: list[tuple[str, str, Baseline]] = [
        ("pac-bayes-flatness", "1/σ²", found.pac_bayes_flatness),
        ("pac-bayes-init", "‖w − w⁰‖² and σ", found.pac_bayes_init),
        ("pac-bayes-orig", "‖w‖² and σ", found.pac_bayes_orig),
        ("pac-bayes-mag-flatness", "1/σ′²", found.pac_bayes_mag_flatness),
        ("pac-bayes-mag-init", "w − w⁰ and σ′", found.pac_bayes_mag_init),
        ("pac-bayes-mag-orig", "‖w‖², w − w⁰ and σ′", found.pac_bayes_mag_orig),
        ("pac-bayes-mag-from-zero", "w and σ′", found.pac_bayes_mag_from_zero),
    ]
    rows += noise if found.flatness is not None else []
    say("")
    print_table(
        [("baseline", "left"), ("form", "left"), ("ln", "right"), ("value", "right")],
        [
            [name, form, number(one.log), "–" if one.value is None else f"{one.value:.6g}"]
            for name, form, one in rows
        ],
        keys=2,
    )
    reasons: dict[str, list[str]] = {}
    for name, form, one in rows:
        if one.reason is not None:
            text = f"{name} {form}" if name == "2018 bound" else name
            reasons.setdefault(one.reason, []).append(text)
    if reasons:
        say("\nundefined (–):")
        for reason, names in reasons.items():
            say(f"  {', '.join(names)}: {reason}")
