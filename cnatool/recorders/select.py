"""Which values of a watched network are recorded, under which names."""

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
One = str | type
Modules = One | tuple[One, ...] | list[One]

_RULES = ("preactivation", "linear", "all")
_NO_AXIS = "its result has no axis for the samples alone"


@dataclass(frozen=True, slots=True)
class SelectedTensor:
    """A value that is recorded.

    Attributes
    ----------
    name, operator : str
        The tensor's in the store.
    source : Place or Origin
        What gives it: a module, or an operator that runs in one.
    axis : int
        The samples'.
    shape : tuple of int
        Of one sample.
    value : int
        Its place in the trace.
    """

    name: str
    operator: str
    source: Place | Origin
    axis: int
    shape: tuple[int, ...]
    value: int


@dataclass(frozen=True, slots=True)
class Output:
    """What the network gives.

    Attributes
    ----------
    part : str
        Its name in the network's result.
    name : str
        Its tensor's in the store.
    axis : int
        The samples'.
    value : int
        Its place in the trace.
    """

    part: str
    name: str
    axis: int
    value: int


@dataclass(frozen=True, slots=True)
class Selection:
    """What is recorded of a network.

    Attributes
    ----------
    tensors : list of Chosen
        In execution order.
    layers : list of Layer
        The linear operators.
    modules : dict of str to str
        By layer, the module whose weights it multiplies with; without those that no module has.
    normalisers : dict of str to str
        By layer, the module alone between its linear tensor and its pre-activation.
    left_out : dict of str to str
        Modules and outputs of the network that are not recorded, and why.
    outputs : list of Output
        The network's outputs.
    """

    tensors: list[SelectedTensor]
    layers: list[Layer]
    modules: dict[str, str]
    normalisers: dict[str, str]
    left_out: dict[str, str]
    outputs: list[Output]


def select_values(named: Mapping[str, Any], trace: Trace, modules: Modules) -> Selection:
    """Choose values and name them."""
    return _Selector(named, trace).choose(modules)


class _Selector:
    def __init__(self, named: Mapping[str, Any], trace: Trace) -> None:
        self._modules = named
        self._trace = trace
        self._calls = Counter(
            {p.module: p.call + 1 for value in trace.values for p in value.places}
        )
        self._chosen: dict[int, SelectedTensor] = {}
        self._left_out: dict[str, str] = {}

    def choose(self, modules: Modules) -> Selection:
        found = find_layers(self._trace.steps, self._trace.outputs.values())
        layers: list[Layer] = []
        sources: dict[str, str] = {}
        normalisers: dict[str, str] = {}
        if isinstance(modules, str) and modules in _RULES:
            if not found:
                raise UsageError(
                    "the network has no linear operator that can be seen: name modules=…, and "
                    "record a compiled network before it is compiled."
                )
            for layer in found:
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
                self._all()
        else:
            given = list(modules) if isinstance(modules, (tuple, list)) else [modules]
            self._named(given)
        layers = layers or self._all_layers()
        outputs = self._outputs()
        tensors = [self._chosen[value] for value in sorted(self._chosen)]
        return Selection(tensors, layers, sources, normalisers, self._left_out, outputs)

    def _outputs(self) -> list[Output]:
        """Record outputs as tensors too: what makes one tells scores from probabilities."""
        found = []
        for part, value in self._trace.outputs.items():
            axis = self._trace.values[value].axis
            if axis is None:
                self._left_out[f"output {part}".rstrip()] = _NO_AXIS
            else:
                found.append(Output(part, self._take(value), axis, value))
        if not found:
            raise DataError(
                "no output of the network has a row for each sample: record the module inside "
                "that gives its scores."
            )
        return found

    def _all_layers(self) -> list[Layer]:
        """Return a layer for each value that was chosen by hand."""
        ends = set(self._trace.outputs.values())
        return [
            Layer(self._chosen[value].name, output=value in ends) for value in sorted(self._chosen)
        ]

    def _carrier(self, values: Sequence[int]) -> int:
        """Return the value to record of several that differ in their shape alone."""
        with_samples = [v for v in values if self._trace.values[v].axis is not None]
        given = [v for v in with_samples if self._trace.values[v].places]
        if not with_samples:
            value = self._trace.values[values[0]]
            where = "" if value.origin is None else f" in module {value.origin.module!r}"
            raise DataError(
                f"the result of {value.operator}{where} has no axis that is the samples' alone "
                f"(its shape for 3 samples is {value.shape}): give each sample a row of its own, "
                "or choose other modules by name."
            )
        return (given or with_samples)[0]

    def _take(self, number: int, operator: str | None = None) -> str:
        """Record a value, and give its name; ``operator`` made it but for its shape."""
        if number not in self._chosen:
            value = self._trace.values[number]
            assert value.axis is not None
            shape = value.shape[: value.axis] + value.shape[value.axis + 1 :]
            source = self._source(value)
            operator = operator or value.operator
            name = self._name(value, operator)
            self._chosen[number] = SelectedTensor(name, operator, source, value.axis, shape, number)
        return self._chosen[number].name

    def _source(self, value: Value) -> Place | Origin:
        source = value.places[0] if value.places else value.origin
        assert source is not None
        return source

    def _name(self, value: Value, operator: str) -> str:
        """Name a value after the module that gives it, or the one in which it is made."""
        source = self._source(value)
        if value.places:
            place = value.places[0]
            text = place.module or "network"
            text += f"#{place.call + 1}" if self._calls[place.module] > 1 else ""
            return f"{text}.{place.result}" if place.result else text
        name = f"{source.module}/{operator}".lstrip("/")
        taken = {one.name for one in self._chosen.values()}
        number = 2
        text = name
        while text in taken:
            text, number = f"{name}#{number}", number + 1
        return text

    def _module(self, number: int) -> str | None:
        value = self._trace.values[number]
        return value.places[0].module if value.places else None

    def _groups(self, number: int) -> int:
        module = self._modules.get(self._module(number) or "")
        return int(getattr(module, "groups", 1))

    def _operator(self, layer: FoundLayer, number: int) -> str:
        # What is a Gemm on the flat rows of samples is a MatMul to ONNX, which keeps their axes.
        flat = len(self._trace.values[number].shape) == 2
        return "MatMul" if layer.operator == "Gemm" and not flat else layer.operator

    def _all(self) -> None:
        for number, value in enumerate(self._trace.values):
            if not value.places or not value.floating:
                continue
            if value.axis is None:
                self._left_out[self._name(value, "")] = _NO_AXIS
            else:
                self._take(number)

    def _named(self, given: Sequence[One]) -> None:
        for one in given:
            if not isinstance(one, (str, type)):
                raise UsageError(
                    f"modules={one!r}: one of {', '.join(_RULES)}, or names and types of modules."
                )
            matching = {
                name
                for name, module in self._modules.items()
                if (fnmatchcase(name, one) if isinstance(one, str) else isinstance(module, one))
            }
            values = {
                number: value
                for number, value in enumerate(self._trace.values)
                if any(place.module in matching for place in value.places)
            }
            if not values:
                named = repr(one) if isinstance(one, str) else one.__name__
                known = ", ".join([name for name in self._modules if name][:8])
                raise UsageError(
                    f"modules: {named} matches no module that runs. Modules are {known}, …"
                )
            for number, value in values.items():
                if value.axis is None:
                    self._carrier([number])
                self._take(number)
