"""Along which axis inputs take samples, and which cannot take any."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cnatool.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from cnatool.backend.graph.graph import Graph
    from cnatool.backend.inputs import ModelInput


def find_sample_axes(graph: Graph, inputs: Sequence[ModelInput]) -> dict[str, int]:
    """Return the sample axis of each input that does not have it first, as far as it is certain.

    It has the name of another input's first axis, or of the outputs', or a name that says so; or it
    is the only one that is free, beside an input whose first axis is.
    """
    axes: dict[str, int] = {}
    named = {target.name: _find_axes(target, _is_batch) for target in inputs}
    firsts = {target.batch_symbol for target in inputs if named[target.name] in ([], [0])} - {None}
    outputs = _list_output_symbols(graph)
    for target in inputs:
        found = named[target.name]
        if not found and len(firsts) == 1:
            found = _find_axes(target, firsts.__contains__)
        if not found and target.batch not in (None, 1):
            if len(outputs) == 1:
                found = _find_axes(target, outputs.__contains__)
            if not found and _find_free(inputs) is not None:
                found = _find_axes(target, lambda size: not isinstance(size, int))
        if len(found) == 1 and found != [0]:
            axes[target.name] = found[0]
    return axes


def _find_axes(target: ModelInput, fits: Callable[[int | str | None], bool]) -> list[int]:
    return [axis for axis, size in enumerate(target.dims or ()) if fits(size)]


def find_unfit_inputs(inputs: Sequence[ModelInput]) -> dict[str, ModelError]:
    """Return an error for each input whose first axis is not that of the samples, by its name."""
    errors: dict[str, ModelError] = {}
    free = _find_free(inputs)
    for target in inputs:
        if target.dims == ():
            errors[target.name] = ModelError(
                f"input {target.name!r} is one number, with no axis for samples. "
                f"Set it with `constants={{{target.name!r}: VALUE}}`."
            )
        # Of a model bound to one sample the batch axis may be squeezed away.
        elif target.batch not in (None, 1) and free is not None:
            errors[target.name] = ModelError(
                f"input {target} has {target.batch} along its first axis, and {free.name!r} any "
                "number, so its samples seem to lie along another axis. Set it with "
                f"`constants={{{target.name!r}: VALUE}}` if it is the same for every sample, or "
                "export the model with the batch first, or with a Transpose after that input."
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


def _find_free(inputs: Sequence[ModelInput]) -> ModelInput | None:
    """Return an input that takes any number of samples along its first axis."""
    return next((target for target in inputs if target.dims and target.batch is None), None)


def _is_batch(size: int | str | None) -> bool:
    """Whether the name of an axis says that samples lie along it."""
    return isinstance(size, str) and "batch" in size.lower()
