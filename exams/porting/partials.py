"""Ports of the backbone alone: the module has a head of other classes, which must stay as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from .by_hand import by_hand
from .trials import attempt

if TYPE_CHECKING:
    from frostline.porting.certificate import Certificate

    from .stored import Stored
    from .trials import Verdict

MODE = "partial"


def headless(network: Stored, file: str) -> Verdict | None:
    """Port into a module whose last layer has three outputs more; the right one is put in its place afterwards.

    Returns:
        The verdict; None if the network has no linear layer of its own at its end.
    """
    right = network.counterpart.build().eval()
    right.load_state_dict(by_hand(right, network.arrays, network.counterpart.pairs, network.framework))
    name = head_of(right, network.golden("input"))
    if not name:
        return None
    head = right.get_submodule(name)
    other = nn.Linear(head.in_features, head.out_features + 3, bias=head.bias is not None)
    before = other.weight.detach().clone()

    def restore(module: nn.Module, certificate: Certificate) -> str:
        if not torch.equal(module.get_submodule(name).weight, before):
            raise ValueError("the port changed a head of other classes")
        module.set_submodule(name, head)
        left = [kept for kept in certificate.kept if not kept.startswith(name)]
        return f"The certificate says that it left out more than the head: {', '.join(left)}."[:500] if left else ""

    def exchange(module: nn.Module) -> None:
        module.set_submodule(name, other)

    return attempt(network, file, MODE, change=exchange, finish=restore, partial=True)


def head_of(module: nn.Module, inputs: list[Tensor]) -> str:
    """The name of the linear layer whose output is that of the module; empty if there is none, or it is used twice."""
    calls: list[tuple[str, Tensor]] = []

    def note(name: str) -> object:
        return lambda layer, args, output: calls.append((name, output))

    layers = {name: part for name, part in module.named_modules() if isinstance(part, nn.Linear)}
    handles = [part.register_forward_hook(note(name)) for name, part in layers.items()]
    with torch.no_grad():
        found = module(*inputs)
    for handle in handles:
        handle.remove()
    names = [name for name, output in calls if output is found]
    owners = [id(value) for part in module.modules() for value in part.parameters(recurse=False)]
    is_own = bool(names) and owners.count(id(layers[names[0]].weight)) == 1
    return names[0] if is_own and [name for name, _ in calls].count(names[0]) == 1 else ""
