"""Split a model at its frost line: record, generalise, assemble, verify."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from frostline.core import inputs as batches
from frostline.core.errors import DataError, NotCacheable, SplitError
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes
from frostline.splitting.checks import check_example, check_far, check_frontier, check_line, check_repeatable
from frostline.splitting.explaining import Explanation, explain
from frostline.splitting.extraction import extract_features
from frostline.splitting.failures import explained_failure, other_path
from frostline.splitting.frontiers import find_frontier
from frostline.splitting.graphs import UnknownValue
from frostline.splitting.head import Head, assemble, build_head, numbers_of
from frostline.splitting.kinds import Kinds
from frostline.splitting.layouts import find_layout
from frostline.splitting.quieting import NoiseOnFrozenSide, Quiet, add_quiet, check_quiet_modules, quiet_reference
from frostline.splitting.recipes import make_recipe
from frostline.splitting.recorder import Recorder
from frostline.splitting.sizes import generalise
from frostline.splitting.verification import Verification, kernels_for, verify_head

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor, nn

    from frostline.core.records import FrontierTensor
    from frostline.splitting.frontiers import Frontier, Pair
    from frostline.splitting.points import Point
    from frostline.splitting.recording import Guard, Recording

# Two sizes show how sizes follow the batch; a third, between them, proves it.
_SMALL, _LARGE, _PROOF = 2, 4, 3
# Where sizes follow the batch, a size far outside shows what only looks linear, such as min(8, B).
_FAR = 19
# How often to record again because some sample of the example takes another path than those that were recorded.
_PATHS = 3


@dataclass(frozen=True)
class _Plan:
    """What the recordings gave, before anything is proven."""

    kinds: Kinds
    frontier: Frontier
    guards: dict[bool, dict[Point, Guard]]
    quiet: Quiet
    recipe: Mapping[str, str]
    has_sizes: bool
    recorded: Any


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
        self._accepted: set[tuple[tuple[Point, str], ...]] = set()
        self._explanation: Explanation | None = None

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """Run the frozen part only, in inference mode, and stop at the frontier.

        Args:
            inputs: A batch as the model takes it, on any device.

        Returns:
            One tensor per frontier entry: (B, *shape), or the whole tensor for a shared one. No gradients.

        Raises:
            SplitError: If a value that steers the model differs from the recording, and the head does not hold.
        """
        features, differing = self._extract(inputs)
        steering = tuple((guard.point, str(value)) for guard, value in differing)
        if steering and steering not in self._accepted:
            try:
                self.verify(inputs, features)
            except SplitError as error:
                raise other_path(inputs, differing, error) from error
            self._accepted.add(steering)
        return features

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
        features = self._extract(inputs)[0] if features is None else features
        reference = quiet_reference(self._model, self._plan.quiet)
        return verify_head(self._model, self.head, features, reference, inputs, modes)

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
        if not any(self._plan.guards.values()) or count <= _LARGE or not self._takes_another_path(example):
            return None
        pairs = (torch.tensor([at, at], device=self._device) for at in range(count))
        return next((at for at, pair in enumerate(pairs)
                     if self._takes_another_path(batches.rows(example, pair))), None)  # fmt: skip

    def _takes_another_path(self, inputs: Any) -> bool:
        _, differing, missing = self._run_frozen(inputs)
        return bool(differing) or missing is not None

    @property
    def _device(self) -> torch.device:
        return next(self._model.parameters()).device

    def _extract(self, inputs: Any) -> tuple[tuple[Tensor, ...], list[tuple[Guard, Any]]]:
        inputs = batches.move(inputs, self._device)
        features, differing, missing = self._run_frozen(inputs)
        if differing or missing:
            features, missing = self._on_recorded_path(inputs) or (features, missing)
        if missing is not None:
            raise other_path(inputs, differing, f"no value for {missing!r}")
        return features, differing

    def _on_recorded_path(self, inputs: Any) -> tuple[tuple[Tensor, ...], None] | None:
        """The features of a batch in company of the samples that were recorded, which take the path of the head."""
        try:
            together = batches.joined(inputs, self._plan.recorded)
        except RuntimeError:  # sequences of another length
            return None
        features, differing, missing = self._run_frozen(together)
        if differing or missing is not None:
            return None
        count = batches.batch_size(inputs)
        return tuple(
            feature if tensor.shared else feature[:count]
            for feature, tensor in zip(features, self.frontier, strict=True)
        ), None  # fmt: skip

    def _run_frozen(self, inputs: Any) -> tuple[tuple[Tensor, ...], list[tuple[Guard, Any]], str | None]:
        """(features, values that steered another way, name of a feature that was not made)."""
        plan = self._plan
        found, differing = extract_features(self._model, plan.kinds, plan.frontier, plan.guards, inputs)
        features: list[Tensor] = []
        for entry, tensor in zip(plan.frontier.entries, found, strict=True):
            if tensor is None:
                return (), differing, entry.tensor.name
            features.append(entry.layout.to_rows(tensor))
        return tuple(features), differing, None


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
        kernels_for(model),
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
    if plan.has_sizes:
        check_far(model, made.head, made.extract, _batch(example, _FAR))
    return made.explained(
        explain(plan.kinds, made.head, made.frontier, features, frozen_s, _SMALL, verification, plan.quiet)
    )


def _record(model: nn.Module, example: Any, *, is_whole: bool) -> tuple[_Plan, Head]:
    kinds, numbers = Kinds(model), numbers_of(model)
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
    frontier, guards = find_frontier(evaluated, trained), {False: evaluated[1].guards, True: trained[1].guards}
    check_frontier(model, frontier.tensors)
    frontier = frontier.in_order_of(extract_features(model, kinds, frontier, guards, sizes[0])[0])
    graphs = (
        assemble(evaluated[1], batch_nodes[0], frontier, frontier.eval_slots),
        assemble(trained[1], batch_nodes[1], frontier, frontier.train_slots),
    )
    head = build_head(model, evaluated[1], trained[1], graphs, frontier, numbers)
    log = evaluated[0].log
    if any(entry.from_training for entry in frontier.entries):  # weights that only train() reads are part of the key
        with torch.enable_grad():
            model.train()
            log = [*log, *_record_pair(model, kinds, sizes, is_whole, quiet, live, is_logging=True)[0].log]
    return _Plan(kinds, frontier, guards, quiet, make_recipe(log, frontier, quiet), any(batch_nodes), sizes[0]), head


def _record_pair(
    model: nn.Module, kinds: Kinds, sizes: tuple[Any, Any], is_whole: bool, quiet: Quiet, live: frozenset[str],
    *, is_logging: bool = False,
) -> Pair:  # fmt: skip
    def record(inputs: Any, *, is_logging: bool) -> Recording:
        recorder = Recorder(model, kinds, is_whole=is_whole, quiet=frozenset(quiet), live=live, is_logging=is_logging)
        with kept_buffers(model), kept_attributes(model, numbers=False):
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
