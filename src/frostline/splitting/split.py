"""The public `Split`: a proven candidate, with further proofs for new batches, losses and changed weights."""

from __future__ import annotations

import copy
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.arguments import as_count, as_names, check_callable, check_flag
from frostline.core.digests import checksum
from frostline.core.doors import public
from frostline.core.errors import DataError, SplitError
from frostline.core.item_form import form_of
from frostline.core.restore import kept_attributes, kept_generators, kept_modes, kept_parameters
from frostline.core.units import size_text
from frostline.splitting.faster_pass import FasterPart
from frostline.splitting.lengths import LengthCandidate, length_candidate
from frostline.splitting.plan.graph_plan import frozen_log
from frostline.splitting.plan.replay_plan import replayed_log
from frostline.splitting.plan.samples import SMALL, batch_of
from frostline.splitting.proof.loss import prove_loss, refuse_unmade
from frostline.splitting.proof.verification import kernels_for
from frostline.splitting.python_state.sources import names_read_by
from frostline.splitting.recording.call_log import calls_digest
from frostline.splitting.storage_plan import storage_plan

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from frostline.core.padding import PaddedBatch
    from frostline.core.records import FrontierTensor
    from frostline.core.storage_records import StoragePlan
    from frostline.splitting.calls.addresses import Frame, Point
    from frostline.splitting.candidate import Candidate
    from frostline.splitting.explanation import Explanation
    from frostline.splitting.proof.proof_key import ProofMemory
    from frostline.splitting.proof.verification import Verification
    from frostline.splitting.recording.run_record import RecorderSettings

_SAMPLES = 1_000  # of the epoch that `explain` shows
# Names that any code loads, whatever its object is: for these, only the comparison of the loss decides.
_COMMON = frozenset((*dir(Tensor), *vars(nn.Module()), "training"))


class Split:
    """A model, split at its frost line into a frozen part and a head that share the model's own weights.

    Attributes:
        head: The trainable part: `head(*features)` returns what the model returns.
        frontier: What crosses the line, in the order of the features.
        recipe: What makes a stored feature valid, as text: calls, weights, buffers, code, what is stored.
    """

    def __init__(
        self, proven: Candidate, explanation: Explanation, proof_key: Mapping[str, str] | None,
        remake: Callable[[RecorderSettings], Split] | None = None,
        again: Callable[[nn.Module, Any], Split] | None = None,
    ) -> None:  # fmt: skip
        self.head = proven.head
        self.frontier: tuple[FrontierTensor, ...] = proven.frontier
        self.recipe = proven.plan.recipe
        self._proven, self._explanation, self.proof_key = proven, explanation, proof_key
        self._lengths: LengthCandidate | None = None
        self._remake, self._again = remake, again
        self._model, self._plan = proven.model, proven.plan
        self.item_form = form_of(self._plan.recorded, self._model.forward)  # of a dataset's items
        self._sums = {name: checksum(tensor) for name, tensor in proven.plan.weights.items()}
        self.head.prove_sizes_with(self._prove_size_when_met)

    @public("Split.extract")
    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """Run the frozen part only, in inference mode, and stop at the frontier.

        Args:
            inputs: A batch as the model takes it, on any device.

        Returns:
            One tensor per frontier entry: `(B, *shape)`, or the whole tensor for a shared one. No gradients.

        Raises:
            SplitError: If a value that steers the model differs from the recording, and the head does not hold.
        """
        if self.head.given is not None:
            self.head.given.forget()
        return self._proven.extract(inputs)

    def explain(self) -> Explanation:
        """What is frozen, what trains, what is stored and at which cost; printing it measures the alternatives."""
        if self._explanation.measure is None:
            self._explanation = replace(self._explanation, measure=lambda: self.plan(_SAMPLES))
        return self._explanation

    # What is stored

    @public("Split.plan")
    def plan(
        self, samples: int, *, epochs: int = 10, batch_size: int = 32, budget_bytes: int | None = None,
        read_s: float = 0.0, missing: int | None = None, step_s: float = 0.0,
    ) -> StoragePlan:  # fmt: skip
        """What to store and what to compute again in every step, with the alternatives and what each costs here.

        Frozen calls and training steps are measured; a minimum cut chooses among all places where rows can be stored.

        Args:
            samples: Of an epoch.
            epochs: Of the training: a fill is paid once, each epoch reads and computes.
            batch_size: Samples of a step.
            budget_bytes: What the cache may take on the disk; None: anything.
            read_s: Seconds to read a sample of the dataset, which an uncached epoch pays too.
            missing: Samples whose rows are not stored yet; None: all of them.
            step_s: Seconds that the training loop takes for a step, beside model and optimizer.

        Returns:
            The plan; `print` it, and give it to `follow`.

        Raises:
            DataError: If an argument is not a number of that kind.
        """
        return storage_plan(
            self._proven, samples, epochs=epochs, batch_size=batch_size, read_s=read_s, budget_bytes=budget_bytes,
            missing=missing, step_s=step_s,
        )  # fmt: skip

    @public("Split.follow")
    def follow(self, plan: StoragePlan) -> Split:
        """The split that stores what the plan's best alternative with a cache stores; its head computes the rest again.

        It is recorded and proven anew. This split stays as it is; both heads share the model's weights.

        Args:
            plan: What `plan` of this split gave.

        Returns:
            The new split; this one, where the plan stores the frontier or has no room for a cache.

        Raises:
            SplitError: If the head that computes again is not the model.
        """
        if not hasattr(plan, "best_cached"):
            raise DataError(
                what="This is not a plan of what to store.", where="Split.follow(plan)",
                received=batches.describe(plan), do="pass what split.plan(samples) gives.",
            )  # fmt: skip
        best = plan.best_cached
        return self if best is None else self.storing(*best.addresses)

    def storing(self, again: frozenset[Point], opened: frozenset[Frame]) -> Split:
        """The split whose head computes the values at these addresses again, in these calls of frozen modules."""
        if not again or self._remake is None:
            return self
        made = self._remake(self._plan.settings.but(again=again, opened=opened))
        if made._size >= self._size:
            raise SplitError(
                what="What the plan computes again has to be stored all the same.",
                where="Split.follow(plan)",
                received=f"{size_text(made._size)} per sample, {size_text(self._size)} at the frontier",
                do="store the frontier: use this split as it is.",
            )
        return made

    @property
    def _size(self) -> int:
        return sum(tensor.bytes_per_sample for tensor in self.frontier)

    @property
    def num_guards(self) -> int:
        """How many values of the frozen part decide in Python what the head runs."""
        return self._plan.num_guards

    @property
    def is_steered(self) -> bool:
        """True if values of the frozen part reach Python, where they may decide for a whole batch."""
        return self._plan.is_steered

    def sent(self) -> Callable[[], Split]:
        """What makes this split in another process."""
        assert self._again is not None
        return partial(self._again, self._model, batch_of(self._plan.recorded, SMALL))

    @property
    def example_features(self) -> tuple[Tensor, ...]:
        """The features of the first samples that the model was split by."""
        made = self._plan.features
        return made if made is not None else self._proven.extract(batch_of(self._plan.recorded, SMALL))

    def faster(self, ways: Sequence[str], batch_size: int, memory: ProofMemory) -> FasterPart:
        """The frozen part in less time; its rows differ in rounding, and have a recipe of their own.

        Args:
            ways: As `FeatureCache.fill(frozen_pass=...)` takes them.
            batch_size: Samples per pass.
            memory: Keeps what is measured, so that a second start decides as the first.
        """
        return FasterPart(self, self._proven, ways, batch_size, memory)

    # Proofs of more batches

    @public("Split.verify")
    def verify(
        self, inputs: Any, features: tuple[Tensor, ...] | None = None, *, modes: tuple[str, ...] = ("train", "eval")
    ) -> Verification:
        """Prove on this batch that the head equals the model, after moving every trainable weight.

        Features from before the move, through the head after it, are compared with the model after it: outputs,
        gradients and buffer changes. Everything is put back to the bit.

        Args:
            inputs: A batch of two samples or more, as the model takes it.
            features: What `extract` gave for this batch, or what was stored of it; None extracts them.
            modes: In which modes the model will run: `train`, `eval`, or both.

        Raises:
            SplitError: If they differ; it says where.
        """
        _check_modes(modes)
        inputs = batches.move(inputs, self._proven.device)
        features = self._proven.extract(inputs) if features is None else features
        _check_features(features, self.frontier)
        return self._proven.verify(inputs, features, modes)

    @public("Split.prove")
    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """Prove outputs and buffers on a batch, without the gradients, as `fill` does for many batches.

        Raises:
            SplitError: If the head is not the model on this batch.
        """
        device = self._proven.device
        inputs = batches.move(inputs, device)
        _check_features(features, self.frontier)
        self._proven.verify(inputs, batches.move(features, device), has_backward=False)

    @public("Split.prove_size")
    def prove_size(self, batch_size: int) -> None:
        """Prove the head at this batch size, on the samples of the example; once for every size.

        Raises:
            SplitError: If the model decides by the size of the batch, and the head does not.
        """
        self._proven.prove_size(as_count("Split.prove_size", "batch_size", batch_size, least=0))

    def _prove_size_when_met(self, batch_size: int) -> None:
        """Prove a size that the head meets where code decides by it; and always one sample, whose axis is squeezed."""
        if self._plan.decides_by_size or batch_size == 1:
            self.prove_size(batch_size)

    @public("Split.check_loss")
    def check_loss(self, function: Any, inputs: Any, targets: Any, *, training: bool) -> None:
        """Raise if a loss or metric gets another value in a cached training, since it reads more than the output.

        Args:
            function: Callable(output, target) -> number or scalar tensor. What it keeps from call to call is put back.
            inputs: A batch of two samples or more.
            targets: Its targets.
            training: True for a loss, which sees outputs in training mode; False for a metric.

        Raises:
            SplitError: If it reads what the frozen part leaves in a hook, an attribute, a list or a global.
        """
        check_callable("Split.check_loss", "function", function, takes="(output, target) -> number or scalar tensor")
        check_flag("Split.check_loss", "training", training)
        refuse_unmade((self._plan.left_frozen & names_read_by(function)) - _COMMON)
        device, reference = self._proven.device, self._proven.reference
        batch = (batches.move(inputs, device), batches.move(targets, device))
        features = self._proven.extract(batch[0])
        prove_loss(function, self._model, self.head, reference, features, batch, training=training)

    # Batches of any length

    @public("Split.follow_lengths")
    def follow_lengths(self, shorter: Any, longer: Any) -> None:
        """Take batches of any length from now on; the head is the same object, and runs the model's own forward.

        `FeatureCache.fill(..., collate_fn=...)` calls it. Frontier, recipe and explanation are those of varying lengths
        then; an axis of -1 has another size for other samples.

        Args:
            shorter: A batch of two samples or more, all of one length, as the model takes it.
            longer: The same samples at another length.

        Raises:
            NotCacheable: If no axis follows the length, or the frozen part cannot be cached.
            SplitError: If the head is not the model.
        """
        if self._lengths is not None:
            return
        shorter, longer = (batches.move(own, self._proven.device) for own in (shorter, longer))
        candidate, explanation = length_candidate(self._model, shorter, longer)
        self.head.adopt(candidate.head)
        candidate.head = self.head
        self._take_lengths(candidate, explanation)
        self._remake = partial(self._at_lengths, shorter, longer)

    def _at_lengths(self, shorter: Any, longer: Any, settings: RecorderSettings) -> Split:
        made = copy.copy(self)
        candidate, explanation = length_candidate(self._model, shorter, longer, settings)
        made.head = candidate.head
        made._take_lengths(candidate, explanation)
        return made

    def _take_lengths(self, candidate: LengthCandidate, explanation: Explanation) -> None:
        self._lengths = self._proven = candidate
        self._plan, self.frontier, self.recipe = candidate.plan, candidate.frontier, candidate.recipe
        self._explanation, self.proof_key = explanation, None
        self._sums = {name: checksum(tensor) for name, tensor in candidate.plan.weights.items()}
        self.head.prove_sizes_with(self._prove_size_when_met)

    def prove_padded(self, batch: PaddedBatch, features: tuple[Tensor, ...]) -> None:
        """Prove outputs, buffers and gradients on a padded batch, at the places of the samples themselves.

        Args:
            batch: The inputs, and the sizes of their samples.
            features: Of the batch, padded as a loader pads them.

        Raises:
            SplitError: If the head is not the model on this batch.
        """
        assert self._lengths is not None
        device = self._proven.device
        batch = replace(batch, inputs=batches.move(batch.inputs, device))
        self._lengths.verify_padded(batch, batches.move(features, device))

    def check_padded_loss(
        self, function: Any, inputs: Any, targets: Any, features: tuple[Tensor, ...]
    ) -> None:  # fmt: skip
        """As `check_loss`, of a padded batch, over features as a loader pads them.

        Raises:
            SplitError: If the loss reads outputs at padded places.
        """
        device, reference = self._proven.device, self._proven.reference
        batch = (batches.move(inputs, device), batches.move(targets, device))
        prove_loss(function, self._model, self.head, reference, features, batch, training=False)

    @public("Split.check_unchanged")
    def check_unchanged(self) -> None:
        """Check that the frozen part still is what the recipe says: calls, numbers, weights, buffers, code.

        Raises:
            SplitError: If anything of it has changed since the split.
        """
        with (
            kept_modes(self._model), kept_generators(), kept_parameters(self._model), kernels_for(self._model),
            kept_attributes(self._model, numbers=True),
        ):  # fmt: skip
            log = (replayed_log if self._plan.settings.replayed else frozen_log)(self._model, self._plan)
        if calls_digest(log) != self.recipe["calls"]:
            raise _changed_error(self._moved_weights())

    def check_weights(self) -> None:
        """Check the weights and buffers of the frozen part by a sum over their bits, and what modules are made of.

        Raises:
            SplitError: If one of them has changed since the split.
        """
        self.head.check_modules()
        moved = self._moved_weights()
        if moved:
            raise _changed_error(moved)

    def _moved_weights(self) -> list[str]:
        now = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return [name for name, sum_ in self._sums.items() if name not in now or checksum(now[name]) != sum_]


def _check_features(features: Any, frontier: tuple[FrontierTensor, ...]) -> None:
    """Raise a DataError unless these are as many tensors as cross the frost line."""
    found = cast("tuple[Any, ...]", features) if isinstance(features, (tuple, list)) else ()
    if len(found) != len(frontier) or not all(isinstance(x, Tensor) and x.layout is torch.strided for x in found):
        raise DataError(
            what="These are not the features of this split.", where="features", received=batches.describe(features),
            do=f"pass what extract gave: {len(frontier)} tensors in the order of split.frontier.",
        )  # fmt: skip


def _check_modes(modes: Any) -> None:
    """Raise a DataError unless these are `train`, `eval`, or both."""
    given = as_names("Split.verify", "modes", modes)
    if isinstance(modes, str) or not given or set(given) - {"train", "eval"}:
        raise DataError(
            what="A model has two modes.", where="Split.verify(modes=...)", received=repr(modes),
            do="pass ('train',), ('eval',) or ('train', 'eval').",
        )  # fmt: skip


def _changed_error(names: Sequence[str]) -> SplitError:
    """The frozen part is not the one that was split any more."""
    shown = ", ".join(map(repr, names[:3])) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return SplitError(
        what="The frozen part was changed after the model was split.",
        where=shown or "its code, its numbers, torch.autocast around it, or what is frozen",
        received="other content than the split and its stored features were made from",
        do="call frostline.split(model, example) again, then FeatureCache.fill; load weights before the split, and put "
        "both calls into torch.autocast if the training is.",
    )
