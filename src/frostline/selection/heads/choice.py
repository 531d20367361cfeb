"""Chooses how heads are computed together: the quickest way that gives, on a batch, what each gives alone."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core.errors import FOREIGN, FrostlineError
from frostline.core.restore import generator_states
from frostline.core.tolerances import relative_difference
from frostline.selection.head_settings import HeadSetting
from frostline.selection.heads.contract import Features, Heads, Ways
from frostline.selection.heads.flat import FlatHeads
from frostline.selection.heads.looped import LoopedHeads
from frostline.selection.heads.noise import OwnNoise
from frostline.selection.heads.stacked import StackedHeads

if TYPE_CHECKING:
    from frostline.selection.variants import OutputLayer

# Relative to the largest value; float32 differs by 1e-6 between a product of one head and of sixteen.
_TOLERANCE = 1e-4
_Make = Callable[[Sequence[nn.Module], Sequence[HeadSetting]], Heads]
# Plain steps at this rate: an adaptive step turns the last bits of a gradient of almost zero into a whole step.
_TRIAL: dict[str, Any] = {"optimizer": "sgd", "lr": 1.0, "weight_decay": 0.0}
_MOVED = (
    0.1  # how far weights of a trial are moved apart, relative to their deviation: equal heads would hide a mixture
)


def make_families(
    made: Callable[[HeadSetting], nn.Module], settings: Sequence[HeadSetting], ways: Ways,
    batch: tuple[Features, Any], layer: OutputLayer | None, *, may_join: bool = True,
) -> list[Heads]:  # fmt: skip
    """The heads of one architecture, computed in the quickest way that holds; those that share no noise are apart.

    Args:
        made: Makes the head of a setting, with its weights at the start; all have the same modules.
        settings: Of the heads.
        ways: Loss and optimizers.
        batch: Features and target that the ways are compared on.
        layer: The output layer, if there is one.
        may_join: False trains them one after the other.
    """
    apart = [one for one in settings if not isinstance(one.optimizer, str) or not may_join]
    joint = [one for one in settings if one not in apart]
    families: list[Heads] = [LoopedHeads([made(one) for one in apart], apart, ways)] if apart else []
    if len(joint) < 2:
        return families + ([LoopedHeads([made(one) for one in joint], joint, ways)] if joint else [])
    is_noisy, moves_buffers = _observed(made(joint[0]), batch[0], joint[0].seed)
    groups: dict[int, list[HeadSetting]] = {}
    for one in joint:
        groups.setdefault(one.seed if is_noisy else 0, []).append(one)
    makers: list[_Make] = []
    if layer is not None and layer.is_all:
        makers.append(lambda heads, own: FlatHeads(heads, layer.name, own, ways, is_noisy=is_noisy))
    makers.append(lambda heads, own: StackedHeads(heads, own, ways, is_noisy=is_noisy))
    able = () if moves_buffers else (one for one in makers if _holds(one, made, joint[0], ways, batch))
    chosen = next(iter(able), None)
    for group in groups.values():
        heads = [made(one) for one in group]
        make = chosen if len(group) > 1 else None
        families.append(LoopedHeads(heads, group, ways) if make is None else make(heads, group))
    return families


def _observed(head: nn.Module, features: Features, seed: int) -> tuple[bool, bool]:
    """(draws random numbers in training, moves buffers in training)."""
    buffers = [(name, b, b.detach().clone()) for name, b in head.named_buffers()]
    head.train()
    with torch.no_grad(), OwnNoise(seed):
        before = generator_states()
        head(*features)
        is_noisy = not _same(before, generator_states())
    now = dict(head.named_buffers())
    return is_noisy, any(not torch.equal(now[name], copy) for name, _, copy in buffers)


def _same(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, (tuple, list)):
        return len(one) == len(other) and all(_same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, dict):
        return all(_same(one[key], other[key]) for key in one)
    return bool(one == other) if not hasattr(one, "all") else bool((one == other).all())


def _holds(
    make: _Make, made: Callable[[HeadSetting], nn.Module], setting: HeadSetting, ways: Ways,
    batch: tuple[Features, Any],
) -> bool:  # fmt: skip
    """Two heads with different weights take a step, joined and one after the other, to the same weights."""
    settings = [replace(setting, **_TRIAL)] * 2

    def apart() -> list[nn.Module]:
        generator = torch.Generator().manual_seed(0)
        heads = [made(setting) for _ in settings]
        with torch.no_grad():
            for parameter in [p for head in heads for p in head.parameters() if p.requires_grad]:
                noise = torch.randn(parameter.shape, generator=generator, dtype=torch.float32).to(parameter)
                parameter.add_(noise * (_MOVED * parameter.float().std(correction=0).clamp(min=_MOVED)).to(parameter))
        return heads

    try:
        joined = make(apart(), settings)
        alone = LoopedHeads(apart(), settings, ways)
        seen = [joined.step(*batch), *joined.evaluate(*batch)[:1]]
    except (FrostlineError, *FOREIGN):  # the loop raises it again, if it is the head's own
        return False
    wanted = [alone.step(*batch), *alone.evaluate(*batch)[:1]]
    pairs = [*zip(seen, wanted, strict=True)]
    for at in range(len(settings)):
        states = joined.state(at), alone.state(at)
        pairs += [(states[0][name], states[1][name]) for name in states[0]]
    return all(relative_difference(one, other) <= _TOLERANCE for one, other in pairs)
