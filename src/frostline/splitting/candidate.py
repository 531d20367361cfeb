"""A plan and its head before and after their proof: features of a batch, and the head compared with the model.

A candidate is complete when it is made. `Candidate.prove` raises, or returns the figures of the proof; only a proven
candidate becomes a `Split`.
"""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import FrostlineError, SplitError
from frostline.core.restore import kept_attributes, kept_generators
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.calls.addresses import Frame, Point
from frostline.splitting.calls.containers import outline
from frostline.splitting.explanation import (
    computed_in_every_step,
    explain,
    frozen_beside_the_line,
    only_returned,
    seconds_of,
)
from frostline.splitting.parts.extraction import extract_features
from frostline.splitting.plan.samples import FAR, LARGE, PROOF, SMALL, batch_of, other_values
from frostline.splitting.proof.features import Company, check_repeatable
from frostline.splitting.proof.sequence import SequenceProof
from frostline.splitting.proof.verification import HeadFailsError, Verification, verify_head
from frostline.splitting.recording.guards import Guard
from frostline.splitting.recording.omitted_noise import quieted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from frostline.core.records import FrontierTensor
    from frostline.splitting.explanation import Explanation
    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.graph_plan import Plan

_INPUTS = Point(Frame("", 0), "input", 0, "python")


class Candidate:
    """A frozen part and a head, as a plan describes them.

    Args:
        model: The model.
        plan: What its recordings gave.
        head: The head of that plan.
    """

    def __init__(self, model: nn.Module, plan: Plan, head: Head) -> None:
        self.model, self.plan, self.head = model, plan, head
        self.frontier: tuple[FrontierTensor, ...] = plan.frontier.tensors
        self.recipe = plan.recipe
        self._accepted: set[tuple[str, tuple[tuple[Point, str], ...]]] = set()
        self._proven_sizes: set[int] = set()

    @property
    def device(self) -> torch.device:
        """Where the model is now."""
        return next(self.model.parameters()).device

    def reference(self, inputs: Any) -> Any:
        """What the model returns without the noise of its frozen side."""
        with quieted(self.model, self.plan.quiet):
            return batches.call(self.model, batches.map_tensors(inputs, torch.clone))  # a model may write into them

    # The frozen part

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """The features of a batch.

        Raises:
            SplitError: If a value that steers the model differs from the recording, and the head does not hold.
        """
        inputs = batches.move(inputs, self.device)
        features, differing = self._run_frozen(inputs)
        if features is None or (differing and not self.plan.follows_lengths):
            return self._on_other_path(inputs, features, differing)
        if self.plan.decides_by_size:
            self.prove_size(batches.batch_size(inputs))
        return features

    @property
    def meets_values(self) -> bool:
        """True if values or sizes of frozen tensors reach Python: other samples may steer the model in another way."""
        return any(expected.guards or expected.sizes for expected in self.plan.expected.values())

    def steering_sample(self, example: Any) -> int | None:
        """A sample that steers the model as the whole example does, and as those that were recorded do not."""
        count = batches.batch_size(example)
        if not self.meets_values or count <= LARGE or not self._takes_another_path(example):
            return None
        pairs = (batches.rows(example, torch.tensor([at, at], device=self.device)) for at in range(count))
        return next((at for at, pair in enumerate(pairs) if self._takes_another_path(pair)), None)

    def _takes_another_path(self, inputs: Any) -> bool:
        features, differing = self._run_frozen(inputs)
        return features is None or bool(differing)

    def _run_frozen(self, inputs: Any) -> tuple[tuple[Tensor, ...] | None, list[tuple[Guard, Any]]]:
        """(features, or None if one was not made as it was recorded; what was handed to Python in another way)."""
        plan, own = self.plan, batches.map_tensors(inputs, torch.clone)  # a model may write into its inputs
        found, differing = extract_features(self.model, plan.frost_line, plan.frontier, plan.expected, plan.quiet, own)
        if (given := outline(inputs)) != plan.outline:
            differing.insert(0, (Guard(_INPUTS, plan.outline, "the inputs"), given))
        features: list[Tensor] = []
        for entry, tensor in zip(plan.frontier.entries, found, strict=True):
            if tensor is None or not entry.layout.fits(tensor, batches.batch_size(inputs)):
                return None, differing
            features.append(entry.layout.to_rows(tensor))
        return tuple(features), differing

    def _on_other_path(
        self, inputs: Any, own: tuple[Tensor, ...] | None, differing: list[tuple[Guard, Any]]
    ) -> tuple[Tensor, ...]:
        """Features of a batch that steers the model in another way than the recorded ones: proven, or refused."""
        # The batch may lack a tensor that the head needs, such as the mask where nothing is padded. In company of the
        # recorded samples it is made. Considered: one head per path; twice the graphs for what masks settle.
        failure: SplitError | None = None
        steering = tuple((guard.point, repr(value)) for guard, value in differing)
        for way, found in (("own", lambda: own), ("joined", lambda: self._together(inputs))):
            features = found()
            if features is None:
                continue
            if (way, steering) in self._accepted:
                return features
            try:
                self.verify(inputs, features)
            except SplitError as error:
                failure = failure or error
                continue
            self._accepted.add((way, steering))
            return features
        raise _other_path_error(inputs, differing, failure) from failure

    def _together(self, inputs: Any) -> tuple[Tensor, ...] | None:
        """The features of a batch in company of the samples that were recorded."""
        try:
            together = batches.joined(inputs, self.plan.recorded)
        except (RuntimeError, KeyError):  # sequences of another length, or other inputs
            return None
        features, differing = self._run_frozen(together)
        if differing or features is None:
            return None
        count = batches.batch_size(inputs)
        return tuple(
            feature if tensor.shared else feature[:count]
            for feature, tensor in zip(features, self.frontier, strict=True)
        )  # fmt: skip

    # The proofs

    def prove(self, example: Any) -> dict[str, float]:
        """Prove the candidate on the samples of the example; what forward keeps is put back.

        Returns:
            The figures of the proof, from which `explained` describes the candidate.

        Raises:
            NotCacheable: If the frozen part is noisy, keeps state, or mixes samples.
            SplitError: If the head is not the model.
        """
        with kept_attributes(self.model, numbers=True):
            plan, sample = self.plan, batch_of(example, SMALL)
            names = [tensor.name for tensor in self.frontier]
            _, frozen_s = check_repeatable(self.model, lambda: self.extract(sample), names)
            verification = self._compared(example, sample)
            if plan.decides_by_size or plan.has_batch_numbers:
                self._prove_far()
            company = Company(self._run_frozen, self._holds, self.frontier)
            company.prove(sample, is_steered=plan.is_steered)
            features = self.extract(sample)  # extreme samples may have left values elsewhere
            head_s = seconds_of(self.head, features, self.model)
            return {**asdict(verification), "frozen_s": frozen_s, "head_s": head_s}

    def _compared(self, example: Any, sample: Any) -> Verification:
        """The head against the model behind other batches; a batch that the model does not take compares nothing."""
        sequence = SequenceProof(self.model, self.head, self.extract, self.reference, self.plan)
        for size in (PROOF, LARGE, SMALL):
            other = other_values(batch_of(example, size, start=1))
            try:
                features = self.extract(other)
            except FrostlineError:
                raise
            except Exception:  # code around the frozen layers does not take it
                continue
            sequence.prove([sample, other, sample])
            verification = self.verify(other, features)
            if verification.is_of_both_modes:
                return verification
        raise SplitError(
            what="The head cannot be compared with the model: it takes none of the batches that prove a split.",
            where=type(self.model).__name__,
            received=f"an error of the model on {SMALL}, {PROOF} and {LARGE} samples of the example with other values",
            do="let forward take batches of these sizes in train() and in eval(); or train with "
            "frostline.fit(..., cache=False).",
        )  # fmt: skip

    def _prove_far(self) -> None:
        """The proof at a size far outside of the recorded ones, odd or even: a model may take one of them only."""
        try:
            self.prove_size(FAR)
        except FrostlineError:
            raise
        except Exception:
            self.prove_size(FAR + 1)

    def explained(self, figures: Mapping[str, float]) -> Explanation:
        """The description of the candidate, from the figures of its proof."""
        verification = Verification(
            int(figures["samples"]), int(figures["compared"]), figures["largest_difference"], bool(figures["is_exact"])
        )
        seconds = (figures["frozen_s"], figures["head_s"])
        # what a plan has the head compute again is told by the settings
        behind = () if self.plan.settings.again else computed_in_every_step(self.head, self.plan.frost_line)
        behind += frozen_beside_the_line(self.head, self.plan.frost_line)
        notes = (*self.plan.settings.notes(), *behind, *only_returned(self.head, self.frontier))
        return explain(self.plan.frost_line, self.frontier, seconds, SMALL, verification, notes)

    def verify(
        self, inputs: Any, features: tuple[Tensor, ...], modes: tuple[str, ...] = ("train", "eval"), *,
        has_backward: bool = True,
    ) -> Verification:  # fmt: skip
        """Compare the head with the model on a batch, after moving every trainable weight.

        Raises:
            SplitError: If they differ.
        """
        return verify_head(
            self.model, self.head, features, self.reference, inputs, modes, self.plan.moved,
            has_backward=has_backward, between=self.plan.between,
        )  # fmt: skip

    def prove_size(self, batch_size: int) -> None:
        """Prove the head at this batch size, on the samples of the example; once for every size.

        Raises:
            SplitError: If the model decides by the size of the batch, and the head does not.
        """
        if batch_size in self._proven_sizes or batch_size < 1:
            return
        self._proven_sizes.add(batch_size)
        try:
            inputs = batch_of(self.plan.recorded, batch_size)
            with kept_generators():  # the caller's noise is the same whether a proof was due or not
                features = self.extract(inputs)
                self.verify(inputs, features, has_backward=False)
            self._check_rows(features, batch_size)
        except Exception as error:
            self._proven_sizes.discard(batch_size)
            if isinstance(error, SplitError):
                raise _other_size_error(batch_size, error) from error
            raise

    def _check_rows(self, features: tuple[Tensor, ...], batch_size: int) -> None:
        """Features of a sample are stored once: they must not be others at this size."""
        plain = self._run_frozen(self.plan.recorded)[0] or ()
        for tensor, ours, theirs in zip(self.frontier, features, plain, strict=False):
            count = 0 if tensor.shared or tensor.is_input else min(batch_size, SMALL)
            allowed = batch_tolerance(ours.dtype, is_on_gpu=ours.is_cuda)
            if count and relative_difference(ours[:count], theirs[:count]) > allowed:
                raise SplitError(
                    what=f"The output of {tensor.name!r} depends on the batch size.", where=tensor.name,
                    received=f"other features of the same samples in a batch of {batch_size}",
                    do="freeze the layers below it; or train with frostline.fit(..., cache=False).",
                )  # fmt: skip

    def _holds(self, inputs: Any, features: tuple[Tensor, ...]) -> bool | None:
        try:
            self.verify(inputs, features, has_backward=False)
        except HeadFailsError:
            return None
        except SplitError:
            return False
        return True


def _other_path_error(inputs: Any, differing: Sequence[tuple[Guard, Any]], failure: SplitError | None) -> SplitError:
    """A batch took another path than the one that was recorded, and the head does not hold for it.

    Args:
        inputs: The batch.
        differing: Values that steered the model another way, with what they are now.
        failure: What does not hold; None if a feature was not made, or not per sample.
    """
    lines = "; ".join(f"{guard.line} was {guard.value!r} for the example, is {now!r} here" for guard, now in
                      differing[:1])  # fmt: skip
    reason = failure.received if failure is not None else "a tensor that the head needs was not made for every sample"
    return SplitError(
        what="The model took another path for this batch than for the example.",
        where=lines[:600] or "the frozen part",
        received=f"{batches.describe(inputs)}: {reason}",
        do="pass an example that holds such samples (for an attention mask: a batch with padding), to frostline.split "
        "or as frostline.fit(..., example=...); or make the path independent of the values; or train with "
        "frostline.fit(..., cache=False).",
    )


def _other_size_error(batch_size: int, failure: SplitError) -> SplitError:
    """The model's code reads the size of the batch, and at this size the head is not the model."""
    return SplitError(
        what=f"The model computes in another way for a batch of {batch_size}.",
        where=failure.where,
        received=failure.received,
        do="use another batch size (and drop a short last batch), or make the model independent of the size of the "
        "batch, or train with frostline.fit(..., cache=False).",
    )
