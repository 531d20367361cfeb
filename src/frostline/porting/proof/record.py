"""What was done and found in a port, as its certificate."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from frostline.porting.certificate import Certificate, Mapped, sentences
from frostline.porting.plan.execution import written_digests
from frostline.porting.units.unit import current_value, full_name

if TYPE_CHECKING:
    from torch import nn

    from frostline.porting.certificate import Check, Run
    from frostline.porting.plan.port_plan import PortPlan
    from frostline.porting.proof.reference import Reference


def certificate_of(
    plan: PortPlan, beside: Reference, model: nn.Module, runs: tuple[Run, ...], checks: tuple[Check, ...]
) -> Certificate:  # fmt: skip
    """The certificate of a port; digests of the files come from the file.

    Args:
        plan: What was written.
        beside: What the module was compared with.
        model: The module, filled.
        runs: Outputs that were compared.
        checks: Settings that were compared.
    """
    content = beside.source
    digests = written_digests(plan)
    mapping = tuple(
        Mapped(
            full_name(step.target, move.target), tuple(step.source.leaves[leaf].name for leaf in move.sources),
            move.text(), step.source.name, step.target.name, step.reason, round(step.margin, 3),
            digests[full_name(step.target, move.target)], move.combine is not None,
        )
        for step in plan.steps
        for move in step.moves
    )  # fmt: skip
    pairs = Counter(
        (
            step.source.leaves[move.sources[0]].dtype,
            str(current_value(step.target, move.target).dtype).removeprefix("torch."),
        )
        for step in plan.steps
        for move in step.moves
        if move.sources
    )
    converted = {(own, new): count for (own, new), count in pairs.items() if own != new}
    conversions = tuple(f"{count} tensors converted from {own} to {new}" for (own, new), count in converted.items())
    proven, tested, unknown = sentences(mapping, runs, checks, converted=sum(converted.values()))
    return Certificate(
        file=plan.path, sha256="", format=content.format, framework=content.framework, model=type(model).__name__,
        mapping=mapping, kept=plan.kept, unused=plan.unused, dropped=dict(plan.dropped), checks=checks, runs=runs,
        notes=(*plan.notes, *conversions, *beside.notes), proven=proven, tested=tested, unknown=unknown,
    )  # fmt: skip
