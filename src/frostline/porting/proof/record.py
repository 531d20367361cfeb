"""The certificate of a finished port."""

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
    """The certificate of a port; the caller adds the digests of the files.

    Args:
        plan: The plan that was carried out.
        beside: The source network.
        model: The module with the ported weights.
        runs: Comparisons of outputs.
        checks: Comparisons of settings.
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
