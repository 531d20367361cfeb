"""The description of a split in words and numbers, as `Split.explain` returns it."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import torch

from frostline.core.errors import FOREIGN, FrostlineError
from frostline.core.restore import kept_buffers, kept_modes
from frostline.core.units import size_text
from frostline.splitting.parts.head import runs_own_forward

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

    from frostline.core.records import FrontierTensor
    from frostline.core.storage_records import StoragePlan
    from frostline.splitting.parts.head import Head
    from frostline.splitting.proof.verification import Verification
    from frostline.splitting.recording.frost_line import FrostLine

_WORTH_A_NOTE = 0.05  # of the bytes, or of the frozen parameters


@dataclass(frozen=True)
class Explanation:
    """The frost line of a split.

    Attributes:
        frozen: Qualified names of the outermost modules that are wholly frozen, and of parameters that others hold.
        trainable: The same of what trains.
        num_frozen: Elements in frozen parameters.
        num_trainable: Elements in trainable parameters.
        frontier: What crosses the line.
        bytes_per_sample: What is stored for each sample.
        frozen_s: Seconds of one frozen pass over the recorded samples, measured.
        head_s: Seconds of one forward pass of the head over the same samples, measured.
        samples: How many samples that were.
        notes: Noise that was turned off on the frozen side, guards, shared tensors.
        verification: The proof.
        measure: Gives `storage`; None where nothing can be measured.
    """

    frozen: tuple[str, ...]
    trainable: tuple[str, ...]
    num_frozen: int
    num_trainable: int
    frontier: tuple[FrontierTensor, ...]
    bytes_per_sample: int
    frozen_s: float
    head_s: float
    samples: int
    notes: tuple[str, ...]
    verification: Verification
    measure: Callable[[], StoragePlan] | None = field(default=None, compare=False, repr=False)

    @cached_property
    def storage(self) -> StoragePlan | None:
        """What to store and what to compute again, with the alternatives; measured when it is first asked for.

        None where nothing was measured, or a training step of the model fails.
        """
        with suppress(FrostlineError, *FOREIGN):
            return self.measure() if self.measure is not None else None
        return None

    def __str__(self) -> str:
        is_varying = any(tensor.is_varying for tensor in self.frontier)
        lines = [
            f"Frozen:    {_some(self.frozen)} ({self.num_frozen:,} parameters)",
            f"Trainable: {_some(self.trainable)} ({self.num_trainable:,} parameters)",
            f"Stored:    {size_text(self.bytes_per_sample)} per sample"
            + (" of the length that was recorded; rows are stored at their own length" if is_varying else ""),
        ]
        for tensor in self.frontier:
            kept = "once" if tensor.shared else "with the targets" if tensor.is_input else "per sample"
            shape = str(tensor.shape).replace("-1", "length")
            lines.append(f"  {tensor.name}: {shape} {str(tensor.dtype).removeprefix('torch.')}, {kept}")
        lines += self._costs()
        lines.append(f"Proof:     {self.verification}")
        return "\n".join([*lines, *(f"Note:      {note}" for note in self.notes)])

    def _costs(self) -> list[str]:
        """Times per sample, of whole batches where these were measured, and the plan that follows from them."""
        plan = self.storage
        if plan is None:
            return [f"Cost:      frozen part {1e3 * self.frozen_s / self.samples:.2f} ms per sample, head "
                    f"{1e3 * self.head_s / self.samples:.2f} ms (forward only, a batch of {self.samples})"]  # fmt: skip
        own = plan.costs
        return [f"Cost:      a training step takes {1e3 * own.uncached_s:.2f} ms per sample, of the head alone "
                f"{1e3 * own.head_s:.2f} ms (batches of {own.batch_size})", str(plan)]  # fmt: skip


def only_returned(head: Head, frontier: tuple[FrontierTensor, ...]) -> tuple[str, ...]:
    """A note on features that the head only hands out, as keys and values that a decoder keeps for generation."""
    if runs_own_forward(head):
        return ()
    idle = set(range(len(frontier)))
    for mode in head.modes:
        places = [node for node in mode.graph.nodes if node.op == "placeholder"]
        idle &= {at for at, node in enumerate(places) if all(user.op == "output" for user in node.users)}
    own = [frontier[at] for at in sorted(idle) if not frontier[at].shared and not frontier[at].is_input]
    size, whole = (sum(tensor.bytes_per_sample for tensor in found) for found in (own, frontier))
    if size <= _WORTH_A_NOTE * whole:
        return ()
    names, as_is = _some(tuple(tensor.name for tensor in own), 2), "as they are" if len(own) > 1 else "as it is"
    return (
        f"no trainable layer reads {names}: the model returns {'them' if len(own) > 1 else 'it'} {as_is}, "
        f"{size_text(size)} of {size_text(whole)} per sample. If your loss does not read this either, return less: "
        "wrap the model in a module whose forward returns what the loss reads (of a decoder of transformers: "
        "model.config.use_cache = False), and split again",
    )


def computed_in_every_step(head: Head, frost_line: FrostLine) -> tuple[str, ...]:
    """A note on frozen layers behind trainable ones, as those around an adapter or a prompt: no cache holds them."""
    if runs_own_forward(head):
        return ()
    frozen = {name: own.numel() for name, own in frost_line.parameters.items() if not own.requires_grad}
    read = {id(own) for own in head.parameters() if not own.requires_grad}
    again = {name for name, own in frost_line.parameters.items() if id(own) in read}
    size = sum(frozen.get(name, 0) for name in again)
    if size <= _WORTH_A_NOTE * sum(frozen.values()):
        return ()
    modules = _outermost(frost_line.model, frost_line.is_frozen, is_trainable=False)
    behind = tuple(name for name in modules if any(own == name or own.startswith(f"{name}.") for own in again))
    return (
        f"{size:,} of {sum(frozen.values()):,} frozen parameters are read behind trainable layers "
        f"({_some(behind, 3)}): every step computes them, forward and backward, with a cache or without. A cache saves "
        "what runs below the first trainable layer: train layers further up, and more is saved",
    )


def frozen_beside_the_line(head: Head, frost_line: FrostLine) -> tuple[str, ...]:
    """A note on parameters of the head that `freeze(through=)` froze with the modules that hold them: loss weights."""
    if runs_own_forward(head):
        return ()
    read = {id(own) for own in head.parameters() if not own.requires_grad}
    held = _outermost(frost_line.model, frost_line.is_frozen, is_trainable=False)
    names = tuple(name for name in held if name in frost_line.parameters and id(frost_line.parameters[name]) in read)
    if not names:
        return ()
    are, it, them = ("are", "they", "them") if len(names) > 1 else ("is", "it", "it")
    return (
        f"{_some(names)} {are} frozen, and the trainable part reads {them}: if {it} should train, call "
        f".requires_grad_(True) on {them} after the freeze, and split again",
    )


def seconds_of(head: nn.Module, features: tuple[Tensor, ...], model: nn.Module) -> float:
    """Seconds of one forward pass of the head of a model."""
    started = time.perf_counter()
    with kept_modes(head), kept_buffers(model), torch.no_grad():
        head.eval()
        head(*features)
    return time.perf_counter() - started


def explain(
    frost_line: FrostLine, frontier: tuple[FrontierTensor, ...], seconds: tuple[float, float], samples: int,
    verification: Verification, notes: tuple[str, ...],
) -> Explanation:  # fmt: skip
    """Describe a split whose frozen part and head took these seconds for a few samples."""
    model = frost_line.model
    frozen = [parameter.numel() for parameter in model.parameters() if not parameter.requires_grad]
    trainable = [parameter.numel() for parameter in model.parameters() if parameter.requires_grad]
    return Explanation(
        frozen=_outermost(model, frost_line.is_frozen, is_trainable=False),
        trainable=_outermost(model, frost_line.is_trainable, is_trainable=True),
        num_frozen=sum(frozen),
        num_trainable=sum(trainable),
        frontier=frontier,
        bytes_per_sample=sum(tensor.bytes_per_sample for tensor in frontier),
        frozen_s=seconds[0],
        head_s=seconds[1],
        samples=samples,
        notes=notes,
        verification=verification,
    )


def _outermost(
    model: nn.Module, holds: Callable[[nn.Module], bool], prefix: str = "", *, is_trainable: bool
) -> tuple[str, ...]:  # fmt: skip
    """Names of the outermost modules of a kind, and of parameters that mixed modules hold themselves."""
    own = model.named_parameters(prefix=prefix.removesuffix("."), recurse=False)
    found = [name for name, parameter in own if parameter.requires_grad == is_trainable]
    for name, child in model.named_children():
        path = f"{prefix}{name}"
        found += [path] if holds(child) else _outermost(child, holds, f"{path}.", is_trainable=is_trainable)
    return tuple(found)


def _some(names: tuple[str, ...], most: int = 6) -> str:
    shown = ", ".join(names[:most]) or "nothing whole"
    return shown if len(names) <= most else f"{shown} and {len(names) - most} more"
