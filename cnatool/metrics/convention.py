"""Conventions: every setting that a printed number depends on, as data (docs/metrics.md).

The paper, the code its authors released and the code that made its figures disagree; each is a row
of a table, any field of which can be overridden.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args, get_origin

import msgspec

from cnatool._util.text import suggest_name
from cnatool.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

AlphaForm = Literal["entropy", "entropy-density", "entropy-rate", "compression", "compression-rate"]
AlphaSymbols = Literal["auto", "bytes", "tokens"]
Codec = Literal["zlib", "bz2", "lzma", "zstd", "png", "webp", "jpeg2000"]
OutOfRange = Literal["error", "drop", "clip"]
Aggregate = Literal["sum", "mean", "channel-mean", "channel-mean-spatial"]
Depth = Literal["index", "path"]
CnaForm = Literal["pearson", "spearman", "kendall", "smoothed"]
CnaOrder = Literal["rows", "random"]
IntervalForm = Literal["bootstrap", "fisher"]
AreaForm = Literal["total", "largest", "reference"]
MarginForm = Literal["paper", "percentile", "reference", "min", "mean", "median"]
MarginSplit = Literal["train", "test"]
Gap = Literal["accuracy", "loss"]


NO_OVERRIDES: Mapping[str, object] = MappingProxyType({})

# More bins, points or resamples than this is a slip of the finger, and would not fit memory.
_MOST = 1 << 24
NO_RESAMPLES: Mapping[str, int] = MappingProxyType(
    {"resamples": 0, "area_resamples": 0, "permutations": 0}
)


def _ascends(edges: tuple[float, float]) -> bool:
    low, high = edges
    return math.isfinite(high - low) and low < high


class ConventionFields(msgspec.Struct, frozen=True):
    """Every setting that a number depends on; the defaults are those of the paper.

    Attributes
    ----------
    alpha : {"entropy", "entropy-density", "entropy-rate", "compression", "compression-rate"}
        Input complexity: −Σ p log2 p over the bins, the same formula over NumPy's densities, or
        compressed bytes / raw bytes. The rates are means of entropy and compression over windows of
        ``alpha_window`` values, which do not depend on how many values a sample has.
    alpha_symbols : {"auto", "bytes", "tokens"}
        What the entropy of a text is computed over: the bytes of its UTF-8, or the ids of its
        tokens without special ones; ``auto`` for its bytes where they are stored.
    alpha_window : int
        Values in a window of ``entropy-rate`` and ``compression-rate``.
    codec : {"zlib", "bz2", "lzma", "zstd", "png", "webp", "jpeg2000"}
        What compresses, for ``compression``; the last three take 8-bit images.
    bins : int
        Equal bins of the histogram.
    range : (float, float)
        What the bins span, the same for every sample. Unsigned integer images count as the unit
        interval.
    sound_range : (float, float)
        What the bins span for the amplitudes of sound, in place of ``range``.
    out_of_range : {"error", "drop", "clip"}
        What happens to an input value outside ``range`` or ``sound_range``.
    layers : str
        Which tensors are layers: ``preactivation``, ``linear``, ``all``, names and globs with
        commas between them, or ``@FILE``, which the caller resolves.
    include_output, include_shortcut : bool
        Whether the last layer counts, and a projection on a residual bypass.
    aggregate : {"sum", "mean", "channel-mean", "channel-mean-spatial"}
        How one sample's elements of a layer become one number; the last is ``channel-mean`` for
        tensors with spatial axes and ``sum`` for all others.
    depth : {"index", "path"}
        A layer's abscissa: its place in execution order, or on the longest path from the input.
    cna : {"pearson", "spearman", "kendall", "smoothed"}
        Which correlation CNA is; the last is Pearson's of the smoothed curves.
    cna_batch : int
        Rows in a minibatch, for CNA over minibatches.
    cna_order : {"rows", "random"}
        Whether minibatches are of neighbouring rows, or of rows in an order drawn with
        ``resample_seed``.
    interval : {"bootstrap", "fisher"}
        Whose interval CNA has.
    level : float
        Confidence of every interval.
    resamples, area_resamples : int
        Bootstrap resamples for CNA, and for CNA-A and CNA-M; 0 for no interval. As many times
        as ``area_resamples`` the splits are relabelled at random, for CNA-A by chance.
    permutations : int
        Least number of permutations behind a p-value; 0 for none.
    resample_seed : int
        Seed of resamples, permutations and random minibatches.
    alpha_groups : int
        Groups of samples by quantiles of α.
    area : {"total", "largest", "reference"}
        Form of CNA-A.
    window, points : int
        Samples in the running mean of a curve; points at which ``reference`` resamples it.
    margin : {"paper", "percentile", "reference", "min", "mean", "median"}
        Form of γ.
    margin_split : {"train", "test"}
        The split whose margin γ is.
    margin_fraction, margin_seed : float, int
        Share of the split, and seed of the draw, for ``paper``.
    margin_percentile : float
        Percentile of the logit margins for ``percentile`` and ``reference``.
    margin_batch : int
        Rows in a batch for ``reference``.
    gap : {"accuracy", "loss"}
        Generalisation gap: accuracy(train) − accuracy(test), or |loss(train) − loss(test)|.
    """

    alpha: AlphaForm = "entropy"
    alpha_symbols: AlphaSymbols = "auto"
    alpha_window: int = 32
    codec: Codec = "zlib"
    bins: int = 256
    range: tuple[float, float] = (0.0, 1.0)
    sound_range: tuple[float, float] = (-1.0, 1.0)
    out_of_range: OutOfRange = "error"
    layers: str = "preactivation"
    include_output: bool = False
    include_shortcut: bool = True
    aggregate: Aggregate = "sum"
    depth: Depth = "index"
    cna: CnaForm = "pearson"
    cna_batch: int = 128
    cna_order: CnaOrder = "rows"
    interval: IntervalForm = "bootstrap"
    level: float = 0.95
    resamples: int = 1000
    area_resamples: int = 100
    permutations: int = 999
    resample_seed: int = 0
    alpha_groups: int = 5
    area: AreaForm = "total"
    window: int = 25
    points: int = 100
    margin: MarginForm = "paper"
    margin_split: MarginSplit = "train"
    margin_fraction: float = 0.1
    margin_seed: int = 0
    margin_percentile: float = 5.0
    margin_batch: int = 128
    gap: Gap = "accuracy"

    def __post_init__(self) -> None:
        rules = (
            (1 <= self.alpha_window <= _MOST, "alpha_window", f"from 1 to {_MOST}"),
            (1 <= self.bins <= _MOST, "bins", f"from 1 to {_MOST}"),
            (_ascends(self.range), "range", "LO:HI with LO below HI"),
            (_ascends(self.sound_range), "sound_range", "LO:HI with LO below HI"),
            (bool(self.layers.strip()), "layers", "a rule, a name, a glob or @FILE"),
            (self.cna_batch >= 2, "cna_batch", "at least 2"),
            (0 < self.level < 1, "level", "above 0 and below 1"),
            (0 <= self.resamples <= _MOST, "resamples", f"from 0 to {_MOST}"),
            (0 <= self.area_resamples <= _MOST, "area_resamples", f"from 0 to {_MOST}"),
            (0 <= self.permutations <= _MOST, "permutations", f"from 0 to {_MOST}"),
            (self.resample_seed >= 0, "resample_seed", "at least 0"),
            (1 <= self.alpha_groups <= _MOST, "alpha_groups", f"from 1 to {_MOST}"),
            (self.window >= 1, "window", "at least 1"),
            (2 <= self.points <= _MOST, "points", f"from 2 to {_MOST}"),
            (0 < self.margin_fraction <= 1, "margin_fraction", "above 0, at most 1"),
            (self.margin_seed >= 0, "margin_seed", "at least 0"),
            (0 <= self.margin_percentile <= 100, "margin_percentile", "from 0 to 100"),
            (self.margin_batch >= 1, "margin_batch", "at least 1"),
        )
        for holds, field, rule in rules:
            if not holds:
                raise UsageError(f"{field}={field_text(getattr(self, field))}: must be {rule}.")


_RELEASED = ConventionFields(
    alpha="entropy-density",
    bins=1000,
    out_of_range="drop",
    layers="linear",
    area="reference",
    margin="reference",
    gap="loss",
)

CONVENTIONS: Mapping[str, ConventionFields] = MappingProxyType(
    {
        "paper": ConventionFields(),
        "reference": _RELEASED,
        "legacy": msgspec.structs.replace(
            _RELEASED,
            layers="preactivation",
            include_output=True,
            include_shortcut=False,
            aggregate="channel-mean-spatial",
            cna="smoothed",
            margin="percentile",
            margin_split="test",
        ),
    }
)


class _Effect(NamedTuple):
    """A field has an effect only where `field` has one of `values`; the value `unless` is fine."""

    field: str
    values: tuple[str, ...]
    unless: object = None


_ENTROPY = _Effect("alpha", ("entropy", "entropy-density", "entropy-rate"))
_EFFECTS: Mapping[str, _Effect] = MappingProxyType(
    {
        "alpha_symbols": _Effect("alpha", ("entropy", "entropy-rate"), unless="bytes"),
        "alpha_window": _Effect("alpha", ("entropy-rate", "compression-rate")),
        "codec": _Effect("alpha", ("compression", "compression-rate")),
        "bins": _ENTROPY,
        "range": _ENTROPY,
        "sound_range": _ENTROPY,
        "out_of_range": _ENTROPY,
        "resamples": _Effect("interval", ("bootstrap",), unless=0),
        "points": _Effect("area", ("reference",)),
        "margin_fraction": _Effect("margin", ("paper",)),
        "margin_seed": _Effect("margin", ("paper",)),
        "margin_percentile": _Effect("margin", ("percentile", "reference")),
        "margin_batch": _Effect("margin", ("reference",)),
    }
)


class Convention(msgspec.Struct, frozen=True):
    """The convention behind every number of a result.

    Attributes
    ----------
    name : str
        ``paper``, ``reference`` or ``legacy``.
    overrides : dict
        The fields that were set by hand.
    fields : ConventionFields
        Every field, after the overrides.
    """

    name: str
    overrides: dict[str, Any]
    fields: ConventionFields

    @classmethod
    def named(cls, name: str, overrides: Mapping[str, object] = NO_OVERRIDES) -> Convention:
        """Look up a row of `CONVENTIONS`, and override fields of it.

        Parameters
        ----------
        name : str
            ``paper``, ``reference`` or ``legacy``.
        overrides : mapping of str to object
            Field to value, as text or typed: ``{"bins": "1000", "range": (0, 255)}``.

        Raises
        ------
        UsageError
            If there is no such name, field or value; the message lists those that there are. If
            `overrides` is not a mapping. If another field leaves one without effect, unless the
            value is the convention's own.
        """
        if name not in CONVENTIONS:
            raise UsageError(f"`convention` {name!r}: choose {_or(CONVENTIONS)}.")
        if not isinstance(overrides, Mapping):
            raise UsageError(f"`overrides={overrides!r}`: a dictionary.")
        types = {field.name: field.type for field in msgspec.structs.fields(ConventionFields)}
        typed: dict[str, Any] = {}
        for field, value in overrides.items():
            if field not in types:
                raise UsageError(
                    f"`overrides`: no field {field!r} in a convention. {suggest_name(field, types)}"
                )
            text = value if isinstance(value, str) else field_text(value)
            typed[field] = _parse(field, text.strip(), types[field])
        fields = msgspec.structs.replace(CONVENTIONS[name], **typed)
        _check_effects(fields, CONVENTIONS[name])
        return cls(name, typed, fields)

    def without_resamples(self, *, keep_overrides: bool = True) -> Convention:
        """Return the convention without intervals and p-values, which take most of the time.

        With `keep_overrides`, resamples that an override asks for stay.
        """
        kept = self.overrides if keep_overrides else {}
        none = {field: 0 for field in NO_RESAMPLES if field not in kept}
        return msgspec.structs.replace(self, fields=msgspec.structs.replace(self.fields, **none))

    def __str__(self) -> str:
        return "+".join([self.name, *(f"{k}={field_text(v)}" for k, v in self.overrides.items())])


def _check_effects(fields: ConventionFields, base: ConventionFields) -> None:
    """Refuse a value that differs from the base and that another field leaves without effect."""
    for field, effect in _EFFECTS.items():
        value, decides = getattr(fields, field), getattr(fields, effect.field)
        changed = value != getattr(base, field) and value != effect.unless
        if changed and decides not in effect.values:
            raise UsageError(
                f"{field}={field_text(value)} has no effect with {effect.field}={decides}: set "
                f"{effect.field}={_or(effect.values)} as well, or leave {field} out."
            )


def _parse(field: str, text: str, kind: Any) -> Any:
    """Read a field's value from text."""
    if get_origin(kind) is Literal:
        if text not in get_args(kind):
            raise UsageError(f"{field}={text}: choose {_or(get_args(kind))}.")
        return text
    parse, expected = _PARSERS[kind]
    try:
        return parse(text)
    except (ValueError, KeyError):
        raise UsageError(f"{field}={text}: expected {expected}.") from None


def _flag(text: str) -> bool:
    return {"true": True, "yes": True, "false": False, "no": False}[text.lower()]


def _interval(text: str) -> tuple[float, float]:
    low, high = text.replace(",", ":").split(":")
    return float(low), float(high)


_PARSERS: Mapping[Any, tuple[Callable[[str], Any], str]] = {
    bool: (_flag, "true, yes, false or no"),
    int: (int, "a whole number"),
    float: (float, "a number"),
    str: (str, "text"),
    tuple[float, float]: (_interval, "two numbers, LO:HI or LO,HI"),
}


def field_text(value: Any) -> str:
    """Format a field's value as one would write it: ``true``, ``0:1``, ``256``."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return ":".join(map(field_text, value))
    short = f"{value:g}" if isinstance(value, float) else ""
    return short if short and float(short) == value else str(value)


def _or(names: Any) -> str:
    *most, last = names
    return f"{', '.join(most)} or {last}" if most else str(last)
