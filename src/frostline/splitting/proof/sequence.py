"""The proof over several batches: only modules that the head calls whole keep state from batch to batch.

The proof of one batch puts the state of the model back between its runs. This one does not: the model runs over several
batches in a row, as in an uncached training, and the head runs over the features of the same batches.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from frostline.core.errors import NotCacheable, SplitError
from frostline.core.restore import (
    kept_attributes,
    kept_buffers,
    kept_generators,
    kept_gradients,
    kept_modes,
    seed_generators,
)
from frostline.splitting.proof.verification import compare_outcomes, run_once
from frostline.splitting.python_state.kept_state import keeps_state_error, moving_state, state_of_first_call

if TYPE_CHECKING:
    from torch import Tensor, nn

    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.graph_plan import Plan


@dataclass(frozen=True)
class SequenceProof:
    """What the proof runs.

    Attributes:
        model: The model.
        head: Its head.
        extract: The features of a batch.
        reference: The model as a function of a batch.
        plan: The recordings. Modules that the head calls whole keep their state themselves, as does a head that runs
            the model's own forward.
    """

    model: nn.Module
    head: Head
    extract: Callable[[Any], tuple[Tensor, ...]]
    reference: Callable[[Any], Any]
    plan: Plan

    def prove(self, batches: Sequence[Any]) -> None:
        """Compare model and head over these batches, and refuse what the frozen part remembers.

        Raises:
            NotCacheable: If something outside of the head moves from call to call.
            SplitError: If the head differs from the model after the first batch.
        """
        features = [self.extract(batch) for batch in batches]
        for training in (True, False):
            with (
                kept_modes(self.model), kept_modes(self.head), kept_gradients(self.model), kept_generators(),
                kept_attributes(self.model, numbers=True),
            ):  # fmt: skip
                expected, moving = self._over_model(batches, training)
                if moving:
                    raise keeps_state_error(moving)
                self._refuse_first_call(batches[0], batches[1])
                found = self._over_head(features, training)
                for ours, theirs in zip(found, expected, strict=True):
                    self._compare(ours, theirs, "train" if training else "eval", batches)

    def _over_model(self, batches: Sequence[Any], training: bool) -> tuple[list[Any], list[str]]:
        with kept_buffers(self.model), kept_attributes(self.model, numbers=True):
            self.model.train(training)
            outcomes = [_seeded(self.model, lambda b=b: self.reference(b), at) for at, b in enumerate(batches)]
            return outcomes, self._moving(batches[-1])

    def _over_head(self, features: Sequence[tuple[Tensor, ...]], training: bool) -> list[Any]:
        with kept_buffers(self.model), kept_attributes(self.model, numbers=True):
            self.head.train(training)
            return [_seeded(self.model, lambda f=f: self.head.recorded(*f), at) for at, f in enumerate(features)]

    def _moving(self, batch: Any) -> list[str]:
        names = [name for name, _ in self.model.named_modules() if not self._is_own(name)]
        return moving_state(
            self.model, names, self.plan.sources, lambda: _seeded(self.model, lambda: self.reference(batch), 0),
            has_queues=not self.plan.settings.replayed,
        )  # fmt: skip

    def _refuse_first_call(self, first: Any, second: Any) -> None:
        """Refuse what the first call sets from its batch: a fill sees another first batch than the training."""
        names = [name for name, _ in self.model.named_modules() if not self._is_own(name)]
        runs = (lambda: _seeded(self.model, lambda: self.reference(first), 0),
                lambda: _seeded(self.model, lambda: self.reference(second), 1))  # fmt: skip
        found = state_of_first_call(self.model, names, self.plan.sources, runs)
        if self.plan.settings.replayed:  # the head runs all but the frozen modules
            frost_line = self.plan.frost_line
            answered = tuple(f"{name}." for name, own in self.model.named_modules() if frost_line.is_frozen(own))
            found = [name for name in found if name.startswith(answered)]
        if found:
            raise keeps_state_error(found, "the value that the first batch gave it, after a second batch")

    def _is_own(self, name: str) -> bool:
        """Whether the head itself calls this module whole, so that its state moves in the head as in the model."""
        return any(name == own or name.startswith(f"{own}.") for own in self.plan.whole)

    def _compare(self, ours: Any, theirs: Any, mode: str, batches: Sequence[Any]) -> None:
        """Of a difference, what one more batch moves is the likely cause, and is named first."""
        try:
            compare_outcomes(theirs, ours, mode)
        except SplitError as error:
            with kept_buffers(self.model), kept_attributes(self.model, numbers=True):
                changed = self._moving(batches[0])
            raise (keeps_state_error(changed) if changed else _differs(error)) from error


def _seeded(model: nn.Module, forward: Callable[[], Any], seed: int) -> Any:
    seed_generators(seed)
    return run_once(model, forward, is_learning=model.training, has_backward=False)


def _differs(error: SplitError) -> NotCacheable:
    return NotCacheable(
        what="The model computes something else after it has seen other batches.",
        where=error.where,
        received=f"{error.received}, in the second batch or a later one",
        do="remove what the model keeps from batch to batch outside of its trainable layers, or train with "
        "frostline.fit(..., cache=False).",
    )
