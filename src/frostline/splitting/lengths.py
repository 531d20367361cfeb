"""A model split for batches of any length, and the proof that padding changes nothing.

Legend: B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn

from frostline.core import inputs as batches
from frostline.core.restore import kept_attributes, kept_buffers, kept_generators, kept_modes
from frostline.splitting.calls.containers import tensor_paths
from frostline.splitting.calls.listener import uncompiled, wrapped
from frostline.splitting.candidate import Candidate
from frostline.splitting.plan.length_plan import record_lengths
from frostline.splitting.proof.verification import verify_head
from frostline.splitting.python_state.kept_state import Traces
from frostline.splitting.uncached import kept_model, run_on_others

if TYPE_CHECKING:
    from collections.abc import Mapping

    from frostline.core.padding import PaddedBatch
    from frostline.splitting.explanation import Explanation
    from frostline.splitting.parts.head import Head
    from frostline.splitting.plan.graph_plan import Plan
    from frostline.splitting.proof.verification import Verification
    from frostline.splitting.recording.run_record import RecorderSettings


Following = tuple[int, tuple[tuple[str, int], ...]]  # (axis of an output, (name of an input, axis of its samples) ...)
_LEAST_GRADIENT = 0.01  # of the largest: the bias of keys in attention has a gradient of zero, but for rounding


class LengthCandidate(Candidate):
    """A candidate that takes batches of any length.

    Attributes:
        following: For each output that varies with the length: its axes, and inputs with the axes that each may follow.
        left_out: Outputs that frozen layers alone make: keys and values that a model keeps for generation.
    """

    def __init__(self, model: nn.Module, plan: Plan, head: Head) -> None:
        super().__init__(model, plan, head)
        self.following: Mapping[str, tuple[Following, ...]] = {}
        self.left_out: frozenset[str] = frozenset()

    def reference(self, inputs: Any) -> Any:
        """What the model returns, without what frozen layers alone put into it, such as their keys and values."""
        outputs = super().reference(inputs)
        if not self.left_out:
            return outputs
        return {path[1:]: own for path, own in _by_path(outputs).items() if path not in self.left_out}

    def find_left_out(self, inputs: Any) -> None:
        """Note the outputs that need no trainable weight and that the head does not make."""
        features, _ = self._run_frozen(inputs)
        if features is None:
            return
        with (
            kept_buffers(self.model),
            kept_attributes(self.model, numbers=True),
            kept_generators(),
            torch.enable_grad(),
        ):
            self.model.train()
            expected = _by_path(self.reference(inputs))
            self.head.train()
            made = _by_path(self.head.recorded(*features))
        self.left_out = frozenset(path for path, own in expected.items() if path not in made and not own.requires_grad)

    def verify_padded(self, batch: PaddedBatch, features: tuple[Tensor, ...]) -> Verification:
        """As `verify`, of a padded batch: outputs are compared at the places of the samples themselves.

        Args:
            batch: The inputs, and the sizes of their samples.
            features: Padded as a loader pads them.
        """

        def own_places(outputs: Any) -> Any:
            return {path[1:]: self._masked(own, path, batch) for path, own in _by_path(outputs).items()}

        head = cast("Head", _Masked(self.head, own_places))
        return verify_head(
            self.model, head, features, lambda given: own_places(self.reference(given)),
            batch.inputs, ("train", "eval"), self.plan.moved, between=self.plan.between, least_gradient=_LEAST_GRADIENT,
        )  # fmt: skip

    def _masked(self, output: Tensor, path: str, batch: PaddedBatch) -> Tensor:
        """The output with zeros at padded places."""
        for axis, inputs in self.following.get(path, ()):
            if axis >= output.dim():
                continue
            lengths = [[shape[of_input] for shape in batch.sizes[name]] for name, of_input in inputs]
            lengths = [own for own in lengths if max(own) == output.shape[axis] and len(own) == len(output)]
            if not lengths:
                continue
            own_B = torch.tensor(lengths, device=output.device).amin(0)
            places = torch.arange(output.shape[axis], device=output.device)
            places = places.flip(0) if batch.is_left else places
            is_own = (places[None] < own_B[:, None]).view(
                len(own_B), *(1,) * (axis - 1), -1, *(1,) * (output.dim() - axis - 1)
            )
            output = torch.where(is_own, output, output.new_zeros(()))
        return output


class _Masked(nn.Module):
    """A head whose outputs are changed."""

    def __init__(self, head: Head, change: Any) -> None:
        super().__init__()
        self.head, self.change = head, change

    def train(self, mode: bool = True) -> _Masked:
        self.head.train(mode)
        self.training = mode
        return self

    def recorded(self, *features: Tensor) -> Any:
        return self.change(self.head.recorded(*features))


def _by_path(outputs: Any) -> dict[str, Tensor]:
    return {"".join(f".{step.key}" for step in path): tensor for path, tensor in tensor_paths(outputs)}


def length_candidate(
    model: nn.Module, shorter: Any, longer: Any, settings: RecorderSettings | None = None
) -> tuple[LengthCandidate, Explanation]:
    """What a split becomes that takes batches of any length, proven at the two lengths that are given.

    Args:
        model: The model.
        shorter: A batch of two samples or more, without padding.
        longer: The same at another length.
        settings: Which calls of frozen modules run in the head; None: none of those that can be answered.

    Raises:
        NotCacheable: If the axis of the length cannot be found, or the frozen part cannot be cached.
        SplitError: If the head is not the model.
    """
    with Traces(model) as traces, kept_model(model), wrapped(), uncompiled():
        candidate = LengthCandidate(model, *record_lengths(model, shorter, longer, settings))
        candidate.find_left_out(shorter)
        figures = candidate.prove(shorter)
        candidate.verify(longer, candidate.extract(longer))
        candidate.following = _following(candidate, shorter, longer)
    traces.check(lambda: [run_on_others(model, batch) for batch in (shorter, longer)][-1])
    return candidate, candidate.explained(figures)


def _following(candidate: LengthCandidate, shorter: Any, longer: Any) -> dict[str, tuple[Following, ...]]:
    """The axes of inputs that each varying axis of an output has the size of, at both lengths.

    All inputs have one length in the recordings, so that several may fit: the padded sizes of a batch choose.
    """
    model, shapes = candidate.model, list[dict[str, tuple[int, ...]]]()
    for batch in (shorter, longer):
        with (
            kept_modes(model),
            kept_buffers(model),
            kept_attributes(model, numbers=True),
            kept_generators(),
            torch.no_grad(),
        ):
            model.eval()
            outputs = _by_path(candidate.reference(batch))
        shapes.append({path: tuple(own.shape) for path, own in outputs.items()})
    of_inputs = [{name: tuple(own.shape) for name, own in batches.leaves(batch).items()} for batch in (shorter, longer)]
    axes: dict[tuple[int, int], list[tuple[str, int]]] = {}
    for name, sizes in of_inputs[0].items():
        for axis, pair in enumerate(zip(sizes, of_inputs[1][name], strict=True)):
            if pair[0] != pair[1]:
                axes.setdefault(pair, []).append((name, axis - 1))
    found: dict[str, tuple[Following, ...]] = {}
    for path, own in shapes[0].items():
        other = shapes[1].get(path, ())
        if len(own) == len(other):
            pairs = enumerate(zip(own, other, strict=True))
            found[path] = tuple((at, tuple(axes[pair])) for at, pair in pairs if at and pair in axes)
    return found
