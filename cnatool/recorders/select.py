"""Selection of the values of a traced network to record, and their names."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, Literal

from cnatool.errors import DataError, UsageError
from cnatool.recorders.layer_rule import find_layers
from cnatool.recording.recording import Layer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from cnatool.recorders.layer_rule import FoundLayer
    from cnatool.recorders.trace import Origin, Place, Trace, Value

Rule = Literal["preactivation", "linear", "all"]
Pattern = str | type
Modules = Pattern | tuple[Pattern, ...] | list[Pattern]

_RULES = ("preactivation", "linear", "all")
_NO_AXIS = "its result has no axis for samples only"


@dataclass(frozen=True, slots=True)
class SelectedTensor:
    """A value that is recorded as a tensor."""

    name: str
    operator: str
    source: Place | Origin  # a module, or an operator inside one
    axis: int  # of the samples
    shape: tuple[int, ...]  # of one sample
    value: int  # index in the trace


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the network."""

    part: str  # its name in the network's result
    name: str  # of its tensor in the store
    axis: int  # of the samples
    value: int  # index in the trace


@dataclass(frozen=True, slots=True)
class Selection:
    """The tensors and layers of a network that are recorded."""

    tensors: list[SelectedTensor]  # in execution order
    layers: list[Layer]
    modules: dict[str, str]  # by linear tensor, the module with the weights, if there is one
    normalisers: dict[str, str]  # by linear tensor, the module between it and its pre-activation
    left_out: dict[str, str]  # modules and outputs that are not recorded, with reasons
    outputs: list[Output]


def select_values(named: Mapping[str, Any], trace: Trace, modules: Modules) -> Selection:
    """Select values and name them.

    ``modules`` is ``preactivation``, ``linear``, ``all``, or globs of names or types of modules.
    Raises UsageError if nothing matches or there is no layer, DataError if a selected value has no
    sample axis.
    """
    return _Selector(named, trace).select(modules)


class _Selector:
    def __init__(self, named: Mapping[str, Any], trace: Trace) -> None:
        self._modules = named
        self._trace = trace
        self._calls = Counter(
            {p.module: p.call + 1 for value in trace.values for p in value.places}
        )
        self._selected: dict[int, SelectedTensor] = {}
        self._left_out: dict[str, str] = {}

    def select(self, modules: Modules) -> Selection:
        found_layers = find_layers(self._trace.steps, self._trace.outputs.values())
        layers: list[Layer] = []
        sources: dict[str, str] = {}
        normalisers: dict[str, str] = {}
        if isinstance(modules, str) and modules in _RULES:
            if not found_layers:
                raise UsageError(
                    "no linear operator was found in the network: name modules=…, and record a "
                    "compiled network before it is compiled."
                )
            for layer in found_layers:
                linear = self._carrier(layer.linear)
                entering = self._carrier(layer.preactivation)
                if modules == "linear":
                    entering = linear
                operator = self._operator(layer, linear)
                name = self._take(linear, operator)
                entering_name = self._take(
                    entering, self._trace.values[layer.preactivation[0]].operator
                )
                layers.append(
                    Layer(
                        preactivation=entering_name,
                        linear=name,
                        operator=operator,
                        output=layer.output,
                        shortcut=layer.shortcut,
                        path=layer.path,
                        groups=self._groups(linear),
                    )
                )
                module = self._module(linear)
                if module is not None:
                    sources[name] = module
                normaliser = self._module(entering)
                if entering != linear and normaliser is not None:
                    normalisers[name] = normaliser
            if modules == "all":
                self._select_all()
        else:
            patterns = list(modules) if isinstance(modules, (tuple, list)) else [modules]
            self._select_named(patterns)
        layers = layers or self._all_layers()
        outputs = self._outputs()
        tensors = [self._selected[value] for value in sorted(self._selected)]
        return Selection(tensors, layers, sources, normalisers, self._left_out, outputs)

    def _outputs(self) -> list[Output]:
        """Select outputs as tensors too: their operators distinguish scores from probabilities."""
        outputs = []
        for part, value in self._trace.outputs.items():
            axis = self._trace.values[value].axis
            if axis is None:
                self._left_out[f"output {part}".rstrip()] = _NO_AXIS
            else:
                outputs.append(Output(part, self._take(value), axis, value))
        if not outputs:
            raise DataError(
                "no output of the network has a row for each sample: record the inner module that "
                "returns its scores."
            )
        return outputs

    def _all_layers(self) -> list[Layer]:
        """Return a layer for each value that the user selected."""
        ends = set(self._trace.outputs.values())
        return [
            Layer(self._selected[value].name, output=value in ends)
            for value in sorted(self._selected)
        ]

    def _carrier(self, values: Sequence[int]) -> int:
        """Return the value to record among several that differ in shape only."""
        with_samples = [v for v in values if self._trace.values[v].axis is not None]
        returned = [v for v in with_samples if self._trace.values[v].places]
        if not with_samples:
            value = self._trace.values[values[0]]
            where = "" if value.origin is None else f" in module {value.origin.module!r}"
            raise DataError(
                f"the result of {value.operator}{where} has no axis for samples only (its shape "
                f"for 3 samples is {value.shape}): give each sample a row of its own, or select "
                "other modules by name."
            )
        return (returned or with_samples)[0]

    def _take(self, number: int, operator: str | None = None) -> str:
        """Select a value and return its name; ``operator`` computed it, apart from its shape."""
        if number not in self._selected:
            value = self._trace.values[number]
            assert value.axis is not None
            shape = value.shape[: value.axis] + value.shape[value.axis + 1 :]
            source = self._source(value)
            operator = operator or value.operator
            name = self._name(value, operator)
            self._selected[number] = SelectedTensor(
                name, operator, source, value.axis, shape, number
            )
        return self._selected[number].name

    def _source(self, value: Value) -> Place | Origin:
        source = value.places[0] if value.places else value.origin
        assert source is not None
        return source

    def _name(self, value: Value, operator: str) -> str:
        """Name a value after the module that returns it, or the one that computes it."""
        source = self._source(value)
        if value.places:
            place = value.places[0]
            text = place.module or "network"
            text += f"#{place.call + 1}" if self._calls[place.module] > 1 else ""
            return f"{text}.{place.result}" if place.result else text
        name = f"{source.module}/{operator}".lstrip("/")
        used = {tensor.name for tensor in self._selected.values()}
        number = 2
        text = name
        while text in used:
            text, number = f"{name}#{number}", number + 1
        return text

    def _module(self, number: int) -> str | None:
        value = self._trace.values[number]
        return value.places[0].module if value.places else None

    def _groups(self, number: int) -> int:
        module = self._modules.get(self._module(number) or "")
        return int(getattr(module, "groups", 1))

    def _operator(self, layer: FoundLayer, number: int) -> str:
        # A Gemm on flattened rows is a MatMul in ONNX, which keeps the axes.
        flat = len(self._trace.values[number].shape) == 2
        return "MatMul" if layer.operator == "Gemm" and not flat else layer.operator

    def _select_all(self) -> None:
        for number, value in enumerate(self._trace.values):
            if not value.places or not value.floating:
                continue
            if value.axis is None:
                self._left_out[self._name(value, "")] = _NO_AXIS
            else:
                self._take(number)

    def _select_named(self, patterns: Sequence[Pattern]) -> None:
        for pattern in patterns:
            if not isinstance(pattern, (str, type)):
                raise UsageError(
                    f"modules={pattern!r}: use one of {', '.join(_RULES)}, or names or types of "
                    "modules."
                )
            matching = {
                name
                for name, module in self._modules.items()
                if (
                    fnmatchcase(name, pattern)
                    if isinstance(pattern, str)
                    else isinstance(module, pattern)
                )
            }
            values = {
                number: value
                for number, value in enumerate(self._trace.values)
                if any(place.module in matching for place in value.places)
            }
            if not values:
                shown = repr(pattern) if isinstance(pattern, str) else pattern.__name__
                examples = ", ".join([name for name in self._modules if name][:8])
                raise UsageError(
                    f"modules: {shown} matches no module that runs. The modules are {examples}, …"
                )
            for number, value in values.items():
                if value.axis is None:
                    self._carrier([number])
                self._take(number)
