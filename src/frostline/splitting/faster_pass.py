"""The frozen part in less time: another memory format, precision or order of the same arithmetic.

A faster pass computes what the frozen part computes, rounded in another way: its rows have a recipe of their own, and
are compared with the plain pass. Nothing of the model is changed outside of a pass.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.arguments import BF16, CHANNELS_LAST, COMPILE, FOLD
from frostline.core.errors import SplitError
from frostline.core.timing import interleaved, paired_ratio
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.parts.replaced_layers import Replaced, Watched, compiled_blocks, folded_norms
from frostline.splitting.plan.samples import batch_of

if TYPE_CHECKING:
    from collections.abc import Generator, Mapping, Sequence

    from frostline.core.item_form import ItemForm
    from frostline.core.records import FrontierTensor
    from frostline.splitting.candidate import Candidate
    from frostline.splitting.proof.proof_key import ProofMemory
    from frostline.splitting.split import Split

# Channels last must save a twentieth: below, its rows would differ in rounding for nothing.
_LEAST_GAIN = 1.05
# Rounds and samples that the measurement takes: 64 samples in all, a thirtieth of a fill of 2,000.
_ROUNDS, _SAMPLES = 3, 8
# The measurement decides for as long as the cache exists: another machine, or a busy one, must not lose the rows.
_DECISION = {"frozen pass": CHANNELS_LAST}


class FasterPart:
    """The frozen part of a split, run in other ways.

    Args:
        split: The split, which is not changed.
        proven: Its candidate.
        ways: Names of the ways.
        batch_size: Samples per pass.
        memory: Keeps what was measured.

    Attributes:
        notes: What was measured, folded and compiled.
        rounding: A dtype that values are rounded to on the way; None if that is the dtype of the model.
    """

    def __init__(
        self, split: Split, proven: Candidate, ways: Sequence[str], batch_size: int, memory: ProofMemory
    ) -> None:  # fmt: skip
        self._split, self._proven = split, proven
        self.check_unchanged, self.check_weights = split.check_unchanged, split.check_weights
        self.rounding = torch.bfloat16 if BF16 in ways else None
        self._is_channels_last, self._replaced, self.notes = False, list[Replaced](), list[str]()
        watched = Watched.of(proven.plan)
        if FOLD in ways:
            self._replaced += self._noted(folded_norms(proven.model, proven.plan.recorded, watched))
        if CHANNELS_LAST in ways:
            self._is_channels_last = self._measured(batch_size, memory)
        if COMPILE in ways:
            with self._applied():
                recorded = self._formatted(batches.move(proven.plan.recorded, proven.device))
                self._replaced += self._noted(compiled_blocks(proven.model, recorded, watched))
        used = [way for way in ways if way != CHANNELS_LAST or self._is_channels_last]
        self._recipe = {**split.recipe, **({"frozen pass": " ".join(sorted(used))} if used else {})}

    @property
    def recipe(self) -> Mapping[str, str]:
        """That of the split, and how the rows are computed."""
        return self._recipe

    @property
    def frontier(self) -> tuple[FrontierTensor, ...]:
        """That of the split: rows are stored in its dtypes."""
        return self._split.frontier

    @property
    def item_form(self) -> ItemForm:
        """That of the split."""
        return self._split.item_form

    @property
    def example_features(self) -> tuple[Tensor, ...]:
        """Those of the split, which show the tensors that are masks."""
        return self._split.example_features

    @property
    def is_steered(self) -> bool:
        """That of the split."""
        return self._split.is_steered

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """The features of a batch; one that steers the model in a way of its own is computed by the plain pass."""
        inputs = batches.move(inputs, self._proven.device)
        with self._applied():
            features, differing = self._proven._run_frozen(self._formatted(inputs))
        if features is None or differing:
            return self._split.extract(inputs)
        if self._proven.plan.decides_by_size:
            self._proven.prove_size(batches.batch_size(inputs))
        return tuple(
            feature.to(own.dtype).contiguous() for feature, own in zip(features, self.frontier, strict=True)
        )  # fmt: skip

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """Prove the head on features of the plain pass, and compare those of this pass with them.

        Raises:
            SplitError: If the head is not the model, or the features differ by more than rounding.
        """
        plain = self._split.extract(inputs)
        for own, exact, tensor in zip(features, plain, self.frontier, strict=True):
            allowed = self.tolerance_of(tensor)
            if (difference := relative_difference(own, exact)) > allowed:
                raise SplitError(
                    what="The faster frozen pass does not compute what the model computes.",
                    where=f"{tensor.name}, {self._recipe['frozen pass']}",
                    received=f"relative difference {difference:.1e}, allowed {allowed:.0e}",
                    do="leave frozen_pass out, or one of its names: 'bf16' first, then 'fold'.",
                )
        self._split.prove(inputs, plain)

    def tolerance_of(self, tensor: FrontierTensor) -> float:
        """What a feature may differ by from the plain pass, relative to the largest value."""
        is_rounded = self.rounding is not None and tensor.dtype.is_floating_point
        kinds = [tensor.dtype, *([self.rounding] if is_rounded and self.rounding else [])]
        return max(batch_tolerance(kind, is_on_gpu=self._proven.device.type == "cuda") for kind in kinds)

    def _noted(self, found: tuple[list[Replaced], str]) -> list[Replaced]:
        self.notes.append(f"frozen pass: {found[1]}")
        return found[0]

    def _measured(self, batch_size: int, memory: ProofMemory) -> bool:
        """Whether channels last pays here: as it was measured for this cache, or is measured now."""
        known = memory.recall(self._split, _DECISION)
        if known is None:
            example = batch_of(batches.move(self._proven.plan.recorded, self._proven.device), min(batch_size, _SAMPLES))
            ways = [partial(self._timed, example, is_channels_last=own) for own in (False, True)]
            is_on_cpu = self._proven.device.type == "cpu"  # a busy machine changes times of the processor little
            clock = time.process_time if is_on_cpu else time.perf_counter
            plain, other = interleaved(ways, rounds=_ROUNDS, clock=clock)
            known = {"gain": paired_ratio(plain, other)}
            memory.keep(self._split, _DECISION, known)
        is_used = known["gain"] >= _LEAST_GAIN
        self.notes.append(
            f"frozen pass: channels last was {known['gain']:.2f} times as fast, and is {'' if is_used else 'not '}used"
        )
        return is_used

    def _timed(self, example: Any, *, is_channels_last: bool) -> None:
        self._is_channels_last = is_channels_last
        with self._applied():
            self._proven._run_frozen(self._formatted(example))

    def _formatted(self, inputs: Any) -> Any:
        if not self._is_channels_last:
            return inputs
        return batches.map_tensors(
            inputs, lambda x: x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x
        )

    @contextmanager
    def _applied(self) -> Generator[None]:
        with ExitStack() as stack:
            for own in self._replaced:
                stack.enter_context(own.applied())
            stack.enter_context(self._precision())
            yield

    def _precision(self) -> AbstractContextManager[Any]:
        kind = self._proven.device.type
        return torch.autocast(kind, torch.bfloat16) if self.rounding is not None else ExitStack()
