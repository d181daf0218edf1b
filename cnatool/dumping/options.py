"""The options of a dump, each declared once.

The keyword arguments of `cnatool.dump` and the options of ``cnatool dump`` follow from this record.
This module imports little, since the help of the command line waits for it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import Field, dataclass, field, fields
from numbers import Integral
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from cnatool.errors import UsageError
from cnatool.records.choices import (
    Codec,
    Colour,
    Interpolation,
    Kept,
    KeptInputs,
    Narrowing,
    OnError,
    Statistic,
)

if TYPE_CHECKING:
    from distributed import Client
    from numpy.typing import ArrayLike

    from cnatool._util.observer import Observer
    from cnatool.records.reductions import Reduction
    from cnatool.records.weights import Flatness

DATA = "Data"
PREPROCESSING = "Preprocessing"
STORED = "What is stored"
RUN = "How it runs"
STORE = "Store"

# More threads would only wait for each other, and each takes memory.
_THREADS_PER_PROCESSOR = 8
# What follows :: is the name of an array inside a file.
_INSIDE = "::"


def option(panel: str, default: Any, summary: str, details: str = "") -> Any:
    """Declare an option; its summary is the help of the command line as well."""
    return field(default=default, metadata={"panel": panel, "summary": summary, "details": details})


@dataclass(frozen=True, slots=True, kw_only=True)
class DumpOptions:
    """How a model is dumped; see `cnatool.dump`."""

    splits: Mapping[str, str | Path] | None = option(
        DATA, None, "Splits by name, with the data of each, instead of `data`."
    )
    format: str | None = option(
        DATA,
        None,
        "Format of `data`, if more than one fits.",
        "One of ``npz``, ``parquet``, ``pictures``, …",
    )
    labels: str | None = option(
        DATA,
        None,
        "Name of the array or column that contains the labels, or none to ignore labels.",
    )
    label_offset: int = option(DATA, 0, "Number to add to every label: -1 if labels start at 1.")
    split_column: str | None = option(
        DATA, None, "Name of the column that contains the split of each row."
    )
    holdout: float | None = option(
        DATA,
        None,
        "Share of the training samples to hold out at random as test (or val).",
        "If there is a test split already, they become the split val.",
    )
    seed: int = option(DATA, 0, "Seed of `holdout`, `flatness` and `reduce`.")
    limit: int | None = option(
        DATA, None, "Use only this many samples of each split, from its start."
    )
    part: str | tuple[int, int] | None = option(
        DATA,
        None,
        "Dump only one of N equal ranges of the rows, such as 3/16, into a separate store; "
        "merging combines all parts into one store.",
        "The pair (3, 16) means the same. All processes that dump parts of the same data with the "
        "same options divide the rows in the same way.",
    )
    on_error: OnError = option(
        DATA,
        "stop",
        "What to do with a sample that cannot be read: stop, or skip it and list it.",
        "A skipped sample has no row in the store, which records the reason.",
    )
    follow_links: bool = option(
        DATA, False, "Follow symbolic links that point outside a folder of images or sound files."
    )
    inputs: Mapping[str, str] | None = option(
        DATA, None, "Array or column that feeds a model input, if their names differ."
    )
    tokenizer: str | Path | None = option(
        DATA,
        None,
        "Tokenizer that converts texts to token ids: tokenizer.json, or the folder that contains "
        "it.",
        "Model hubs provide this file; nothing is downloaded. Padding and truncation that the "
        "file configures are switched off.",
    )
    max_length: int | None = option(
        DATA,
        None,
        "Truncate texts to this many tokens, including special ones; by default, a text that is "
        "too long for the model is an error.",
    )
    constants: Mapping[str, ArrayLike] | None = option(
        DATA,
        None,
        "Values of the inputs that are the same for every sample.",
        "A single number fills the declared shape of the input.",
    )
    mask: str | None = option(
        DATA,
        None,
        "Input that marks where samples are padded, or none to count padding as data; by default "
        "cnatool infers it from the data.",
        "Either a mask that is 0 at padding (``NAME=1`` if it is 1 there), or the number of real "
        "positions. Sums then cover real positions only, and only these are stored.",
    )
    preprocess: str | Path | None = option(
        PREPROCESSING,
        None,
        "File that describes the preprocessing, in the format of docs/preprocessing.md, "
        "transformers or timm; the options below override it.",
        "On model hubs it is called ``preprocessor_config.json`` or ``config.json``.",
    )
    resize: int | tuple[int, int] | None = option(
        PREPROCESSING, None, "Resize images to this shorter side, or to this height and width."
    )
    crop: int | tuple[int, int] | None = option(
        PREPROCESSING,
        None,
        "Then crop the centre to a square with this side, or to this height and width.",
    )
    interpolation: Interpolation | None = option(
        PREPROCESSING,
        None,
        "Interpolation: nearest, box, bilinear (default), hamming, bicubic, lanczos.",
        "The filters are Pillow's.",
    )
    colour: Colour | None = option(PREPROCESSING, None, "Convert the colour channels of images.")
    scale: float | None = option(
        PREPROCESSING,
        None,
        "Factor to multiply each value by; by default 1/255 for 8-bit images, unless the model "
        "rescales them itself.",
    )
    mean: Sequence[float] = option(
        PREPROCESSING, (), "Mean to subtract after scaling; one value, or one per channel."
    )
    std: Sequence[float] = option(
        PREPROCESSING,
        (),
        "Standard deviation to divide by after subtracting the mean; one value, or one per "
        "channel.",
    )
    layout: str | None = option(
        PREPROCESSING,
        None,
        "How to arrange a sample: chw, hwc, flat, flat-chw or flat-hwc; by default this follows "
        "from the shapes.",
        "Written ``[FROM->]TO``.",
    )
    sample_rate: int | None = option(
        PREPROCESSING,
        None,
        "Rate to resample sound to, in samples per second: the one that the model was trained "
        "with.",
        "Sound is resampled with `scipy.signal.resample_poly`.",
    )
    mono: bool = option(PREPROCESSING, False, "Replace the channels of sound by their mean.")
    duration: float | None = option(
        PREPROCESSING,
        None,
        "Cut sound to this many seconds, and pad shorter sound with zeros, for a model that "
        "accepts only one length.",
    )
    keep: Kept = option(STORED, "full", "Store full activations, or only per-sample statistics.")
    tensors: str | Sequence[str] = option(
        STORED,
        "all",
        "Which tensors to store: all, layers, names or globs; residual for the residual stream; "
        "inner for states and attention scores, including those that the model does not return. A "
        "leading ! excludes tensors.",
        "Model outputs are stored unless they are excluded.",
    )
    reduce: Mapping[str, str | int | Sequence[str | int]] | None = option(
        STORED,
        None,
        "Also store tensors in a reduced form: mean or max over positions; cls, last or a number "
        "for one position; sample:K for K positions; project:K or pca:K for K numbers; mean+pca:K "
        "for both.",
        "A dictionary from names or globs of tensors to forms or lists of forms. Only real tokens "
        "count as positions; ``sample`` and ``project`` are drawn with `seed`, and principal "
        "components are computed from some of the samples.",
    )
    dtype: Narrowing | None = option(
        STORED,
        None,
        "Convert floating-point activations to this type, if it is narrower; by default they "
        "keep their own.",
    )
    statistics: str | Sequence[str] = option(
        STORED,
        "sum",
        "Statistics to store in addition to per-sample sums: abs_sum, square_sum, positive_sum, "
        "nonzero_count, min, max, or all.",
    )
    units: bool = option(
        STORED,
        False,
        "Measure individual units while the model runs: moments, histograms, dead units, class "
        "selectivity, and the samples that excite each unit most.",
        "``cnatool units`` shows them, even if no activations are stored.",
    )
    units_tensors: str | Sequence[str] = option(
        STORED,
        "layers",
        "Stored tensors whose units `units` measures: all, layers, residual, names or globs. A "
        "leading ! excludes tensors.",
    )
    units_axis: Mapping[str, str | int] | None = option(
        STORED,
        None,
        "Axis of one sample that the units of tensors lie along, counted from 0, or element if "
        "each element is a unit; by default, units are the channels of maps, the features of "
        "tokens and the elements of vectors.",
    )
    units_top: int = option(
        STORED,
        10,
        "Number of samples that `units` records for each unit, those that excite it most.",
    )
    keep_inputs: KeptInputs | None = option(
        STORED,
        None,
        "Store raw images (values), or only how often each of their 256 levels occurs, which is "
        "all that α needs (levels); by default levels if image files are resized.",
        "The counts have the same shape for images of any size.",
    )
    inputs_from: str | Path | None = option(
        STORED,
        None,
        "Finished store of the same data; the new store refers to its raw inputs instead of "
        "copying them.",
        "Its ids and raw inputs must equal those of the samples, bit for bit; labels may differ.",
    )
    initial_model: str | Path | None = option(
        STORED, None, "The network before training, to measure how far its weights have moved."
    )
    flatness: Flatness | bool = option(
        STORED,
        False,
        "Measure how much noise on the weights the network tolerates.",
        "By default, noise is tolerated as long as accuracy on the first training samples falls "
        "by at most 0.1; pass a `Flatness` to change that.",
    )
    tags: Mapping[str, str] | None = option(STORED, None, "Metadata to keep in the store.")
    batch_size: int | None = option(
        RUN,
        None,
        "Samples per run of the model; by default as many as fit in the cache.",
        "The default is at most 256.",
    )
    provider: str = option(RUN, "cpu", "Execution provider of ONNX Runtime: cpu, cuda, …")
    threads: int = option(RUN, 0, "Number of threads that run the model; 0 for one per processor.")
    client: Client | None = option(
        RUN,
        None,
        "Client of a Dask cluster whose workers dump the store in parts.",
        "The parts are in a folder next to the store, which refers to them; an HDF5 store gets a "
        "copy of all rows. All workers must share a file system. Each runs the model with as many "
        "threads as it has.",
    )
    parts: int | None = option(
        RUN,
        None,
        "Number of parts into which a cluster divides the rows; by default four per worker.",
    )
    custom_ops: Sequence[str | Path] = option(
        RUN,
        (),
        "Libraries of custom operators.",
        "They run inside this process: use only libraries that you trust.",
    )
    codec: Codec | None = option(
        STORE,
        None,
        "Compression of arrays; by default lz4 in Zarr, for arrays that it makes at least a tenth "
        "smaller, and none in HDF5, which also supports gzip.",
        "LZ4 is fast, Zstandard compresses better, and every reader supports gzip.",
    )
    overwrite: bool = option(
        STORE,
        False,
        "Replace an existing store; if the dump is interrupted, the old one is kept as "
        "NAME.previous.zarr.",
    )
    resume: bool = option(
        STORE,
        False,
        "Continue an interrupted dump with the same options, or start one if there is none; a "
        "complete store is left unchanged.",
        "The result equals that of an uninterrupted dump. By default, `batch_size`, `threads` and "
        "`codec` are taken from the store.",
    )
    verbose: bool = option(
        RUN, False, "Report at the end how arrays are compressed, and which stage was the slowest."
    )
    observer: Observer | None = option(RUN, None, "Receives notes and progress.")

    def __post_init__(self) -> None:
        for declared in fields(self):
            value, words = getattr(self, declared.name), choices_of(declared)
            if words and value not in words and value != declared.default:
                raise UsageError(f"`{declared.name}={value!r}`: {' or '.join(words)}.")
            is_mapping = str(declared.type).startswith("Mapping")
            if is_mapping and not isinstance(value, Mapping | None):
                raise UsageError(f"`{declared.name}={value!r}`: a dictionary.")
        if self.resume and self.overwrite:
            raise UsageError(
                "`resume` continues a store and `overwrite` starts a new one: pass one of them."
            )
        if self.dtype is not None and self.keep == "statistics" and not self.reductions:
            raise UsageError(
                f"`dtype={self.dtype!r}` narrows activations, but `keep='statistics'` stores "
                "none: omit one of them."
            )
        self._check_units()
        for name in ("batch_size", "limit", "max_length", "parts", "units_top"):
            count = getattr(self, name)
            if count is not None and not isinstance(count, Integral):
                raise UsageError(f"`{name}={count!r}`: a whole number.")
            if count is not None and count < 1:
                raise UsageError(f"`{name}={count}`: at least 1.")
        self._check_cluster()
        if (self.part_of or self.client) and self.on_error == "skip":
            raise UsageError(
                "`on_error='skip'` cannot be used for parts: which rows a part has would depend "
                "on samples that other parts cannot read. Remove these samples first; without "
                "`on_error`, the dump names the first one in each part."
            )
        self._check_threads()
        self._check_flatness()
        if self.reductions and self.seed < 0:
            raise UsageError(f"`seed={self.seed}`: 0 or more.")
        for key, value in (self.tags or {}).items():
            if not isinstance(key, str) or not isinstance(value, str):
                raise UsageError(f"`tags`: {key!r}={value!r}: both must be text.")
        unknown = sorted({*self._statistics} - {"all", *get_args(Statistic)})
        if unknown:
            known = ", ".join(get_args(Statistic))
            raise UsageError(f"`statistics={unknown[0]!r}`: there are {known}, and all.")
        if self.preprocess is not None and not isinstance(self.preprocess, str | Path):
            raise UsageError(f"`preprocess={self.preprocess!r}`: the path of a file.")
        for name, values in (("mean", self.mean), ("std", self.std)):
            try:
                tuple(map(float, values))
            except (TypeError, ValueError):
                raise UsageError(f"`{name}={values!r}`: numbers.") from None

    def _check_units(self) -> None:
        if self.units:
            return
        for declared in fields(self):
            changed = getattr(self, declared.name) != declared.default
            if declared.name.startswith("units_") and changed:
                raise UsageError(f"`{declared.name}` has no effect without `units`: pass it too.")

    def _check_cluster(self) -> None:
        if self.client is not None and self.part is not None:
            raise UsageError("`client` dumps all parts and `part` only one: pass one or the other.")
        if self.parts is None:
            return
        if self.client is None:
            raise UsageError(
                f"`parts={self.parts}` divides a dump on a cluster: pass `client` too."
            )
        from cnatool.records.parts import MOST_PARTS

        if self.parts > MOST_PARTS:
            raise UsageError(f"`parts={self.parts}`: at most {MOST_PARTS:,}.")

    def _check_threads(self) -> None:
        # Workers may have more processors than this machine.
        if self.threads == 0 or self.client is not None:
            return
        from cnatool.backend.schedule import processors

        most = _THREADS_PER_PROCESSOR * processors()
        if not 0 < self.threads <= most:
            raise UsageError(
                f"`threads={self.threads}`: up to {most} on {processors()} processors, or 0 for "
                "one each."
            )

    def _check_flatness(self) -> None:
        settings = self.flatness_settings
        if settings is None:
            return
        for name, count in (("samples", settings.samples), ("draws", settings.draws)):
            if count < 1:
                raise UsageError(f"`flatness.{name}={count}`: at least 1.")
        if not 0 < settings.target < 1:
            raise UsageError(f"`flatness.target={settings.target:g}`: between 0 and 1.")
        if settings.seed < 0:
            raise UsageError(f"`seed={settings.seed}`: 0 or more.")

    @property
    def flatness_settings(self) -> Flatness | None:
        """How flatness is measured; None if it is not."""
        if not self.flatness:
            return None
        from cnatool.records.weights import Flatness

        return self.flatness if isinstance(self.flatness, Flatness) else Flatness()

    @property
    def reductions(self) -> list[tuple[str, Reduction]]:
        """The forms that tensors are reduced to, each with the pattern of their names."""
        if not self.reduce:
            return []
        from cnatool.records.reductions import parse_form

        forms = [
            (pattern, form)
            for pattern, asked in self.reduce.items()
            for form in ((asked,) if isinstance(asked, str | int) else asked)
        ]
        return [(pattern, parse_form(pattern, str(form))) for pattern, form in forms]

    @property
    def part_of(self) -> tuple[int, int] | None:
        """Number of the part that is dumped, and of how many; None for a whole dump."""
        if self.part is None:
            return None
        from cnatool.records.parts import parse_part

        return parse_part(self.part)

    @property
    def patterns(self) -> tuple[str, ...]:
        """Names and globs of the tensors that are stored."""
        return (self.tensors,) if isinstance(self.tensors, str) else tuple(self.tensors)

    @property
    def unit_patterns(self) -> tuple[str, ...]:
        """Names and globs of the tensors whose units are measured."""
        chosen = self.units_tensors
        return (chosen,) if isinstance(chosen, str) else tuple(chosen)

    @property
    def _statistics(self) -> Sequence[str]:
        return (self.statistics,) if isinstance(self.statistics, str) else self.statistics

    @property
    def computed_statistics(self) -> tuple[Statistic, ...]:
        """Statistics of every tensor; without sums there is nothing to score."""
        names = {"sum", *self._statistics}
        known: tuple[Statistic, ...] = get_args(Statistic)
        return tuple(name for name in known if name in names or "all" in names)

    def check_sources(self, store: Path, model: str | Path, data: str | Path | None) -> None:
        """Refuse to write the store over the model or the data, or over a folder around them."""
        from cnatool._util.local_paths import real_path
        from cnatool._util.urls import parse_path

        others = (
            self.initial_model,
            self.inputs_from,
            self.tokenizer,
            *(self.splits or {}).values(),
        )
        for source in (model, data, *others):
            inside = parse_path(str(source).partition(_INSIDE)[0])
            if source is None or not real_path(inside).is_relative_to(real_path(store)):
                continue
            raise UsageError(
                f"{source} cannot be both what this dump reads and the store that it writes. Name "
                "another path for the store."
                if real_path(inside) == real_path(store)
                else f"{source} lies inside {store}, where this dump would write its store. Name "
                "another path for the store."
            )


def choices_of(declared: Field[Any]) -> tuple[str, ...]:
    """List the words among which an option chooses; empty for other options."""
    return get_args(globals().get(str(declared.type).removesuffix(" | None")))
