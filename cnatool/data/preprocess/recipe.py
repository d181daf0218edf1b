"""Preprocessing files: the typed record, and its reader.

Besides its own format, a file may be a configuration from a model hub: see
`cnatool.data.preprocess.hub_transformers` and `cnatool.data.preprocess.hub_timm`.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from cnatool._util.text import one_line, printable, suggest_name
from cnatool.data.preprocess.apply import PreprocessOptions
from cnatool.data.preprocess.hub_audio import convert_audio, is_audio
from cnatool.data.preprocess.hub_timm import convert_timm, is_timm
from cnatool.data.preprocess.hub_transformers import convert_transformers, is_transformers
from cnatool.data.preprocess.layout import parse_layout
from cnatool.data.preprocess.settings_file import read_settings
from cnatool.data.selection import SoundOptions
from cnatool.errors import UsageError
from cnatool.records.choices import Colour, Interpolation
from cnatool.records.image_transform import Fit, Geometry, Offset
from cnatool.records.sound import SoundTransform, Spectrogram

if TYPE_CHECKING:
    from collections.abc import Mapping

_MAX_FILL = (1 << 16) - 1


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """How a sample becomes the model's input, in this order; what is left out is not done.

    Attributes
    ----------
    schema : str
        Name and version of this format.
    colour : {"as-is", "rgb", "bgr", "grey"}
        What the channels are turned into.
    resize : int or (int, int) or None
        The shorter side, or height and width.
    fit : {"cover", "contain"} or None
        Keeps the ratio of the sides: of a pair, the image just covers it or lies within it; with
        contain, one number is the longer side.
    interpolation : {"nearest", "box", "bilinear", "hamming", "bicubic", "lanczos"}
        Pillow's filter of that name, which smooths where it shrinks.
    crop : int or (int, int) or None
        The middle part that is kept: a square, or height and width; what is smaller is padded.
    offset : {"even", "down"}
        Where the middle lies between two pixels: half to even, or down.
    fill : int or tuple of int
        What is padded with, from 0 to 65535: empty for black, one value, or one a channel.
    layout : str or None
        ``[FROM->]TO`` out of chw, hwc, flat-chw, flat-hwc and flat; null where shapes tell.
    scale : float or str or None
        A factor, or a fraction such as "1/255"; null divides 8-bit values by 255.
    mean, std : float or tuple of float
        Taken off after the scale, and divided by; one value, or one a channel.
    mono : bool
        Whether several channels of sound are replaced by their mean.
    sample_rate : int or None
        Rate of sound for the model, in samples a second; sound at other rates is resampled.
    duration : float or None
        Seconds that sound is cut to, or padded to with zeros behind its end.
    normalize : bool
        Whether each sound gets mean 0 and variance 1.
    spectrogram : WhisperSpectrogram or ASTSpectrogram or None
        The spectrogram that the model takes in place of amplitudes.
    """

    schema: Literal["cnatool.preprocess/1"]
    colour: Colour = "as-is"
    resize: int | tuple[int, int] | None = None
    fit: Fit | None = None
    interpolation: Interpolation = "bilinear"
    crop: int | tuple[int, int] | None = None
    offset: Offset = "even"
    fill: int | tuple[int, ...] = ()
    layout: str | None = None
    scale: float | str | None = None
    mean: float | tuple[float, ...] = ()
    std: float | tuple[float, ...] = ()
    mono: bool = False
    sample_rate: int | None = None
    duration: float | None = None
    normalize: bool = False
    spectrogram: Spectrogram | None = None

    def __post_init__(self) -> None:
        if self.fit is not None and self.resize is None:
            raise UsageError(f"fit {self.fit!r} has no effect without resize: give resize as well.")
        if self.fill != () and self.crop is None:
            raise UsageError("fill has no effect without crop: give crop as well.")
        # Not as a constraint of the type; see `Geometry`.
        outside = [value for value in self._fill if not 0 <= value <= _MAX_FILL]
        if outside:
            raise UsageError(f"fill {outside[0]}: give values from 0 to {_MAX_FILL}.")
        # What they refuse is refused on reading.
        self.geometry()
        self.sound()
        options = self.options()
        if options.layout is not None:
            parse_layout(options.layout)
        for word, values in (
            ("scale", () if options.scale is None else (options.scale,)),
            ("mean", options.mean),
            ("std", options.std),
        ):
            # Beyond these limits float32 is 0 or infinity. NaN fails every comparison.
            least = 0.0 if word == "mean" else 1e-30
            if not all(least <= abs(value) <= 1e30 for value in values):
                raise UsageError(
                    f"{word} {' '.join(f'{value:g}' for value in values)}: give finite numbers"
                    f"{' other than 0' if least else ''}."
                )
        if len({len(values) for values in (options.mean, options.std) if len(values) > 1}) > 1:
            raise UsageError(
                f"mean has {len(options.mean)} and std {len(options.std)} values: give one value, "
                "or one for each channel."
            )

    @property
    def _fill(self) -> tuple[int, ...]:
        return (self.fill,) if isinstance(self.fill, int) else self.fill

    def geometry(self) -> Geometry | None:
        """Return how images are transformed; None if they are not."""
        geometry = Geometry(
            resize=self.resize,
            interpolation=self.interpolation if self.resize else "bilinear",
            crop=(self.crop, self.crop) if isinstance(self.crop, int) else self.crop,
            colour=self.colour,
            fit=self.fit,
            offset=self.offset if self.crop else "even",
            fill=self._fill,
        )
        return None if geometry == Geometry() else geometry

    def options(self) -> PreprocessOptions:
        """Return how values are preprocessed."""
        return PreprocessOptions(
            scale=None if self.scale is None else _parse_number(self.scale),
            mean=self.mean if isinstance(self.mean, tuple) else (self.mean,),
            std=self.std if isinstance(self.std, tuple) else (self.std,),
            layout=self.layout,
        )

    def sound(self) -> SoundOptions:
        """Return how sound is transformed."""
        return SoundOptions(
            self.mono,
            SoundTransform(
                sample_rate=self.sample_rate,
                duration=self.duration,
                normalize=self.normalize,
                spectrogram=self.spectrogram,
            ),
        )

    def axes(self) -> Literal["hwc", "chw"] | None:
        """Return the order of axes of images in arrays, if the layout names it."""
        start = self.layout.partition("->")[0] if self.layout and "->" in self.layout else ""
        return next((axes for axes in ("hwc", "chw") if start.strip().endswith(axes)), None)


_SCHEMA = "cnatool.preprocess/1"
_FIELDS = Recipe.__struct_fields__


def read_recipe(path: str | Path) -> Recipe:
    """Read a preprocessing file."""
    path = Path(path)
    raw = read_settings(path)
    try:
        return _parse(raw)
    except UsageError as error:
        raise UsageError(f"{path}: {error}") from error


def replace_fields(recipe: Recipe, fields: Mapping[str, Any]) -> Recipe:
    """Return a recipe with some fields replaced; raise a UsageError that names a wrong one."""
    try:
        new = {name: msgspec.to_builtins(value) for name, value in fields.items()}
    except TypeError as error:
        raise UsageError(f"preprocessing: {one_line(error)}.") from error
    return _convert({**msgspec.to_builtins(recipe), "schema": _SCHEMA, **new})


def _parse(raw: dict[str, Any]) -> Recipe:
    if "schema" not in raw:
        for is_format, convert in (
            (is_audio, convert_audio),
            (is_transformers, convert_transformers),
            (is_timm, convert_timm),
        ):
            if is_format(raw):
                return _convert({"schema": _SCHEMA, **convert(raw)})
        raise UsageError(
            f'the format is not known: add "schema": "{_SCHEMA}" to a file of your own, or give '
            "preprocessor_config.json of transformers or config.json of timm."
        )
    if raw["schema"] != _SCHEMA:
        raise UsageError(
            f"schema {printable(raw['schema'])[:60]!r} is not known: only {_SCHEMA!r} is."
        )
    unknown = next((name for name in raw if name not in _FIELDS), None)
    if unknown is not None:
        raise UsageError(
            f"there is no field {printable(unknown)[:100]}. {suggest_name(unknown, _FIELDS)}"
        )
    return _convert(raw)


# So that `msgspec.convert` knows the type from import on: msgspec crashes the process if threads
# are the first to use it.
msgspec.json.Decoder(Recipe)


def _convert(fields: dict[str, Any]) -> Recipe:
    try:
        return msgspec.convert(fields, Recipe)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, UsageError):
            raise error.__cause__ from None
        # msgspec writes "Expected `int`, got `str` - at `$.resize[0]`".
        problem, _, where = str(error).replace("`", "").partition(" - at $")
        raise UsageError(f"{where.lstrip('.')}: {problem[:1].lower()}{problem[1:]}.") from error


def _parse_number(value: float | str) -> float:
    if isinstance(value, str):
        if not re.fullmatch(r"[-+0-9./eE]{1,40}", value):
            raise UsageError(
                f"scale {value!r} is not a number: give one, or a fraction as in 1/255."
            )
        try:
            above, _, below = value.partition("/")
            return float(above) / float(below or "1")
        except (ValueError, ZeroDivisionError) as error:
            raise UsageError(
                f"scale {value!r} is not a number: give one, or a fraction as in 1/255."
            ) from error
    return value
