"""How much is computed, in multiplications: an amount that is the same on every machine, so that a bound on it is."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from frostline.porting.interpreter.layer import NotInterpretedError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_PER_CALL = 300_000  # a call of an operator takes the time of so many multiplications, about 10 us
_PRODUCTS = frozenset(("mm", "addmm", "bmm", "baddbmm"))


class Work(TorchDispatchMode):
    """Counts what is computed inside of it.

    Args:
        most: Multiplications after which nothing more is computed; None for no bound.

    Attributes:
        done: Multiplications until now, and what calls and values take beside them.

    Raises:
        NotInterpretedError: Before a call that would exceed the bound.
    """

    def __init__(self, most: float | None = None) -> None:
        super().__init__()
        self.done, self._most = 0, most

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Sequence[Any] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        del types
        self.done += _PER_CALL + _of_call(func.overloadpacket.__name__, args)
        if self._most is not None and self.done > self._most:
            raise NotInterpretedError(f"it takes more than {self._most:.0e} multiplications")
        return func(*args, **(kwargs or {}))


def _of_call(name: str, args: Sequence[Any]) -> int:
    """The multiplications of one call of an operator, from its arguments."""
    tensors = [one for one in tree_leaves(list(args)) if isinstance(one, Tensor)]
    values = sum(one.numel() for one in tensors)
    if name in _PRODUCTS:
        return tensors[-2].numel() * tensors[-1].shape[-1]
    if name == "convolution":
        x, weight, _, stride, padding, _, is_transposed = args[:7]
        sizes = [size if is_transposed else -(-(size + 2 * pad) // step)
                 for size, pad, step in zip(x.shape[2:], padding, stride, strict=True)]  # fmt: skip
        return values + len(x) * math.prod(sizes) * weight.numel()
    if "scaled_dot_product" in name:
        return values + 2 * tensors[0].numel() * tensors[1].shape[-2]
    if "pool" in name and len(args) > 1 and isinstance(args[1], (list, tuple)):
        kernel, steps = cast("list[int]", args[1]), cast("list[int]", args[2] if len(args) > 2 else args[1])
        return values * math.prod(kernel) // max(1, math.prod(steps or kernel))
    return values


def work_of(run: Callable[[], object]) -> int:
    """The multiplications of a call of `run`."""
    with torch.no_grad(), Work() as counted:
        run()
    return counted.done
