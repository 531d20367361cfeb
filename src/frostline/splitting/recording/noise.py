"""Noise in one run of a model: which side of the frost line it belongs to, and what draws outside of torch.

Random numbers of Python and NumPy leave no trace among the calls of torch: their global generators are compared.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any, cast

import numpy as np
import torch
from torch.nn.modules.dropout import _DropoutNd  # pyright: ignore[reportPrivateUsage]  # all kinds of it

from frostline.core.errors import NotCacheable, SplitError
from frostline.core.restore import numpy_mark
from frostline.splitting.calls import torch_calls
from frostline.splitting.calls.containers import tensors_in
from frostline.splitting.recording.omitted_noise import NoiseOnFrozenSide, NoiseSource, is_dropout

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from torch import Tensor, nn

    from frostline.splitting.calls.addresses import Frames
    from frostline.splitting.recording.frost_line import FrostLine
    from frostline.splitting.recording.tensor_ledger import TensorLedger


class NoisyModule(Exception):  # noqa: N818 (a signal)
    """A module without parameters drew noise: it is recorded whole."""


class PythonNoise:
    """Watches the global generators of Python and NumPy during one run of a model."""

    def __init__(self) -> None:
        self._state = _state()

    def has_drawn(self) -> bool:
        """True if a number was drawn since the last call of this method."""
        before, self._state = self._state, _state()
        return before != self._state


class Noise:
    """What draws random numbers in one run.

    Args:
        model: The model, in the mode of the run.
        frost_line: Which of its modules are frozen, trainable, mixed.
        ledger: The tensors of the run.
        frames: Its open modules.
    """

    def __init__(self, model: nn.Module, frost_line: FrostLine, ledger: TensorLedger, frames: Frames) -> None:
        self.model, self.frost_line, self.ledger, self.frames = model, frost_line, ledger, frames
        self.python = PythonNoise()

    def may_be(self, module: nn.Module) -> bool:
        """True for a module without parameters in training mode, inside of a mixed one: a dropout, for example."""
        is_bare = not self.frost_line.has_frozen(module) and not self.frost_line.has_trainable(module)
        return is_bare and module.training and self.frost_line.is_mixed(self.owner())

    def owner(self) -> nn.Module:
        """The nearest enclosing module with parameters."""
        for frame in reversed(self.frames.stack):
            if self.frost_line.has_frozen(frame.module) or self.frost_line.has_trainable(frame.module):
                return frame.module
        return self.model

    def source_of(
        self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any], noise: tuple[Tensor, ...]
    ) -> NoiseSource | None:
        """None for a quiet call; for a noisy one its source, if the noise belongs to the trainable part."""
        has_statistics = torch_calls.uses_batch_statistics(func, args, kwargs) and not (
            self.ledger.follows_from_weights(tensors_in((args, kwargs))[0])  # weights that are standardised
        )
        if not has_statistics and torch_calls.is_same_noise(noise, torch_calls.noise_state()):
            return None
        top, owner = self.frames.top, self.owner()
        if not self.frost_line.is_mixed(owner) and not self.frost_line.is_trainable(owner):
            reason = "uses the statistics of the batch" if has_statistics else "draws random numbers"
            name, mode = top.frame.name or "the model", "training" if owner.training else "inference"
            raise NotCacheable(
                what=f"The frozen part is not deterministic: {name} {reason}.",
                where=f"{name} ({type(top.module).__name__}) is in {mode} mode; {torch_calls.user_line()}",
                received=f"{torch_calls.name_of(func)} inside of a frozen module",
                do=self._remedy(owner, has_statistics, is_layer=has_statistics or is_dropout(func)),
            )
        if top.module is not owner and self.may_be(top.module):
            raise NoisyModule
        call = top.following(torch_calls.name_of(func)) if is_dropout(func) else None
        return NoiseSource(call, self.frost_line.name(owner), torch_calls.user_line())

    def _remedy(self, owner: nn.Module, has_statistics: bool, *, is_layer: bool) -> str:
        if owner.training and not is_layer:
            return (
                "if that line draws in training only: frostline.freeze(model, modules=[model.get_submodule("
                f"{self.frost_line.name(owner)!r})]), then split again. If it always draws (random masking), nothing "
                "can be stored: train with frostline.fit(..., cache=False)."
            )
        if owner.training:
            names = self._dropping_below(self.frost_line.name(owner))
            if len(names) == 1:
                return f"frostline.freeze(model, modules=[model.get_submodule({names[0]!r})]), then split again."
            return (
                f"frostline.freeze(model, modules=[model.get_submodule(name) for name in {names}]), then split again; "
                "or frostline.freeze(model, through=...), which freezes all lower layers."
            )
        line = (
            "let that layer use stored statistics in inference mode (track_running_stats=True, training=self.training)"
            if has_statistics
            else "let that line draw only if self.training (F.dropout(..., training=self.training))"
        )
        return f"{line}; or train with frostline.fit(..., cache=False)."

    def notice_python(self) -> None:
        """What Python or NumPy draws before anything trainable has run in a layer without parameters, is left out.

        Raises:
            NoiseOnFrozenSide: For such a layer: an augmentation.
            SplitError: Elsewhere: what the numbers decided would stand still in the head.
        """
        if not self.python.has_drawn():
            return
        top, line = self.frames.top, torch_calls.user_line()
        if not self.ledger.nodes and self.may_be(top.module):
            line = f"what draws from Python or NumPy before {line}"
            raise NoiseOnFrozenSide(NoiseSource(top.frame, top.frame.name, line))
        raise python_noise_error(top.frame.name, line)

    def is_certain(self, tensors: list[Tensor]) -> bool:
        """True for a comparison of noise that cannot come out in another way: a layer drop whose rate is 0."""
        node = self.ledger.nodes.get(id(tensors[0])) if len(tensors) == 1 else None
        if node is None or node.target not in ("lt", torch.lt) or len(node.args) != 2:
            return False
        drawn, rate = node.args
        is_uniform = getattr(drawn, "target", None) in (torch.rand, torch.rand_like)
        return is_uniform and isinstance(rate, (int, float)) and rate <= 0

    def refuse_decision(self, tensors: list[Tensor]) -> None:
        """Raise if noise decides what runs: what one recording drew would stand still in the head."""
        # In a module that is called whole the decision is drawn anew in each step, as in the model.
        noise = [self.ledger.noise.get(id(tensor)) for tensor in tensors]
        if not noise or not all(noise):
            return
        source = cast("NoiseSource", noise[0])
        raise SplitError(
            what="Random numbers decide which layers run (layer drop): each step of the training takes another path.",
            where=f"{source.container or 'the model'}, {source.line}",
            received="a number that torch draws, read by Python",
            do="set the rate of the layer drop to 0 (in transformers: model.config.layerdrop, encoder_layerdrop, "
            "decoder_layerdrop); or put the layer and its decision into a module of its own that holds no frozen "
            "layers, so that it is called whole; or train with frostline.fit(..., cache=False).",
        )

    def refuse_batch_statistics(self, module: nn.Module) -> None:
        """Raise if a frozen normalisation layer uses the statistics of the batch."""
        if torch_calls.is_batch_norm_in_training(module) and self.frost_line.is_frozen(module):
            name = self.frost_line.name(module)
            self.ledger.recording.is_unsound = True
            raise NotCacheable(
                what=f"Cannot cache the output of {name!r}: it normalises with the statistics of the batch.",
                where=f"{name} ({type(module).__name__}), in training mode",
                received="frozen parameters, but running statistics that move and depend on batch mates; model.eval() "
                "lasts until the training calls model.train()",
                do="freeze running statistics, too: frostline.freeze(model, modules=[model.get_submodule(name) for "
                f"name in {self._with_batch_statistics()}]), then split again; or frostline.freeze(model, "
                "through=...), which freezes all lower layers.",
            )

    def _with_batch_statistics(self) -> list[str]:
        """Names of the outermost frozen modules that hold such a layer."""
        return [name for name, own in self._outermost_frozen() if any(map(torch_calls.is_batch_norm_in_training, own))]

    def _dropping_below(self, owner: str) -> list[str]:
        """Names of the outermost frozen modules with dropout before the first trainable one; `owner` is among them."""
        line, found = self.frost_line, list[str]()
        first = next((name for name, own in line.parameters.items() if own.requires_grad), "")
        for name, own in self._outermost_frozen():
            if name != owner and not owner.startswith(f"{name}.") and _comes_behind(name, first, line.parameters):
                break
            drops = any(isinstance(part, _DropoutNd) and part.training and part.p > 0 for part in own)
            if drops or owner.startswith(f"{name}.") or name == owner:
                found.append(name)
        return found if any(owner == name or owner.startswith(f"{name}.") for name in found) else [owner]

    def _outermost_frozen(self) -> Iterator[tuple[str, list[nn.Module]]]:
        """The outermost frozen modules by name, each with its parts."""
        last = None
        for name, module in self.frost_line.model.named_modules():
            is_inside = last is not None and name.startswith(f"{last}.")
            if name and not is_inside and self.frost_line.is_frozen(module):
                last = name
                yield name, list(module.modules())

    def refuse_into(self, module: nn.Module | None, tainted: list[Tensor], inputs: Sequence[Tensor] = ()) -> None:
        """Noise alone must not pull frozen layers into the head: the frontier never moves silently."""
        if not tainted or not all(id(tensor) in self.ledger.noise for tensor in tainted):
            return
        is_frozen = (
            self.frost_line.has_frozen(module) and not self.frost_line.has_trainable(module)
            if module is not None
            else any(self.frost_line.is_frozen_parameter(tensor) for tensor in inputs)
        )
        if is_frozen:
            raise NoiseOnFrozenSide(cast("NoiseSource", self.ledger.noise[id(tainted[0])]))


def _comes_behind(module: str, parameter: str, parameters: Iterable[str]) -> bool:
    """True if the parameters of a module are registered behind this one."""
    order = list(parameters)
    own = next((at for at, name in enumerate(order) if name.startswith(f"{module}.")), len(order))
    return bool(parameter) and own > order.index(parameter)


def python_noise_error(module: str, line: str) -> SplitError:
    """What the numbers decided would stand still in the head."""
    return SplitError(
        what="The model draws random numbers from Python or NumPy: what they decide would never change in the head.",
        where=f"{module or 'the model'}, before {line}",
        received="another state of `random` or `numpy.random`",
        do="move an augmentation into the dataset's transform; draw with torch and decide with torch.where; or put "
        "that step into a module of its own that holds no frozen layers, so that it is called whole; or train with "
        "frostline.fit(..., cache=False).",
    )


def _state() -> tuple[Any, ...]:
    return random.getstate(), numpy_mark(np.random.get_state(legacy=False))
