"""Weights of another framework into your own module: read, plan, write, prove."""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from frostline.core.arguments import as_name, as_path, check_model
from frostline.core.doors import public
from frostline.core.errors import DataError
from frostline.core.layers import check_initialized, unwrapped
from frostline.porting.certificate import Certificate
from frostline.porting.plan.execution import carry_out
from frostline.porting.plan.port_plan import make_plan
from frostline.porting.proof.golden import as_golden, check_taken, fitted
from frostline.porting.proof.outputs import Golden
from frostline.porting.proof.padding import with_padding
from frostline.porting.proof.record import certificate_of
from frostline.porting.proof.reference import Reference, reference_of
from frostline.porting.proof.reopened import settle_or_reopen
from frostline.porting.proof.statistics import compare_statistics
from frostline.porting.proof.trials import prove, repeated
from frostline.porting.readers.digests import digests_beside
from frostline.porting.readers.formats import open_source
from frostline.porting.settings.comparison import Compared

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.readers.contract import Source


@public("frostline.port(source, model)", alone="model(inputs)")
def port(
    source: str | Path,
    model: nn.Module,
    *,
    hints: Mapping[str, str] | None = None,
    partial: bool = False,
    adapt: bool = False,
    golden: Any = None,
    key: str | None = None,
    like: Certificate | None = None,
) -> Certificate:
    """Load the weights of another framework into a module, and say how far that is proven.

    The file is read as data, without its framework; no code of it is run. Each layer of the file becomes the layer of
    the module that has its type and shape, told apart by the flow of values, by names and by order. Where these leave
    more than one way, golden outputs decide, or an error lists them: nothing is guessed. Files of Keras and ONNX that
    carry their architecture bring golden outputs of their own: their network is computed, and the module beside it.

    Args:
        source: The path of a file of weights; the formats are listed in docs/formats.md.
        model: The module that takes them, changed in place; it is unchanged if an error is raised.
        hints: Which layer of the file becomes which layer of the module, by name, where that cannot be told.
        partial: Whether layers may be left over on both sides, such as a head of other classes. They are listed in the
            certificate.
        adapt: Whether settings of layers that the file states and the module has otherwise (epsilon, momentum) are set.
        golden: Inputs and the outputs of the source network for them, as the module takes and gives them:
            `(inputs, outputs)`, or the path of a `.npz` file with arrays `inputs` and `outputs`. Without outputs
            (`(inputs, None)`) at least 16 real samples, of which the values that reach BatchNorm layers are compared
            with the running statistics in the file.
        key: The entry of the file that holds the weights, if it holds several networks.
        like: The certificate of an earlier port of the same file, whose choices are made again.

    Returns:
        The certificate; `print` it.

    Raises:
        PortError: If the file cannot be read, or its layers are not those of the module, or the outputs differ.
        AmbiguousPortError: If several assignments fit as well; `alternatives` lists them.

    Example:
        >>> import torch, frostline as fl
        >>> from safetensors.torch import save_file
        >>> source = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2))
        >>> save_file(source.state_dict(), "source.safetensors")
        >>> class Mine(torch.nn.Module):
        ...     def __init__(self):
        ...         super().__init__()
        ...         self.hidden, self.out = torch.nn.Linear(4, 8), torch.nn.Linear(8, 2)
        ...     def forward(self, x):
        ...         return self.out(self.hidden(x).relu())
        >>> certificate = fl.port("source.safetensors", Mine())
        >>> certificate.units()
        {'0': 'hidden', '2': 'out'}
    """
    check_model("port", model, needs=())
    model, _ = unwrapped(model)
    check_initialized(model, "port(source, model)")
    check_model("port", model)
    path = as_path("port", "source", source)
    key = as_name("port", "key", key) if key is not None else None
    wanted, converted = fitted(as_golden(golden), model) if golden is not None else (None, ())
    if wanted is not None:
        check_taken(wanted, model)
    if like is not None and not isinstance(cast("object", like), Certificate):
        raise DataError(
            what="An earlier port is told by its certificate.", where="port(like=...)",
            received=f"a value of type {type(like).__name__}", do="pass what an earlier call of port returned.",
        )  # fmt: skip
    with open_source(path, key) as (content, file), digests_beside(file) as digests, ExitStack() as undo:
        path = file.path if path.is_dir() else path

        def planned(*, has_names: bool) -> PortPlan:
            made = make_plan(content, str(path), model, hints=hints, partial=partial, inputs=wanted and wanted.inputs,
                             has_names=has_names, has_orders=has_names and like is None)  # fmt: skip
            return replace(made, notes=(*made.notes, *converted))

        plan = planned(has_names=True)
        plan = repeated(plan, like) if like is not None else plan
        beside = _reference(content, plan, model, wanted, like)
        settings = Compared(content, model, beside.shapes, undo if adapt else None).by(plan)
        plan, alternatives = settle_or_reopen(
            plan, lambda: planned(has_names=False), model, beside, settings.causes()
        )  # fmt: skip
        settings = settings.by(plan)  # layers that were open have their partners now
        undo.callback(carry_out(plan, model))
        runs = prove(plan, model, beside, alternatives, settings.causes())
        checks = settings.checks(has_run=any(not run.layers for run in runs)) + plan.assumed
        checks = with_padding(checks, beside, model)
        if wanted is not None and not wanted.outputs:
            checks += compare_statistics(model, wanted.inputs, plan)
        made = certificate_of(plan, beside, model, runs, checks)
        sha256, files = digests()
        made = replace(made, sha256=sha256, files=files, key=key or "", is_adapted=adapt)
        file.check_unchanged()
        undo.pop_all()
    return made


def _reference(
    content: Source, plan: PortPlan, model: nn.Module, golden: Golden | None, like: Certificate | None
) -> Reference:  # fmt: skip
    """What the module is compared with; a port that golden outputs proved is not compared with anything less."""
    if golden is not None and golden.outputs:
        return Reference(content, (golden,))
    if like is not None and any(run.kind == Golden.kind for run in like.runs):
        return Reference(content, notes=("The golden outputs of the earlier port were not given again.",))
    return reference_of(content, plan, model)
