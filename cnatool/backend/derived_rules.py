"""Which inputs of a model are filled in by rule: decided by name, type and declared shape.

A rule applies only beside an input of tokens, or of another sequence, which fixes the number and
the length of samples, and only where the declared shape is one that the rule can fill. The table is
in docs/models.md.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from cnatool.backend.derived_inputs import DerivedInput

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence

    from numpy.typing import ArrayLike

    from cnatool.backend.derived_inputs import Size
    from cnatool.backend.inputs import ModelInput
    from cnatool.records.run import Rule


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


_TOKENS = _words("input_ids inputs_ids ids token_ids tokens input_tokens input_word_ids src_tokens")
_EMBEDDINGS = _words("inputs_embeds input_embeds hidden_states")
_SOUNDS = _words(
    "input_values input_features audio_signal processed_signal input_signal waveform wav audio "
    "speech feats"
)
_DECODER_TOKENS, _ENCODER_STATES = "decoder_input_ids", "encoder_hidden_states"

_MASKS = _words("attention_mask attn_mask input_mask")
_CAUSAL_MASKS = _words("attention_mask causal_mask")
_TYPES = _words("token_type_ids segment_ids input_type_ids token_type_id")
_POSITIONS = _words("position_ids positions position_id")
_FLAGS = _words("use_cache_branch use_cache")
_KEPT_LOGITS = _words("num_logits_to_keep logits_to_keep")
_LENGTHS = _words(
    "length lengths input_length input_lengths seq_len seq_lens seq_length seq_lengths "
    "sequence_length sequence_lengths src_length src_lengths audio_length audio_lengths "
    "audio_signal_length text_length text_lengths x_lengths xs_lens feats_lengths speech_length "
    "speech_lengths token_lengths"
)
_OTHERS = _words("cache_position seqlens_k total_sequence_length")
_NAMES = frozenset().union(
    _MASKS, _CAUSAL_MASKS, _TYPES, _POSITIONS, _FLAGS, _KEPT_LOGITS, _LENGTHS, _OTHERS
)
_PAST = re.compile(r"^(past|pkv)|past_key|past_value|key_cache|value_cache")
# What a decoder keeps of the encoder is no past of its own.
_CROSS = re.compile(r"(?<!de)encoder|cross")
_INTEGERS, _FLOATS = ("i", "u"), ("f",)

# Rules of inputs that say where samples are padded.
MASK_RULES: tuple[Rule, ...] = ("mask", "lengths")

# What a user is told about inputs of names that look like a rule's, and are none.
_DECODER_ADVICE = (
    "The tokens that a decoder has read are part of the samples: give them as an array, or the "
    "start token alone for every sample, or export the encoder by itself."
)
_STATES_ADVICE = (
    "The states of the encoder are its output: dump the encoder's file, and give its states of "
    "each text, with the tokens that the decoder has read, as arrays; or export both in one file."
)
_CROSS_ADVICE = (
    "The model continues from what it has kept of the encoder and of earlier tokens: dump the "
    "decoder without a past, or the merged one, which read whole texts."
)
_SQUARE_ADVICE = (
    "Its axes have no names, so that it may be a mask of pairs (tokens, tokens) as well as one of "
    "(samples, tokens): give it as an array or a constant, or name the axes in the export."
)
_POSITION_ADVICE = (
    "The table of positions keeps a row for padding, so they seem to begin at 2, as in RoBERTa: "
    "give them as an array, np.arange(2, T + 2) for a sample of T tokens."
)
_FLAG_ADVICE = (
    "If it is true, the model continues from a given past; if it is false, it ignores that."
)


def find_advice(target: ModelInput) -> str | None:
    """Return what to say of an input that looks like one of a rule, and is none."""
    if _word(target) == _DECODER_TOKENS:
        return _DECODER_ADVICE
    if _word(target) in _POSITIONS and target.reserves_padding:
        return _POSITION_ADVICE
    if _word(target) in _FLAGS:
        return _FLAG_ADVICE
    if comes_from_encoder(target):
        return _STATES_ADVICE if _word(target) == _ENCODER_STATES else _CROSS_ADVICE
    return _SQUARE_ADVICE if _may_be_square(target) else None


def comes_from_encoder(target: ModelInput) -> bool:
    """Whether an input is what an encoder has computed, which no constant stands for."""
    word = _word(target)
    return word == _ENCODER_STATES or bool(_PAST.search(word) and _CROSS.search(word))


def _may_be_square(target: ModelInput) -> bool:
    """Whether a mask may be one of pairs: nothing but its two axes says what it is."""
    return _word(target) == "attn_mask" and target.dims == (None, None)


@dataclass(frozen=True, slots=True)
class _Sequence:
    """The input whose samples fix the length, and how it declares that and their number."""

    name: str
    samples: int | str | None
    length: int | str | None
    axis: int


def find_derived_inputs(
    inputs: Sequence[ModelInput],
    given: Collection[str] = (),
    constants: Mapping[str, ArrayLike] | None = None,
) -> tuple[DerivedInput, ...]:
    """Find the inputs of a model that are filled in by rule, in the model's order.

    Parameters
    ----------
    inputs : sequence of ModelInput
        All inputs of the model.
    given : collection of str
        Inputs that data give; no rule applies to them.
    constants : mapping of str to array_like, optional
        Inputs that the user set, and their values; no rule applies to them either.
    """
    constants = constants or {}
    fixed = {*given, *constants}
    rules = _Rules(inputs, constants)
    if rules.main is None or rules.main.name in constants:
        return ()
    derived = {t.name: rule for t in inputs if t.name not in fixed and (rule := rules.find(t))}
    past = [target for target in inputs if _PAST.search(_word(target))]
    derived = _continue_past(derived, past, constants)
    if not any(each.rule == "false" for each in derived.values()):
        # Without the branch that ignores it, what was kept of the encoder counts.
        derived = {name: each for name, each in derived.items() if not _is_cross(name, each)}
        derived = _continue_past(derived, past, constants)
    masks = [t.name for t in inputs if t.name in given and _word(t) in _MASKS]
    if len(masks) == 1:
        derived = {name: replace(each, mask=masks[0]) for name, each in derived.items()}
    return tuple(derived[target.name] for target in inputs if target.name in derived)


def _continue_past(
    derived: dict[str, DerivedInput],
    past: Sequence[ModelInput],
    constants: Mapping[str, ArrayLike],
) -> dict[str, DerivedInput]:
    """Leave out what a past that is not empty decides: masks, positions and whether it counts."""
    if all(target.name in derived or _is_empty(target, constants) for target in past):
        return derived
    return {name: each for name, each in derived.items() if each.rule in _UNAFFECTED}


_UNAFFECTED: tuple[Rule, ...] = ("zeros", "empty", "all positions", "lengths")


def _is_cross(name: str, derived: DerivedInput) -> bool:
    return derived.rule == "empty" and bool(_CROSS.search(name.lower()))


def _is_empty(target: ModelInput, constants: Mapping[str, ArrayLike]) -> bool:
    return target.name in constants and not np.size(np.asarray(constants[target.name]))


def _word(target: ModelInput) -> str:
    return _last_part(target.name)


def _last_part(name: str) -> str:
    """Return an input's name without a scope and the number of an output, in lower case."""
    return name.rpartition("/")[2].partition(":")[0].lower()


class _Rules:
    """The rules for one model."""

    def __init__(self, inputs: Sequence[ModelInput], constants: Mapping[str, ArrayLike]) -> None:
        self._inputs = {_word(target): target for target in inputs}
        self.main = _find_main(inputs)
        self._decoder = _as_sequence(self._inputs.get(_DECODER_TOKENS), 2)
        self._encoder = _as_sequence(self._inputs.get(_ENCODER_STATES), 3)
        self._is_decoder = any(map(_PAST.search, self._inputs))
        self._symbols = {
            size
            for target in inputs
            if not self._has_rule(target) and target.name not in constants
            for size in target.dims or ()
            if isinstance(size, str)
        }

    def _has_rule(self, target: ModelInput) -> bool:
        word = _word(target).removeprefix("decoder_").removeprefix("encoder_")
        return word in _NAMES or bool(_PAST.search(word))

    def find(self, target: ModelInput) -> DerivedInput | None:
        """Find the rule of an input; None where a name, type or shape leaves doubt."""
        word, dims = _word(target), target.dims
        source = self.main
        for prefix, other in (("decoder_", self._decoder), ("encoder_", self._encoder)):
            if word.startswith(prefix):
                word, source = word.removeprefix(prefix), other
        if dims is None or source is None or target.name == source.name:
            return None
        whole, real = target.dtype.kind in _INTEGERS, target.dtype.kind in _FLOATS
        truth = target.dtype.kind == "b"
        shape: tuple[Size, ...] | None = None
        rule: Rule
        if _may_be_square(target):
            return None
        if word in _MASKS and len(dims) == 2 and (whole or word == "attention_mask"):
            rule, shape = "mask", self._row(source, dims)
        elif word in _CAUSAL_MASKS and len(dims) == 4 and not whole and self._is_decoder:
            rule, shape = "causal mask", self._square(source, dims)
        elif word in _TYPES and whole:
            rule, shape = "zeros", self._row(source, dims)
        elif word in _POSITIONS and whole and not target.reserves_padding:
            rule, shape = "positions", self._positions(source, dims)
        elif word == "cache_position" and whole and len(dims) == 1:
            rule, shape = "positions", self._length(source, dims)
        elif _PAST.search(word) and real:
            rule, shape = "empty", self._past(source, dims)
        elif word in _FLAGS and truth:
            rule, shape = "false", _one(dims)
        elif word in _KEPT_LOGITS and whole:
            rule, shape = "all positions", _one(dims)
        elif word == "seqlens_k" and whole:
            rule, shape = "last position", self._column(source, dims)
        elif word == "total_sequence_length" and whole:
            rule, shape = "total length", _one(dims)
        elif word in _LENGTHS and whole and len(dims) == 1:
            rule, shape = "lengths", self._column(source, dims)
        if shape is None:
            return None
        return DerivedInput(target.name, rule, target.dtype, shape, source.name, source.axis)

    def _is_samples(self, source: _Sequence, size: int | str | None) -> bool:
        return self._is(size, source.samples, source.length)

    def _is_length(self, source: _Sequence, size: int | str | None) -> bool:
        return self._is(size, source.length, source.samples)

    def _is(self, size: int | str | None, wanted: int | str | None, other: Any) -> bool:
        """Whether a declared length may be the wanted one.

        A name of its own may be, but for that of an axis that data feed.
        """
        if size is None or size == wanted:
            return True
        if isinstance(size, int) or isinstance(wanted, int):
            return False
        return size not in self._symbols and size != other

    def _row(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        if len(dims) != 2 or not self._is_samples(source, dims[0]):
            return None
        return ("samples", "length") if self._is_length(source, dims[1]) else None

    def _length(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        return ("length",) if self._is_length(source, dims[0]) else None

    def _column(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        if not dims or dims[1:] not in ((), (1,)) or not self._is_samples(source, dims[0]):
            return None
        return ("samples", *dims[1:])

    def _positions(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        if len(dims) == 3 and dims[0] == 3:
            row = self._row(source, dims[1:])
            return None if row is None else (3, *row)
        if len(dims) == 2 and dims[0] == 1 != source.samples:
            return (1, "length") if self._is_length(source, dims[1]) else None
        return self._row(source, dims)

    def _square(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        """Return the shape of a mask for each pair of tokens, without a past."""
        if dims[1] != 1 or not all(self._is_length(source, size) for size in dims[2:]):
            return None
        if dims[0] == 1 != source.samples:
            return (1, 1, "length", "length")
        return ("samples", 1, "length", "length") if self._is_samples(source, dims[0]) else None

    def _past(self, source: _Sequence, dims: Sequence[Any]) -> tuple[Size, ...] | None:
        """Return the shape of an empty past: one axis besides the samples' is free."""
        stacked = len(dims) == 5 and dims[0] == 2
        place = 1 if stacked else 0
        if len(dims) not in (3, 4, 5) or (len(dims) == 5 and not stacked):
            return None
        if not self._is_samples(source, dims[place]):
            return None
        free = [i for i, n in enumerate(dims) if i != place and not isinstance(n, int)]
        if len(free) != 1:
            return None
        sizes: list[Size] = [size if isinstance(size, int) else 0 for size in dims]
        sizes[place] = "samples"
        return tuple(sizes)


def _one(dims: Sequence[Any]) -> tuple[Size, ...] | None:
    """Return the shape of a single number."""
    return tuple(dims) if tuple(dims) in ((), (1,)) else None


def _find_main(inputs: Sequence[ModelInput]) -> _Sequence | None:
    """Find the input that fixes the number and the length of samples."""
    words = {_word(target): target for target in inputs}
    for names, ranks in ((_TOKENS, (2,)), (_EMBEDDINGS, (3,)), (_SOUNDS, (2, 3, 4))):
        candidates = [words[name] for name in words if name in names]
        found = [each for t in candidates for rank in ranks if (each := _as_sequence(t, rank))]
        if len(found) == 1:
            return found[0]
        if found:
            return None
    # Exporters also number inputs.
    rows = [
        target
        for target in inputs
        if target.dtype.kind == "i" and target.dims is not None and len(target.dims) == 2
    ]
    known = _MASKS | _TYPES | _POSITIONS | _LENGTHS | {_DECODER_TOKENS}
    rows = [target for target in rows if _word(target) not in known]
    named = any(_word(target) in _MASKS | _TYPES | _POSITIONS for target in inputs)
    data = [target for target in inputs if not _PAST.search(_word(target))]
    if len(rows) != 1 or not named or any(target.dtype.kind == "f" for target in data):
        return None
    return _as_sequence(rows[0], 2)


def _as_sequence(target: ModelInput | None, rank: int) -> _Sequence | None:
    """Describe an input of a rank as a sequence; None where its length has no place."""
    if target is None or target.dims is None or len(target.dims) != rank:
        return None
    kinds = ("f",) if rank > 2 or _word(target) in _SOUNDS else ("i", "u")
    if target.dtype.kind not in kinds:
        return None
    axis = 1
    if _word(target) in _SOUNDS:
        free = [i for i, size in enumerate(target.dims) if i and not isinstance(size, int)]
        if len(free) != 1 and rank > 2:
            return None
        axis = free[0] if free else 1
    return _Sequence(target.name, target.dims[0], target.dims[axis], axis)
