"""`port`: load the weights of another framework into a module, and prove the result."""

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
from frostline.porting.proof.module_outputs import Golden
from frostline.porting.proof.padded_inputs import with_padding
from frostline.porting.proof.record import certificate_of
from frostline.porting.proof.reference import Reference, reference_of
from frostline.porting.proof.reopened import settle_or_reopen
from frostline.porting.proof.running_statistics import compare_statistics
from frostline.porting.proof.trials import prove, repeated
from frostline.porting.readers.file_digests import digests_in_background
from frostline.porting.readers.formats import open_source
from frostline.porting.scaffold.written import NOTE, keeps_axes
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
    """Load the weights of another framework into a module, and certify how far the result is proven.

    The file is read as data, without its framework; no code in it is run. Each layer of the file is assigned to a layer
    of the module with the same type and shape. Among several such layers the flow of values, names and order decide; if
    they are not sufficient, golden outputs decide, or an error lists the candidates. Nothing is guessed. If a Keras or
    ONNX file contains the architecture, the source network is computed on random inputs, and the outputs of the module
    are compared with its outputs.

    Args:
        source: The path of a file of weights; docs/formats.md lists the formats.
        model: The module to load the weights into, changed in place. If an error is raised, it is unchanged.
        hints: For layers that cannot be assigned without help: the name of the layer in the file, and the name of the
            layer in the module. A `*` stands for the same text in both: `{"block_*/conv": "blocks.*.conv"}`.
        partial: Whether layers may remain unassigned on both sides, such as a head with other classes. The certificate
            lists them.
        adapt: Whether to set attributes of the module (epsilon, momentum, dropout, slopes, the variant of GELU) to the
            values that a Keras file states.
        golden: Golden outputs: `(inputs, outputs)`, or the path of a `.npz` file with arrays `inputs` and `outputs`.
            `inputs` are in the form that the module takes; `outputs` are those of the source network, in the form that
            the module returns. `(inputs, None)` with at least 16 real samples compares the values that enter the
            BatchNorm layers with the running statistics in the file.
        key: The entry of the file that holds the weights, if the file holds several networks.
        like: The certificate of an earlier port of the same file; its choices are repeated.

    Returns:
        The certificate; `print` it for a summary.

    Raises:
        PortError: If the file cannot be read, layers have no partner, or the outputs differ.
        AmbiguousPortError: If several assignments fit equally well; `alternatives` lists them.

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
            what="`like` takes the certificate of an earlier port.", where="port(like=...)",
            received=f"a value of type {type(like).__name__}", do="pass the certificate that an earlier port returned.",
        )  # fmt: skip
    with open_source(path, key) as (content, file), digests_in_background(file) as digests, ExitStack() as undo:
        path = file.path if path.is_dir() else path
        is_own = keeps_axes(content, str(path), model)
        notes = (*converted, *([NOTE] if is_own else []))

        def planned(*, has_names: bool) -> PortPlan:
            made = make_plan(content, str(path), model, hints=hints, partial=partial, inputs=wanted and wanted.inputs,
                             has_names=has_names, has_orders=has_names and like is None, keeps_axes=is_own)  # fmt: skip
            return replace(made, notes=(*made.notes, *notes))

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
    """The outputs to compare with; if golden outputs proved the earlier port, nothing weaker replaces them."""
    if golden is not None and golden.outputs:
        return Reference(content, (golden,))
    if like is not None and any(run.kind == Golden.kind for run in like.runs):
        return Reference(content, notes=("The golden outputs of the earlier port were not passed again.",))
    return reference_of(content, plan, model)
