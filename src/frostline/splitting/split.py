"""A model that is split at its frost line: its head, what runs the frozen part, and their proofs."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.arguments import as_count, check_callable, check_flag
from frostline.core.digests import checksum
from frostline.core.doors import public
from frostline.core.errors import SplitError
from frostline.core.restore import kept_attributes, kept_generators, kept_modes, kept_parameters
from frostline.core.tolerances import batch_tolerance, relative_difference
from frostline.splitting.addresses import Frame, Point
from frostline.splitting.company import Company
from frostline.splitting.containers import outline
from frostline.splitting.explanation import Explanation, explain, seconds_of
from frostline.splitting.extraction import extract_features
from frostline.splitting.failures import changed_error, other_path, other_size, refuse_unmade
from frostline.splitting.fingerprint import calls_digest
from frostline.splitting.guards import Guard
from frostline.splitting.loss_proof import prove_loss
from frostline.splitting.omitted_noise import quieted
from frostline.splitting.plan import Plan, frozen_log
from frostline.splitting.proof_key import proof_key, samples_text
from frostline.splitting.refusals import check_features, check_modes, check_repeatable
from frostline.splitting.replay_plan import replayed_log
from frostline.splitting.samples import FAR, LARGE, PROOF, SMALL, batch_of, other_values
from frostline.splitting.sequence import SequenceProof
from frostline.splitting.sources import names_read_by
from frostline.splitting.verification import Verification, kernels_for, verify_head

if TYPE_CHECKING:
    from frostline.core.records import FrontierTensor
    from frostline.splitting.head import Head
    from frostline.splitting.proof_key import ProofMemory

_INPUTS = Point(Frame("", 0), "input", 0, "python")
# Names that any code loads, whatever its object is: the proof of the loss itself tells of those.
_COMMON = frozenset((*dir(Tensor), *vars(nn.Module()), "training"))


class Split:
    """A model, split at its frost line into a frozen part and a head that share the model's own weights.

    Attributes:
        head: The trainable part: `head(*features)` returns what the model returns.
        frontier: What crosses the line, in the order of the features.
        recipe: What makes a stored feature valid, as text: calls, weights, buffers, code, what is stored.
    """

    def __init__(self, model: nn.Module, plan: Plan, head: Head) -> None:
        self.head = head
        self.frontier: tuple[FrontierTensor, ...] = plan.frontier.tensors
        self.recipe = plan.recipe
        self._model, self._plan = model, plan
        self._accepted: set[tuple[str, tuple[tuple[Point, str], ...]]] = set()
        self._proven_sizes: set[int] = set()
        self._explanation: Explanation | None = None
        self._proof_key: dict[str, str] | None = None
        self._sums = {name: checksum(tensor) for name, tensor in plan.weights.items()}
        head.prove_sizes_with(self._prove_when_met)

    @public("Split.extract")
    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """Run the frozen part only, in inference mode, and stop at the frontier.

        Args:
            inputs: A batch as the model takes it, on any device.

        Returns:
            One tensor per frontier entry: (B, *shape), or the whole tensor for a shared one. No gradients.

        Raises:
            SplitError: If a value that steers the model differs from the recording, and the head does not hold.
        """
        inputs = batches.move(inputs, self._device)
        features, differing = self._run_frozen(inputs)
        if features is None or differing:
            return self._on_other_path(inputs, features, differing)
        if self._plan.decides_by_size:
            self.prove_size(batches.batch_size(inputs))
        return features

    def _prove_when_met(self, batch_size: int) -> None:
        """Prove a size that the head meets where code decides by it; and always one sample, whose axis is squeezed."""
        if self._plan.decides_by_size or batch_size == 1:
            self.prove_size(batch_size)

    @public("Split.prove_size")
    def prove_size(self, batch_size: int) -> None:
        """Prove the head at this batch size, on the samples of the example; once for every size.

        Raises:
            SplitError: If the model decides by the size of the batch, and the head does not.
        """
        batch_size = as_count("Split.prove_size", "batch_size", batch_size, least=0)
        if batch_size in self._proven_sizes or batch_size < 1:
            return
        self._proven_sizes.add(batch_size)
        try:
            inputs = batch_of(self._plan.recorded, batch_size)
            with kept_generators():  # the caller's noise is the same whether a proof was due or not
                features = self.extract(inputs)
                self._verify(inputs, features, ("train", "eval"), has_backward=False)
            self._check_rows(features, batch_size)
        except SplitError as error:
            self._proven_sizes.discard(batch_size)
            raise other_size(batch_size, error) from error

    def _check_rows(self, features: tuple[Tensor, ...], batch_size: int) -> None:
        """Features of a sample are stored once: they must not be others at this size."""
        plain = self._run_frozen(self._plan.recorded)[0] or ()
        for tensor, ours, theirs in zip(self.frontier, features, plain, strict=False):
            count = 0 if tensor.shared or tensor.is_input else min(batch_size, SMALL)
            allowed = batch_tolerance(ours.dtype, is_on_gpu=ours.is_cuda)
            if count and relative_difference(ours[:count], theirs[:count]) > allowed:
                raise SplitError(
                    what=f"The output of {tensor.name!r} depends on the batch size.", where=tensor.name,
                    received=f"other features of the same samples in a batch of {batch_size}",
                    do="freeze the layers below it; or train with frostline.fit(..., cache=False).",
                )  # fmt: skip

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
        check_modes(modes)
        inputs = batches.move(inputs, self._device)
        features = self.extract(inputs) if features is None else features
        check_features(features, self.frontier)
        return self._verify(inputs, features, modes)

    def _verify(
        self, inputs: Any, features: tuple[Tensor, ...], modes: tuple[str, ...], *, has_backward: bool = True
    ) -> Verification:
        return verify_head(
            self._model, self.head, features, self._reference, inputs, modes, self._plan.moved,
            has_backward=has_backward, between=self._plan.between,
        )  # fmt: skip

    def _reference(self, inputs: Any) -> Any:
        """The model, without the noise of its frozen side."""
        with quieted(self._model, self._plan.quiet):
            return batches.call(self._model, batches.map_tensors(inputs, torch.clone))  # a model may write into them

    def explain(self) -> Explanation:
        """What is frozen, what trains, what is stored per sample, what it costs; `print` it."""
        assert self._explanation is not None
        return self._explanation

    @public("Split.prove")
    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """Prove outputs and buffers on a batch, without the gradients: what `fill` asks again and again.

        Raises:
            SplitError: If the head is not the model on this batch.
        """
        inputs = batches.move(inputs, self._device)
        check_features(features, self.frontier)
        self._verify(inputs, batches.move(features, self._device), ("train", "eval"), has_backward=False)

    @property
    def num_guards(self) -> int:
        """How many values of the frozen part decide in Python what the head runs."""
        return self._plan.num_guards

    @property
    def is_steered(self) -> bool:
        """True if values of the frozen part reach Python, where they may decide for a whole batch."""
        return self._plan.is_steered

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
            raise changed_error(self._moved_weights())

    def check_weights(self) -> None:
        """Check the weights and buffers of the frozen part by a sum over their bits, and what modules are made of.

        Raises:
            SplitError: If one of them has changed since the split.
        """
        self.head.check_modules()
        moved = self._moved_weights()
        if moved:
            raise changed_error(moved)

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
        inputs, targets = batches.move(inputs, self._device), batches.move(targets, self._device)
        features, batch = self.extract(inputs), (inputs, targets)
        prove_loss(function, self._model, self.head, self._reference, features, batch, training=training)

    def _moved_weights(self) -> list[str]:
        now = {**dict(self._model.named_parameters()), **dict(self._model.named_buffers())}
        return [name for name, sum_ in self._sums.items() if name not in now or checksum(now[name]) != sum_]

    def telling_sample(self, example: Any) -> int | None:
        """A sample that steers the model as the whole example does, and as those that were recorded do not."""
        count = batches.batch_size(example)
        has_guards = any(expected.guards or expected.sizes for expected in self._plan.expected.values())
        if not has_guards or count <= LARGE or not self._takes_another_path(example):
            return None
        pairs = (batches.rows(example, torch.tensor([at, at], device=self._device)) for at in range(count))
        return next((at for at, pair in enumerate(pairs) if self._takes_another_path(pair)), None)

    def _takes_another_path(self, inputs: Any) -> bool:
        features, differing = self._run_frozen(inputs)
        return features is None or bool(differing)

    def _holds(self, inputs: Any, features: tuple[Tensor, ...]) -> bool:
        with suppress(SplitError):
            self._verify(inputs, features, ("train", "eval"), has_backward=False)
            return True
        return False

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _on_other_path(
        self, inputs: Any, own: tuple[Tensor, ...] | None, differing: list[tuple[Guard, Any]]
    ) -> tuple[Tensor, ...]:
        """Features of a batch that steers the model in another way than the recorded ones: proven, or refused.

        The batch may lack a tensor that the head needs, such as the mask where nothing is padded. In company of the
        samples that were recorded it is made.
        """
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
        raise other_path(inputs, differing, failure) from failure

    def _together(self, inputs: Any) -> tuple[Tensor, ...] | None:
        """The features of a batch in company of the samples that were recorded."""
        try:
            together = batches.joined(inputs, self._plan.recorded)
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

    def _run_frozen(self, inputs: Any) -> tuple[tuple[Tensor, ...] | None, list[tuple[Guard, Any]]]:
        """(features, or None if one was not made as it was recorded; what was handed to Python in another way)."""
        plan, own = self._plan, batches.map_tensors(inputs, torch.clone)  # a model may write into its inputs
        found, differing = extract_features(self._model, plan.kinds, plan.frontier, plan.expected, plan.quiet, own)
        if (given := outline(inputs)) != plan.outline:
            differing.insert(0, (Guard(_INPUTS, plan.outline, "the inputs"), given))
        features: list[Tensor] = []
        for entry, tensor in zip(plan.frontier.entries, found, strict=True):
            if tensor is None or not entry.layout.fits(tensor, batches.batch_size(inputs)):
                return None, differing
            features.append(entry.layout.to_rows(tensor))
        return tuple(features), differing


def proven(split: Split, example: Any, memory: ProofMemory | None = None) -> Split:
    """The same split, proven on the samples of the example unless that proof is remembered, and explained."""
    plan = split._plan
    key = proof_key(split._model, plan, split.head) if memory is not None else None
    figures = memory.recall(split, key) if memory is not None and key is not None else None
    if figures is None:
        figures = _figures_of_proof(split, example)
        if memory is not None and key is not None:
            memory.keep(split, key, figures)
    split._proof_key = key
    verification = Verification(int(figures["samples"]), int(figures["compared"]), figures["largest_difference"],
                                bool(figures["is_exact"]))  # fmt: skip
    seconds = (figures["frozen_s"], figures["head_s"])
    split._explanation = explain(plan.kinds, split.frontier, seconds, SMALL, verification, plan.settings.notes())
    return split


def _figures_of_proof(split: Split, example: Any) -> dict[str, float]:
    """Prove the split on the samples of the example; what forward keeps is put back."""
    with kept_attributes(split._model, numbers=True):
        plan, sample = split._plan, batch_of(example, SMALL)
        names = [tensor.name for tensor in split.frontier]
        _, frozen_s = check_repeatable(split._model, lambda: split.extract(sample), names)
        other = other_values(batch_of(example, PROOF, start=1))
        sequence = SequenceProof(split._model, split.head, split.extract, split._reference, plan)
        sequence.prove([sample, other, sample])
        verification = split.verify(other)
        if plan.decides_by_size or plan.has_batch_numbers:
            split.prove_size(FAR)
        company = Company(lambda batch: split._run_frozen(batch)[0], split._holds, split.frontier)
        company.prove(sample, is_steered=split.is_steered)
        features = split.extract(sample)  # extreme samples may have left values elsewhere
        head_s = seconds_of(split.head, features, split._model)
        return {**asdict(verification), "frozen_s": frozen_s, "head_s": head_s}


def verify_once(split: Split, inputs: Any, *, modes: tuple[str, ...], memory: ProofMemory) -> float:
    """As `Split.verify`, unless the same proof on the same batch is remembered.

    Returns:
        Seconds of the frozen part for one sample, as measured when it was proven.

    Raises:
        SplitError: If head and model differ.
    """
    key = split._proof_key
    if key is not None:
        key = {**key, "samples": samples_text(inputs), "modes": " ".join(modes)}
        figures = memory.recall(split, key)
        if figures is not None:
            return figures["frozen_s"]
    started = time.perf_counter()
    features = split.extract(inputs)
    frozen_s = (time.perf_counter() - started) / batches.batch_size(inputs)
    figures = {**asdict(split.verify(inputs, features, modes=modes)), "frozen_s": frozen_s}
    if key is not None:
        memory.keep(split, key, figures)
    return frozen_s
