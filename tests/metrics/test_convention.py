from __future__ import annotations

import msgspec
import pytest

from cnatool.errors import UsageError
from cnatool.metrics.convention import CONVENTIONS, Convention, ConventionFields

# docs/metrics.md, section "Conventions", field for field.
PAPER = {
    "alpha": "entropy",
    "alpha_symbols": "auto",
    "alpha_window": 32,
    "codec": "zlib",
    "bins": 256,
    "range": (0.0, 1.0),
    "sound_range": (-1.0, 1.0),
    "out_of_range": "error",
    "layers": "preactivation",
    "include_output": False,
    "include_shortcut": True,
    "aggregate": "sum",
    "depth": "index",
    "cna": "pearson",
    "cna_batch": 128,
    "cna_order": "rows",
    "interval": "bootstrap",
    "level": 0.95,
    "resamples": 1000,
    "area_resamples": 100,
    "permutations": 999,
    "resample_seed": 0,
    "alpha_groups": 5,
    "area": "total",
    "window": 25,
    "points": 100,
    "margin": "paper",
    "margin_split": "train",
    "margin_fraction": 0.1,
    "margin_seed": 0,
    "margin_percentile": 5.0,
    "margin_batch": 128,
    "gap": "accuracy",
}
REFERENCE = PAPER | {
    "alpha": "entropy-density",
    "bins": 1000,
    "out_of_range": "drop",
    "layers": "linear",
    "area": "reference",
    "margin": "reference",
    "gap": "loss",
}
LEGACY = REFERENCE | {
    "layers": "preactivation",
    "include_output": True,
    "include_shortcut": False,
    "aggregate": "channel-mean-spatial",
    "cna": "smoothed",
    "margin": "percentile",
    "margin_split": "test",
}


@pytest.mark.parametrize(
    ("name", "fields"), [("paper", PAPER), ("reference", REFERENCE), ("legacy", LEGACY)]
)
def test_the_table(name: str, fields: dict[str, object]) -> None:
    assert msgspec.structs.asdict(CONVENTIONS[name]) == fields
    assert Convention.named(name) == Convention(name, {}, CONVENTIONS[name])


def test_there_are_three() -> None:
    assert list(CONVENTIONS) == ["paper", "reference", "legacy"]


@pytest.mark.parametrize(
    ("field", "text", "value"),
    [
        ("alpha", "entropy-density", "entropy-density"),
        ("bins", "100", 100),
        ("range", "0:255", (0.0, 255.0)),
        ("range", "-1.5,1e2", (-1.5, 100.0)),
        ("layers", "conv*,fc1", "conv*,fc1"),
        ("layers", "@names.txt", "@names.txt"),
        ("include_output", "yes", True),
        ("include_output", "TRUE", True),
        ("include_shortcut", "no", False),
        ("include_shortcut", "false", False),
        ("margin_fraction", "1", 1.0),
        ("level", " 0.9 ", 0.9),
        ("depth", "path", "path"),
    ],
)
def test_overrides_are_read_by_the_type_of_the_field(field: str, text: str, value: object) -> None:
    chosen = Convention.named("paper", {field: text})
    assert chosen.overrides == {field: value}
    assert type(chosen.overrides[field]) is type(value)
    assert chosen.fields == msgspec.structs.replace(CONVENTIONS["paper"], **{field: value})


def test_an_unknown_name_lists_the_conventions() -> None:
    with pytest.raises(
        UsageError, match=r"^`convention` 'papr': choose paper, reference or legacy\.$"
    ):
        Convention.named("papr")


def test_an_unknown_field_lists_the_fields() -> None:
    with pytest.raises(UsageError) as caught:
        Convention.named("paper", {"colour": "3"})
    text = str(caught.value)
    assert text.startswith(
        "`overrides`: no field 'colour' in a convention. There are alpha, alpha_symbols, "
    )
    assert text.endswith("margin_batch, gap.")
    assert all(field in text for field in PAPER)
    with pytest.raises(UsageError, match=r"no field 'bin' in a convention\. Did you mean bins\?$"):
        Convention.named("paper", {"bin": "3"})
    with pytest.raises(UsageError, match=r"^`overrides=\['bins=3'\]`: a dictionary\.$"):
        Convention.named("paper", ["bins=3"])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("field", "text", "message"),
    [
        ("area", "big", "area=big: choose total, largest or reference."),
        ("bins", "1.5", "bins=1.5: expected a whole number."),
        ("margin_fraction", "x", "margin_fraction=x: expected a number."),
        ("range", "1", "range=1: expected two numbers, LO:HI or LO,HI."),
        ("range", "1:2:3", "range=1:2:3: expected two numbers, LO:HI or LO,HI."),
        ("include_output", "on", "include_output=on: expected true, yes, false or no."),
        ("bins", "0", "bins=0: must be from 1 to 16777216."),
        ("range", "1:1", "range=1:1: must be LO:HI with LO below HI."),
        ("range", "0:nan", "range=0:nan: must be LO:HI with LO below HI."),
        ("range", "0:inf", "range=0:inf: must be LO:HI with LO below HI."),
        ("layers", " ", "layers=: must be a rule, a name, a glob or @FILE."),
        ("cna", "tau", "cna=tau: choose pearson, spearman, kendall or smoothed."),
        ("cna_batch", "1", "cna_batch=1: must be at least 2."),
        ("level", "1", "level=1: must be above 0 and below 1."),
        ("resamples", "-1", "resamples=-1: must be from 0 to 16777216."),
        ("area_resamples", "-1", "area_resamples=-1: must be from 0 to 16777216."),
        ("permutations", "-1", "permutations=-1: must be from 0 to 16777216."),
        ("resample_seed", "-1", "resample_seed=-1: must be at least 0."),
        ("alpha_groups", "0", "alpha_groups=0: must be from 1 to 16777216."),
        ("window", "0", "window=0: must be at least 1."),
        ("points", "1", "points=1: must be from 2 to 16777216."),
        ("margin_fraction", "0", "margin_fraction=0: must be above 0, at most 1."),
        ("margin_fraction", "1.1", "margin_fraction=1.1: must be above 0, at most 1."),
        ("margin_fraction", "nan", "margin_fraction=nan: must be above 0, at most 1."),
        ("margin_seed", "-1", "margin_seed=-1: must be at least 0."),
        ("margin_percentile", "101", "margin_percentile=101: must be from 0 to 100."),
        ("margin_percentile", "-1", "margin_percentile=-1: must be from 0 to 100."),
        ("margin_batch", "0", "margin_batch=0: must be at least 1."),
    ],
)
def test_a_bad_value_says_what_would_do(field: str, text: str, message: str) -> None:
    with pytest.raises(UsageError) as caught:
        Convention.named("paper", {field: text})
    assert str(caught.value) == message


def test_a_convention_made_by_hand_is_checked_too() -> None:
    with pytest.raises(UsageError, match="bins=0"):
        ConventionFields(bins=0)


def test_typed_overrides_are_what_a_user_writes() -> None:
    typed = {"bins": 1000, "range": (0, 255), "include_output": True, "margin_fraction": 0.25}
    text = {
        "bins": "1000",
        "range": "0:255",
        "include_output": "true",
        "margin_fraction": "0.25",
    }
    assert Convention.named("paper", typed) == Convention.named("paper", text)
    with pytest.raises(UsageError, match="expected a whole number"):
        Convention.named("paper", {"bins": 2.5})


@pytest.mark.parametrize(
    ("field", "value", "text"),
    [
        ("codec", "png", "codec=png has no effect with alpha=entropy: set alpha=compression or"),
        ("points", "9", "points=9 has no effect with area=total: set area=reference as well"),
        (
            "margin_percentile",
            "10",
            "margin_percentile=10 has no effect with margin=paper: set margin=percentile or "
            "reference as well, or leave margin_percentile out.",
        ),
        ("margin_batch", "9", "margin_batch=9 has no effect with margin=paper"),
    ],
)
def test_a_setting_without_effect_is_refused(field: str, value: str, text: str) -> None:
    with pytest.raises(UsageError) as caught:
        Convention.named("paper", {field: value})
    assert text in str(caught.value)


def test_settings_that_have_an_effect_or_say_nothing_new_are_taken() -> None:
    Convention.named("reference", {"margin_percentile": 10, "points": 50})
    Convention.named("paper", {"alpha": "compression", "codec": "png"})
    Convention.named("paper", {"interval": "fisher", "resamples": 0})
    Convention.named("paper", msgspec.structs.asdict(CONVENTIONS["paper"]))
    for words, text in (
        ({"interval": "fisher", "resamples": 50}, "resamples=50 has no effect"),
        (
            {"alpha": "compression", "bins": 9},
            "alpha=entropy, entropy-density or entropy-rate as well",
        ),
        ({"margin": "min", "margin_seed": 1}, "margin_seed=1 has no effect with margin=min"),
    ):
        with pytest.raises(UsageError, match=text):
            Convention.named("paper", words)
