"""What a freeze promises: parameters, buffers and modes of the frozen part stay the same, to the bit."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import nn

from frostline.core.digests import tensor_digest
from frostline.core.errors import DataError, FrostlineError
from frostline.core.layers import is_pinned

if TYPE_CHECKING:
    from collections.abc import Iterable


class FrozenState:
    """Digests of the frozen part, to be compared later.

    Args:
        model: Its frozen parameters are digested, and buffers and modes of the modules that `freeze` holds.
    """

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._before = _digests(model)

    def check(self) -> None:
        """Raise if anything of the frozen part moved, changed its mode or was taken away.

        Raises:
            FrostlineError: It names what moved.
        """
        after = _digests(self._model)
        moved = [name for name, digest in self._before.items() if after.get(name) != digest]
        if moved:
            more = f", and {len(moved) - 3} more" if len(moved) > 3 else ""
            raise FrostlineError(
                what="The frozen part changed during training.", where=type(self._model).__name__,
                received=f"{', '.join(moved[:3])}{more}",
                do="look for what writes into frozen layers while fit runs (a loss, clip, scheduler or hook that "
                "calls model.apply, update_bn or load_state_dict), remove it, load the weights again, and train anew.",
            )  # fmt: skip


def check_promise(model: nn.Module, where: str, frozen: Iterable[nn.Module] | None = None) -> None:
    """Raise if a frozen layer rewrites its own weight whenever it runs, so that no freeze can hold.

    Args:
        model: The model.
        where: The call, for the error.
        frozen: The modules that are to be frozen; None: those whose weight takes no gradient.

    Raises:
        DataError: It names the layer.
    """
    chosen = {id(module) for module in frozen} if frozen is not None else None
    for name, module in model.named_modules():
        if not isinstance(module, (nn.Embedding, nn.EmbeddingBag)) or module.max_norm is None:
            continue
        if id(module) in chosen if chosen is not None else not module.weight.requires_grad:
            place = f"model.get_submodule({name!r})"
            raise DataError(
                what=f"The embedding {name!r} cannot be frozen: with max_norm it rewrites its weight when it runs.",
                where=where, received=f"max_norm={module.max_norm}",
                do="scale it once and for all, with the same outputs: with torch.no_grad(): "
                f"{place}.weight.renorm_({module.norm_type}, 0, {module.max_norm}); then {place}.max_norm = None.",
            )  # fmt: skip


def _digests(model: nn.Module) -> dict[str, str]:
    found = {f"parameter {n}": tensor_digest(p) for n, p in model.named_parameters() if not p.requires_grad}
    for name, module in model.named_modules():
        if not is_pinned(module):
            continue
        found[f"mode of {name or 'the model'}"] = str(module.training)
        for key, buffer in module.named_buffers(prefix=name, recurse=False):
            found[f"buffer {key}"] = tensor_digest(buffer)
    return found
