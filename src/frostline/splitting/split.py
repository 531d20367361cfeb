"""Split a model at its frost line: record, generalise, assemble, verify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes, kept_parameters
from frostline.splitting.checks import check_example, check_frontier, check_line, check_repeatable
from frostline.splitting.explaining import Explanation, explain
from frostline.splitting.extraction import extract_features
from frostline.splitting.failures import explained_failure, other_path, other_size
from frostline.splitting.frontiers import find_frontier
from frostline.splitting.graphs import UnknownValue
from frostline.splitting.guards import Expected, Guard, Handed, expect
from frostline.splitting.head import Head, assemble, build_head
from frostline.splitting.kinds import Kinds
from frostline.splitting.layouts import find_layout
from frostline.splitting.points import Frame, Point
from frostline.splitting.quieting import NoiseOnFrozenSide, Quiet, add_quiet, check_quiet_modules, quiet_reference
from frostline.splitting.recipes import make_recipe
from frostline.splitting.recorder import Recorder
from frostline.splitting.sequence import Succession
from frostline.splitting.sizes import generalise
from frostline.splitting.structure import outline
from frostline.splitting.verification import Verification, kernels_for, verify_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from frostline.core.records import FrontierTensor
    from frostline.splitting.frontiers import Frontier, Pair
    from frostline.splitting.recording import Recording
    from frostline.splitting.state import Source

# Two sizes show how sizes follow the batch; a third, between them, proves it.
_SMALL, _LARGE, _PROOF = 2, 4, 3
# Where numbers follow the batch, a size far outside shows what only looks linear.
_FAR = 19
_INPUTS = Point(Frame("", 0), "input", 0, "python")
_Steering = tuple[str, tuple[tuple[Point, str], ...]]
# How often to record again because some sample of the example takes another path than those that were recorded.
_PATHS = 3


@dataclass(frozen=True)
class _Plan:
    """What the recordings gave, before anything is proven."""

    kinds: Kinds
    frontier: Frontier
    expected: dict[bool, Expected]
    quiet: Quiet
    recipe: Mapping[str, str]
    has_sizes: bool
    has_batch_numbers: bool
    recorded: Any
    outline: Any
    moved: frozenset[str]
    whole: frozenset[str]
    sources: tuple[Source, ...]


class Split:
    """A model, split at its frost line into a frozen part and a head that share the model's own weights.

    Attributes:
        head: The trainable part: `head(*features)` returns what the model returns.
        frontier: What crosses the line, in the order of the features.
        recipe: What makes a stored feature valid, as text: calls, weights, buffers, code, what is stored.
    """

    def __init__(self, model: nn.Module, plan: _Plan, head: Head) -> None:
        self.head = head
        self.frontier: tuple[FrontierTensor, ...] = plan.frontier.tensors
        self.recipe = plan.recipe
        self._model, self._plan = model, plan
        self._accepted: set[_Steering] = set()
        self._proven_sizes: set[int] = set()
        self._explanation: Explanation | None = None
        if plan.has_sizes:
            head.prove_sizes_with(self.prove_size)

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
        if self._plan.has_sizes:
            self.prove_size(batches.batch_size(inputs))
        return features

    def prove_size(self, batch_size: int) -> None:
        """Prove the head at this batch size, on the samples of the example; once for every size.

        Raises:
            SplitError: If the model decides by the size of the batch, and the head does not.
        """
        if batch_size in self._proven_sizes or batch_size < 1:
            return
        self._proven_sizes.add(batch_size)
        try:
            inputs = _batch(self._plan.recorded, batch_size)
            self._verify(inputs, self.extract(inputs), ("train", "eval"), has_backward=False)
        except SplitError as error:
            self._proven_sizes.discard(batch_size)
            raise other_size(batch_size, error) from error

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
        inputs = batches.move(inputs, self._device)
        features = self.extract(inputs) if features is None else features
        return self._verify(inputs, features, modes)

    def _verify(
        self, inputs: Any, features: tuple[Tensor, ...], modes: tuple[str, ...], *, has_backward: bool = True
    ) -> Verification:
        reference = quiet_reference(self._model, self._plan.quiet)
        return verify_head(
            self._model, self.head, features, reference, inputs, modes, self._plan.moved, has_backward=has_backward
        )

    def prove_sequence(self, example: Any) -> None:
        """Prove that nothing but the head remembers batches: over four that differ in samples and in size.

        Raises:
            NotCacheable: If something outside of the trainable layers moves from batch to batch.
        """
        plan = self._plan
        reference = quiet_reference(self._model, plan.quiet)
        proof = Succession(self._model, self.head, self.extract, reference, plan.whole, plan.sources)
        few = [_batch(example, _SMALL), _other_values(_batch(example, _PROOF, start=1)), _batch(example, _LARGE)]
        proof.prove([*few, few[0]])

    def explain(self) -> Explanation:
        """What is frozen, what trains, what is stored per sample, what it costs; `print` it."""
        assert self._explanation is not None
        return self._explanation

    def explained(self, explanation: Explanation) -> Split:
        """The same split with its explanation, which is measured last."""
        self._explanation = explanation
        return self

    def telling_sample(self, example: Any) -> int | None:
        """A sample that steers the model as the whole example does, and as those that were recorded do not."""
        count = batches.batch_size(example)
        has_guards = any(expected.guards or expected.sizes for expected in self._plan.expected.values())
        if not has_guards or count <= _LARGE or not self._takes_another_path(example):
            return None
        pairs = (torch.tensor([at, at], device=self._device) for at in range(count))
        return next((at for at, pair in enumerate(pairs)
                     if self._takes_another_path(batches.rows(example, pair))), None)  # fmt: skip

    def _takes_another_path(self, inputs: Any) -> bool:
        features, differing = self._run_frozen(inputs)
        return bool(differing) or features is None

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
        plan = self._plan
        found, differing = extract_features(self._model, plan.kinds, plan.frontier, plan.expected, inputs)
        given = outline(inputs)
        if given != plan.outline:
            differing.insert(0, (Guard(_INPUTS, plan.outline, "the inputs"), given))
        features: list[Tensor] = []
        size = batches.batch_size(inputs)
        for entry, tensor in zip(plan.frontier.entries, found, strict=True):
            if tensor is None or not entry.layout.fits(tensor, size):
                return None, differing
            features.append(entry.layout.to_rows(tensor))
        return tuple(features), differing


def split(model: nn.Module, example: Any) -> Split:
    """A model's frozen part and trainable part, found by running it, and proven to be the model.

    Args:
        model: Any module with frozen and trainable parameters (`frostline.freeze`). It is left as it was.
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
    check_line(model)
    check_example(model, example)
    failed: list[Exception] = []
    with (
        kept_modes(model), kept_buffers(model), kept_attributes(model, numbers=True), kept_generators(),
        kept_parameters(model), kernels_for(model),
    ):  # fmt: skip
        for is_whole in (True, False):
            try:
                return _split(model, example, is_whole=is_whole)
            except (NotCacheable, DataError):
                raise
            except Exception as error:
                failed.append(error)
                if not isinstance(error, (UnknownValue, SplitError)):
                    break
        raise explained_failure(model, _batch(example, _LARGE), failed)


def _split(model: nn.Module, example: Any, *, is_whole: bool) -> Split:
    made = Split(model, *_record(model, example, is_whole=is_whole))
    for _ in range(_PATHS):  # the first samples may have no padding: those are recorded that take the general path
        at = made.telling_sample(example)
        if at is None:
            break
        example = _put_first(example, at)
        made = Split(model, *_record(model, example, is_whole=is_whole))
    plan = made._plan
    sample = _batch(example, _SMALL)
    names = [tensor.name for tensor in made.frontier]
    features, frozen_s = check_repeatable(model, lambda: made.extract(sample), names)
    verification = made.verify(_other_values(_batch(example, _PROOF, start=1)))
    made.prove_sequence(example)
    if plan.has_sizes or plan.has_batch_numbers:
        made.prove_size(_FAR)
    return made.explained(
        explain(plan.kinds, made.head, made.frontier, features, frozen_s, _SMALL, verification, plan.quiet)
    )


def _record(model: nn.Module, example: Any, *, is_whole: bool) -> tuple[_Plan, Head]:
    kinds = Kinds(model)
    sizes = (_batch(example, _SMALL), _batch(example, _LARGE))
    with torch.enable_grad():
        model.train()
        quiet: Quiet = {}
        live: frozenset[str] = frozenset()
        while True:
            try:
                trained = _record_pair(model, kinds, sizes, is_whole, quiet, live)
            except NoiseOnFrozenSide as signal:
                quiet = add_quiet(quiet, signal.source)
                continue
            written = live.union(*(recording.live | set(recording.rebound) for recording in trained))
            if written == live:
                break
            live = written
        check_quiet_modules(quiet, trained[1])
        model.eval()
        evaluated = _record_pair(model, kinds, sizes, is_whole, {}, live, is_logging=True)
    batch_nodes = [generalise(*pair, _anchor(pair)) for pair in (evaluated, trained)]
    frontier = find_frontier(evaluated, trained)
    expected = {mode: expect(*map(_handed, pair)) for mode, pair in ((False, evaluated), (True, trained))}
    check_frontier(model, frontier.tensors)
    frontier = frontier.in_order_of(extract_features(model, kinds, frontier, expected, sizes[0])[0])
    graphs = (
        assemble(evaluated[1], batch_nodes[0], frontier, frontier.eval_slots),
        assemble(trained[1], batch_nodes[1], frontier, frontier.train_slots),
    )
    head = build_head(model, evaluated[1], trained[1], graphs, frontier)
    log = evaluated[0].log
    if any(entry.from_training for entry in frontier.entries):  # weights that only train() reads are part of the key
        with torch.enable_grad():
            model.train()
            log = [*log, *_record_pair(model, kinds, sizes, is_whole, quiet, live, is_logging=True)[0].log]
    has_sizes = any(own.decides_by_size for own in expected.values())
    recipe = make_recipe(log, frontier, quiet)
    recordings = (*evaluated, *trained)
    moved = live.union(*(recording.moved for recording in recordings))
    whole = frozenset(name for recording in recordings for name in recording.modules)
    sources = {key: source for recording in recordings for key, source in recording.sources.items()}
    plan = _Plan(
        kinds, frontier, expected, quiet, recipe, has_sizes, any(batch_nodes), sizes[1], outline(example), moved, whole,
        tuple(sources.values()),
    )  # fmt: skip
    return plan, head


def _handed(recording: Recording) -> tuple[Handed, dict[Point, Tensor], int]:
    return recording.handed, recording.births, recording.batch_size


def _record_pair(
    model: nn.Module, kinds: Kinds, sizes: tuple[Any, Any], is_whole: bool, quiet: Quiet, live: frozenset[str],
    *, is_logging: bool = False,
) -> Pair:  # fmt: skip
    def record(inputs: Any, *, is_logging: bool) -> Recording:
        recorder = Recorder(model, kinds, is_whole=is_whole, quiet=frozenset(quiet), live=live, is_logging=is_logging)
        with kept_buffers(model), kept_attributes(model, numbers=True):
            return recorder.run_once(inputs)

    return record(sizes[0], is_logging=is_logging), record(sizes[1], is_logging=False)


def _anchor(pair: Pair) -> int | None:
    """A crossing that gives the batch size: one that follows the batch."""
    small, large = pair
    for at, (a, b) in enumerate(zip(small.crossings, large.crossings, strict=False)):
        layout = find_layout(a.tensor, b.tensor, small.batch_size, large.batch_size)
        if layout is not None and layout.axis is not None:
            return at
    return None


def _batch(example: Any, size: int, start: int = 0) -> Any:
    """`size` samples of the example, repeated where it has fewer."""
    count = batches.batch_size(example)
    index = torch.arange(start, start + size) % count
    if count < size:
        index[-1] = 0  # so that statistics over the batch are not the same at two sizes
    return batches.rows(example, index.to(next(iter(batches.leaves(example).values())).device))


def _put_first(example: Any, at: int) -> Any:
    order = torch.tensor([at, *(other for other in range(batches.batch_size(example)) if other != at)])
    return batches.rows(example, order.to(next(iter(batches.leaves(example).values())).device))


def _other_values(inputs: Any) -> Any:
    """The same batch with other values: floats are scaled, except masks of zeros and ones."""

    def change(tensor: Tensor) -> Tensor:
        is_mask = bool(((tensor == 0) | (tensor == 1)).all())
        return tensor * 0.75 if tensor.is_floating_point() and not is_mask else tensor

    return batches.map_tensors(inputs, change)
