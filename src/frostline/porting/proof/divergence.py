"""The first layer whose outputs differ between a module and its source network, for the error of a failed proof.

Legend: B batch, T time.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import FOREIGN
from frostline.porting.interpreter import onnx_runtime
from frostline.porting.interpreter.layer import NotInterpretedError
from frostline.porting.interpreter.network import Interpretation, interpret
from frostline.porting.proof.axis_orders import of_outputs
from frostline.porting.proof.module_outputs import difference, in_float64, run_with_hooks, tolerance_of
from frostline.porting.units.unit import RECURRENT

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.plan.step import Step
    from frostline.porting.proof.module_outputs import Golden
    from frostline.porting.proof.reference import Reference

FIRST = "the first layer"
_SLACK = 10  # times the tolerance: rounding errors of inner layers are larger, relative to their largest value


def first_difference(plan: PortPlan, model: nn.Module, reference: Reference, golden: Golden) -> str:
    """The first layer whose outputs differ, as a clause for an error text.

    Args:
        plan: The plan that was carried out.
        model: The module with the ported weights.
        reference: The network of the file.
        golden: The inputs in the form that the module takes.
    """
    steps = {step.source.name.removesuffix("/pointwise"): step for step in plan.steps}
    given = _outputs(model, plan.steps, golden.inputs)
    found = _computed(plan, reference, golden, steps)
    limit, agreeing = _SLACK * tolerance_of(model), list[str]()
    for layer in reference.source.layers:
        step = steps.get(layer.unit or layer.name)
        if step is None or not given.get(step.target.name):
            continue
        forms = [form for values in (found.plain, found.layers) if layer.name in values
                 for form in ((values[layer.name],), *of_outputs((values[layer.name],)))]  # fmt: skip
        error = min((difference([one], form) for one in given[step.target.name] for form in forms), default=torch.inf)
        pair = f"{layer.name!r} ({layer.kind}) and {step.target.name!r} ({type(step.target.module).__name__})"
        if error == torch.inf:
            continue  # the shapes differ: one of the networks pads or crops outside of the layer
        if error > limit:
            return f"{FIRST} that differs is {pair}, by {error:.1e}; {len(agreeing)} before it agree"
        agreeing.append(pair)
    if not agreeing:
        return "all weights are assigned, but the outputs differ"
    return f"all {len(agreeing)} layers that can be compared agree: the difference comes after {agreeing[-1]}"


def _computed(plan: PortPlan, reference: Reference, golden: Golden, steps: Mapping[str, Step]) -> Interpretation:
    """The outputs of the layers of the file's network, if it was run."""
    if reference.inputs:
        return interpret(reference.source, reference.inputs, keeps_layers=True)
    if golden.reason != onnx_runtime.NAME or golden.at:
        return Interpretation(())
    # The bias of a product may be added by a node of its own, whose output is then that of the layer.
    unfinished = {
        name for layer in reference.source.layers if layer.kind == "Add" and layer.unit for name in layer.inputs
    }
    named = {layer.name: layer.config["output"][0] for layer in reference.source.layers if layer.config.get("output")
             and (layer.unit or layer.name) in steps and layer.name not in unfinished}  # fmt: skip
    try:
        _, values = onnx_runtime.run(reference.source, plan.path, values=sorted(named.values()))
    except NotInterpretedError:
        return Interpretation(())
    return Interpretation((), {name: values[value] for name, value in named.items() if value in values})


def exact_difference(plan: PortPlan, model: nn.Module, reference: Reference, golden: Golden) -> str:
    """As `first_difference`, but in float64 if layers differ: deep networks amplify rounding errors of float32."""
    where = first_difference(plan, model, reference, golden)
    if not where.startswith(FIRST):
        return where
    try:
        return first_difference(plan, copy.deepcopy(model).double(), reference, in_float64(golden))
    except FOREIGN:  # a module that creates values in float32 itself
        return where


def _outputs(model: nn.Module, steps: Sequence[Step], inputs: Any) -> dict[str, list[Tensor]]:
    """By unit: the outputs of its layer at each call."""
    given: dict[str, list[Tensor]] = {}
    handles = [
        model.get_submodule(step.target.owner).register_forward_hook(
            lambda module, args, output, name=step.target.name: given.setdefault(name, []).extend(
                _forms(module, output)
            )
        )
        for step in steps
        if step.target.name in (step.target.owner, f"{step.target.owner}:l{_last(step.target.module)}")
    ]
    run_with_hooks(model, inputs, handles)
    return given


def _last(module: nn.Module) -> int:
    return module.num_layers - 1 if isinstance(module, RECURRENT) else 0


def _forms(module: nn.Module, output: Any) -> Iterator[Tensor]:
    """The output of a layer; for a recurrent layer also its last step."""
    value = output[0] if isinstance(output, tuple) and output else output
    if isinstance(value, Tensor):
        yield value
        if isinstance(module, RECURRENT) and value.ndim == 3:
            yield value[:, -1] if module.batch_first else value[-1]
