"""Golden outputs from the file itself: the outputs of its network for random inputs, if it has an architecture."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.porting.interpreter import onnx_runtime
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import Interpretation, called, input_names, interpret, output_names
from frostline.porting.interpreter.random_inputs import PREPARING, prepared_by, samples
from frostline.porting.proof import axis_orders
from frostline.porting.proof.module_outputs import Golden, outputs_of
from frostline.porting.proof.names_of_values import input_order, output_order
from frostline.porting.proof.partial import ComparisonPoint, depends_on_kept, find_comparison_point

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.readers.contract import Source

KIND = "an interpretation of the file's own graph in float64"
REASON = "a comparison with the file's own graph"


@dataclass(frozen=True)
class Reference:
    """The outputs with which a module is compared.

    Attributes:
        source: The file.
        goldens: The golden outputs of the user; or those of the file's network, one for each order of axes in which the
            module can be run. The module has to reproduce one of them.
        inputs: The inputs of the file's network, channels last; empty if it was not run.
        shapes: By layer of the file: the shape of its output.
        notes: The reason if there are no golden outputs although the file contains the architecture.
    """

    source: Source
    goldens: tuple[Golden, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    shapes: Mapping[str, tuple[int, ...]] = field(default_factory=dict[str, tuple[int, ...]])
    notes: tuple[str, ...] = ()


def reference_of(source: Source, plan: PortPlan, model: nn.Module, seed: int = 0) -> Reference:
    """Compute the network of a file on random inputs.

    Args:
        source: The content of the file, which is open.
        plan: The plan of the port; a partial port is compared at its last ported layers.
        model: The module, with any weights: it is run to find the form of its inputs and outputs.
        seed: The seed of the inputs.
    """
    if not source.layers or source.framework not in ("keras", "onnx"):
        return Reference(source)
    preparing = {layer.name for layer in source.layers if layer.kind in PREPARING}
    point = find_comparison_point(source, plan, model) if plan.kept or set(plan.unused) - preparing else None
    if isinstance(point, str):
        return Reference(source, notes=(f"The outputs were not compared with the file's graph: {point}.",))
    try:
        if source.framework == "onnx":
            found = _of_onnx(source, plan.path, model, seed, point)
        else:
            found = _of_keras(source, model, seed, point)
    except NotInterpretedError as error:
        return Reference(source, notes=(f"The file's graph was not run: {error}.",))
    if point is not None and found.goldens and depends_on_kept(plan, model, found.goldens[0].inputs, point.at):
        why = "layers that keep their values precede layers that were ported"
        return Reference(source, notes=(f"The outputs were not compared with the file's graph: {why}.",))
    return found


def _of_keras(source: Source, model: nn.Module, seed: int, point: ComparisonPoint | None) -> Reference:
    source = point.source if point is not None else source
    inputs = samples(source, seed)
    found = interpret(source, inputs)
    goldens = tuple(forms_of(source, model, inputs, found, point))
    return Reference(source, goldens, inputs, found.shapes, () if goldens else (_misshaped(found.outputs),))


def _of_onnx(source: Source, path: str, model: nn.Module, seed: int, point: ComparisonPoint | None) -> Reference:
    at, layers = (point.at, point.layers) if point is not None else ((), ())
    made = {layer.name: layer.config.get("output", ()) for layer in source.layers}
    values = [name for layer in layers for name in made[layer][:1]]
    given_inputs, computed = onnx_runtime.run(source, path, seed, values)
    inputs = tuple(list(given_inputs.values())[place] for place in input_order(model, list(given_inputs)))
    taken = inputs[0] if len(inputs) == 1 else inputs
    order = output_order(model, taken, list(computed)) if point is None else range(len(computed))
    outputs = tuple(list(computed.values())[place] for place in order)
    given = outputs_of(model, taken, at)
    if given is None or not outputs or not _are_shaped(given, outputs):
        return Reference(source, notes=(_misshaped(outputs),))
    golden = Golden(taken, outputs, f"{onnx_runtime.NAME} on random inputs", onnx_runtime.NAME, at, layers)
    return Reference(source, (golden,))


def _misshaped(outputs: tuple[Tensor, ...]) -> str:
    if not outputs:
        return "The outputs were not compared with the file's graph: nothing in it gives what the module returns."
    shapes = ", ".join(str(tuple(one.shape)) for one in outputs)
    return f"The file's graph returns outputs of shape {shapes} for random inputs; the module takes or returns others."


def forms_of(
    source: Source,
    model: nn.Module,
    inputs: tuple[Tensor, ...],
    found: Interpretation,
    point: ComparisonPoint | None = None,
) -> Iterator[Golden]:
    """The golden outputs of a file's network, in every order of axes in which the module can be run.

    Args:
        source: The file.
        model: The module.
        inputs: The inputs in the form that the network takes.
        found: The outputs of the network for them.
        point: The layers at which both are compared, if the port is partial.
    """
    parameter = next((one for one in model.parameters() if one.is_floating_point()), torch.zeros(()))
    at, layers = (point.at, point.layers) if point is not None else ((), ())
    wanted = [("", found.outputs), *([(", before its last activation", found.before)] if found.before else [])]
    by_argument = input_order(model, input_names(source))
    for suffix, prepared in _prepared(source, inputs):
        values = tuple(prepared[place] for place in by_argument)
        for order, arranged in axis_orders.of_inputs(values):
            made: Any = tuple(
                one.to(parameter.device, parameter.dtype if one.is_floating_point() else one.dtype) for one in arranged
            )
            taken = made[0] if len(made) == 1 else made
            given = outputs_of(model, taken, at)
            by_entry = output_order(model, taken, _ends(source, found)) if point is None else []
            for ending, of_file in wanted:
                outputs = tuple(of_file[place] for place in by_entry) if by_entry else of_file
                for form in axis_orders.of_outputs(outputs):
                    if given is not None and _are_shaped(given, form):
                        yield Golden(taken, form, f"{KIND}{ending}{suffix} ({order})", REASON, at, layers)


def _ends(source: Source, found: Interpretation) -> tuple[str, ...]:
    """The names of the outputs, if a network has several."""
    return output_names(source) if len(found.outputs) > 1 else ()


def _are_shaped(given: list[Tensor], wanted: tuple[Tensor, ...]) -> bool:
    return len(given) >= len(wanted) and all(
        one.shape == other.shape for one, other in zip(given, wanted, strict=False)
    )


def _prepared(source: Source, inputs: tuple[Tensor, ...]) -> Iterator[tuple[str, tuple[Tensor, ...]]]:
    """The inputs, and the inputs after layers that only rescale them: the module may not have these layers."""
    yield "", inputs
    made, names = list(inputs), list[str]()
    for index, name in enumerate(input_names(source)):
        last = name
        while (after := prepared_by(source, last)) is not None:
            last = after.name
            names.append(last)
            made[index] = called(source, after, (made[index],))
    if names:
        yield f", on inputs after its {' and '.join(names)}", tuple(made)
