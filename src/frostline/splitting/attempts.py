"""`frostline.split`: attempts at a split, in order; the first that is proven to be the model is taken.

After the last attempt, one error says why none of them holds.
"""

from __future__ import annotations

import time
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

from frostline.core import inputs as batches
from frostline.core.arguments import check_model
from frostline.core.doors import out_of_memory, public
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.layers import unwrapped
from frostline.core.mismatch import told_mismatch
from frostline.splitting.calls.listener import uncompiled, wrapped
from frostline.splitting.candidate import Candidate
from frostline.splitting.failed_attempts import failure_of_all
from frostline.splitting.plan.graph_plan import record_plan
from frostline.splitting.plan.replay_plan import RECORDING_FAILS, NothingToReplay, first_proven
from frostline.splitting.plan.samples import put_first
from frostline.splitting.proof.proof_key import proof_key, samples_text
from frostline.splitting.python_state.kept_state import Traces
from frostline.splitting.recording.graph_writer import UnknownValue
from frostline.splitting.recording.refusals import freeze_first
from frostline.splitting.recording.run_record import RecorderSettings
from frostline.splitting.split import Split
from frostline.splitting.uncached import kept_model, run_on_others

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import nn

    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.graph_plan import Plan
    from frostline.splitting.proof.proof_key import Figures, ProofMemory

# How often to record again because some sample of the example takes another path than those that were recorded.
_PATHS = 3
_REFUSED = "refused"  # among the figures of a proof: it has failed
_READS = "values of the frozen part decide in Python what runs in the trainable part"


@public("split")
def split(model: nn.Module, example: Any) -> Split:
    """A model's frozen part and trainable part, found by running it, and proven to be the model.

    Args:
        model: Any module with frozen and trainable parameters (`frostline.freeze`), wrapped or not; left as it was.
        example: A batch as the model takes it: a tensor, a tuple or a mapping, two samples or more, on the
            model's device. At most four samples are used.

    Returns:
        The split; training `split.head` trains `model`.

    Raises:
        SplitError: If nothing or everything is frozen, a trainable value steers Python, sizes cannot be
            generalised, or the head does not equal the model.
        NotCacheable: If the frozen part is noisy, moves its own state, or does not follow the batch.
        DataError: If the example is too small, on another device, or does not fit `forward`.

    Example:
        >>> import torch, frostline as fl
        >>> from torch import nn
        >>> model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 3))
        >>> summary = fl.freeze(model, through="1")
        >>> split = fl.split(model, torch.randn(4, 8))
        >>> [(tensor.name, tensor.shape) for tensor in split.frontier]
        [('1', (16,))]
        >>> x = torch.randn(5, 8)
        >>> torch.equal(split.head(*split.extract(x)), model(x))
        True
    """
    with told_mismatch(model, example):
        return remembered_split(model, example, None)


def remembered_split(
    model: nn.Module, example: Any, memory: ProofMemory | None, more: Callable[[], Any] | None = None
) -> Split:
    """As `split`; a proof that is remembered is not made again, and one that holds is remembered.

    Args:
        model: The model.
        example: A batch.
        memory: Keeps proofs.
        more: Gives a larger example that begins like this one. It is asked for only where values steer the model.
    """
    check_model("split", model, needs=("shapes", "values"))
    model = unwrapped(model)[0]
    _check_line(model)
    _check_example(model, example)
    with Traces(model) as traces, kept_model(model), wrapped(), uncompiled():
        made = _first_that_holds(model, example, memory, more)
    traces.check(partial(run_on_others, model, example))
    return made


def _first_that_holds(
    model: nn.Module, example: Any, memory: ProofMemory | None, more: Callable[[], Any] | None
) -> Split:
    """The split whose head is a graph, or else the one whose head runs the model's own forward."""
    # Whole modules keep their names and their control flow in the head, so they come first. Where that graph misses a
    # value, one that enters every module may have it. Each has to pass the same proofs.
    failed: list[Exception] = []
    for is_whole in (True, False):
        try:
            return _graph_split(model, example, memory, more, is_whole=is_whole)
        except DataError:
            raise
        except Exception as error:
            if out_of_memory(error) is not None:
                raise
            failed.append(error)
            if isinstance(error, NotCacheable) or not isinstance(error, (UnknownValue, SplitError, RefusedBefore)):
                break
    if memory is not None and any(isinstance(error, RefusedBefore) for error in failed):
        return _first_that_holds(model, example, _WithoutRefusals(memory), more)  # what follows needs the errors
    if all(isinstance(error, RECORDING_FAILS) for error in failed):
        found = _replayed_split(model, example, memory, failed[0])
        if found is not None:
            return found
    if isinstance(failed[-1], NotCacheable):
        raise failed[-1]
    raise failure_of_all(model, example, failed)


def _graph_split(
    model: nn.Module, example: Any, memory: ProofMemory | None, more: Callable[[], Any] | None, *, is_whole: bool
) -> Split:
    """The split whose head is a graph; modules without frozen layers are called whole, or entered too."""
    candidate = Candidate(model, *record_plan(model, example, RecorderSettings(is_whole)))
    if more is not None and candidate.meets_values:
        example = more()
    for _ in range(_PATHS):  # the first samples may have no padding: those are recorded that take the general path
        at = candidate.steering_sample(example)
        if at is None:
            break
        example = put_first(example, at)
        candidate = Candidate(model, *record_plan(model, example, RecorderSettings(is_whole)))
    if candidate.plan.num_guards:  # a head that reads the values itself holds for all of them
        other = _replayed_split(model, example, memory, _READS, fewer_than=candidate.plan.num_guards)
        if other is not None:
            return other
    return _proven_split(candidate, example, memory)


def _replayed_split(
    model: nn.Module, example: Any, memory: ProofMemory | None, why: Exception | str, *, fewer_than: int | None = None
) -> Split | None:
    """The split whose head runs the model's own forward, if there is one that is proven.

    Args:
        model: The model.
        example: A batch.
        memory: Keeps proofs.
        why: Why no graph holds.
        fewer_than: Take one only that stores no more than is used, and whose values steer at fewer places than this.
    """

    def prove(plan: Plan, head: Head) -> Split:
        if fewer_than is not None and plan.num_guards >= fewer_than:  # known before the proof, which takes long
            raise NothingToReplay
        return _proven_split(Candidate(model, plan, head), example, memory)

    return first_proven(prove, model, example, why, only_lean=fewer_than is not None)


def _proven_split(candidate: Candidate, example: Any, memory: ProofMemory | None) -> Split:
    """The candidate as a split, after its proof on the example, or with the figures of a proof that is remembered."""

    def remake(settings: RecorderSettings) -> Split:
        model = candidate.model
        with Traces(model) as traces, kept_model(model), wrapped(), uncompiled():
            made = _recorded_again(candidate, settings, memory)
        traces.check(partial(run_on_others, model, example))
        return made

    if memory is None:
        return Split(candidate, candidate.explained(candidate.prove(example)), None, remake, split)
    key = proof_key(candidate.model, candidate.plan, candidate.head)
    figures = memory.recall(candidate, key) if key is not None else None
    if figures is not None and _REFUSED in figures:
        raise RefusedBefore
    if figures is None:
        try:
            figures = candidate.prove(example)
        except SplitError as error:
            if key is not None and not isinstance(error, NotCacheable):
                memory.keep(candidate, key, {_REFUSED: 1.0})
            raise
        if key is not None:
            memory.keep(candidate, key, figures)
    return Split(candidate, candidate.explained(figures), key, remake, split)


def _recorded_again(candidate: Candidate, settings: RecorderSettings, memory: ProofMemory | None) -> Split:
    """The split of the same model and samples with other settings."""
    model, example = candidate.model, candidate.plan.recorded
    if not settings.replayed:
        return _proven_split(Candidate(model, *record_plan(model, example, settings)), example, memory)

    def prove(plan: Plan, head: Head) -> Split:
        return _proven_split(Candidate(model, plan, head), example, memory)

    made = first_proven(prove, model, example, settings.replayed, settings=settings)
    if made is None:
        raise SplitError(
            what="What the plan computes again cannot be computed in the head.", where="Split.follow(plan)",
            received="no head that runs the model's own forward is the model then",
            do="store the frontier: use this split as it is.",
        )  # fmt: skip
    return made


def verify_once(split: Split, inputs: Any, *, modes: tuple[str, ...], memory: ProofMemory) -> float:
    """As `Split.verify`, unless the same proof on the same batch is remembered.

    Returns:
        Seconds of the frozen part for one sample, as measured when it was proven.

    Raises:
        SplitError: If head and model differ.
    """
    key = split.proof_key
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


class RefusedBefore(RuntimeError):  # noqa: N818 (a signal inside this pillar, never seen by callers)
    """The proof of this candidate has failed in an earlier start, which had the same key: the next attempt is due."""


class _WithoutRefusals:
    """A memory of the proofs that held: those that failed are made again, and say why they fail."""

    def __init__(self, memory: ProofMemory) -> None:
        self._memory = memory
        self.keep = memory.keep

    def recall(self, part: Any, key: Mapping[str, str]) -> Figures | None:
        """As the memory itself, but nothing of a refusal."""
        figures = self._memory.recall(part, key)
        return None if figures is None or _REFUSED in figures else figures


def _check_line(model: nn.Module) -> None:
    """Raise unless the model has frozen and trainable parameters.

    Raises:
        SplitError: If one of the two is missing.
    """
    parameters = list(model.named_parameters())
    frozen = [name for name, parameter in parameters if not parameter.requires_grad]
    if not frozen:
        raise SplitError(
            what="Nothing is frozen: there is no frost line to split at.",
            where=type(model).__name__,
            received=f"{len(parameters)} parameters, all trainable",
            do=freeze_first(model),
        )
    if len(frozen) == len(parameters):
        raise SplitError(
            what="Everything is frozen: no parameter trains.",
            where=type(model).__name__,
            received=f"{len(parameters)} parameters, all frozen",
            do='frostline.thaw(model, down_to="LAYER") or frostline.replace_head(model, num_classes), then split.',
        )


def _check_example(model: nn.Module, example: Any) -> None:
    """Raise unless the example is a batch that the model can take.

    Raises:
        DataError: If it has fewer than two samples or lies on another device.
    """
    size = batches.batch_size(example)
    if size < 2:
        raise DataError(
            what="The example batch is too small: one sample does not show how sizes follow the batch.",
            where="the example",
            received=f"{size} sample ({batches.describe(example)})",
            do="pass a batch of two samples or more.",
        )
    device = next(model.parameters()).device
    for name, tensor in batches.leaves(example).items():
        if tensor.device != device:
            raise DataError(
                what="The example lies on another device than the model.",
                where=f"input {name!r}",
                received=f"example on {tensor.device}, model on {device}",
                do=f"move the example: example.to({str(device)!r}).",
            )
