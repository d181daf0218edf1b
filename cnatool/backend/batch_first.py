"""Inputs that cannot take samples along their first axis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ModelInput


def find_unfit_inputs(graph: Graph, inputs: Sequence[ModelInput]) -> dict[str, ModelError]:
    """Return an error for each input whose first axis is not that of the samples, by its name."""
    errors: dict[str, ModelError] = {}
    symbols = _list_output_symbols(graph)
    free = next((target for target in inputs if target.dims and target.batch is None), None)
    for target in inputs:
        if target.dims == ():
            errors[target.name] = ModelError(
                f"input {target.name!r} is one number, with no axis for samples. "
                f"Set it with `constants={{{target.name!r}: VALUE}}`."
            )
        # Of a model bound to one sample the batch axis may be squeezed away.
        elif target.batch in (None, 1):
            continue
        elif free is not None:
            errors[target.name] = ModelError(
                f"input {target} has {target.batch} along its first axis, and {free.name!r} any "
                f"number, so its samples seem to lie {_find_axis(target, free)}, and they must be "
                f"along the first. Set it with `constants={{{target.name!r}: VALUE}}` if it is the "
                "same for every sample, or export the model with the batch first, or with a "
                "Transpose behind that input."
            )
        elif len(symbols) == 1 and symbols.intersection(target.dims or ()):
            (symbol,) = symbols
            axis = (target.dims or ()).index(symbol)
            errors[target.name] = ModelError(
                f"input {target} has its samples along axis {axis}, as the outputs show, whose "
                f"first axis is {symbol!r}; they must be along its first. Export the model with "
                "the batch first, or with a Transpose behind that input."
            )
    return errors


def join_errors(graph: Graph, errors: Iterable[ModelError]) -> ModelError:
    """Join errors about the inputs of a model into one."""
    first, *others = map(str, errors)
    sentences = [first, *(text[0].upper() + text[1:] for text in others)]
    return ModelError(f"{graph.path}: {' '.join(sentences)}")


def _list_output_symbols(graph: Graph) -> set[str]:
    """List the names of the outputs' first axes."""
    shapes = [
        output.type.tensor_type.shape.dim
        for output in graph.model.graph.output
        if output.type.HasField("tensor_type")
    ]
    return {shape[0].dim_param for shape in shapes if shape} - {""}


def _find_axis(target: ModelInput, free: ModelInput) -> str:
    """Describe the axis that holds the samples: the one of the other input's name, or free."""
    dims = target.dims or ()
    named = [i for i, size in enumerate(dims) if size is not None and size == free.batch_symbol]
    open_axes = named or [i for i, size in enumerate(dims) if not isinstance(size, int)]
    if len(open_axes) != 1:
        return "along another axis"
    (axis,) = open_axes
    return f"along axis {axis}" + (f" ({dims[axis]!r})" if named else "")
