"""The frozen part of a model as pooled features at many lines at once, ready for a cache. Legend: B batch."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase  # pyright: ignore[reportPrivateUsage]  # all kinds of it
from torch.utils._pytree import tree_leaves

from frostline.core.inputs import batch_size, call_with_model, leaves, move
from frostline.core.records import FrontierTensor
from frostline.core.restore import kept_attributes, kept_generators, kept_modes
from frostline.selection.pooled_features import POOLING, pooled, pooled_input

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Mapping, Sequence

    from frostline.core.item_form import ItemForm
    from frostline.selection.candidates import Line

INPUTS = "(inputs)"
ENERGY = "(batchnorm)"


class Proven(Protocol):
    """The proven frozen part below the deepest line: a `Split` is one."""

    @property
    def recipe(self) -> Mapping[str, str]:
        """What makes its features valid."""
        ...

    @property
    def is_steered(self) -> bool:
        """True if values of it reach Python."""
        ...

    @property
    def item_form(self) -> ItemForm:
        """Which parts of a dataset's items it takes."""
        ...

    def check_unchanged(self) -> None:
        """Raise if it is no longer what the recipe describes."""
        ...

    def check_weights(self) -> None:
        """Raise if a weight or buffer of it has changed."""
        ...


@dataclass(frozen=True)
class AsStored:
    """How a training would compute and keep what crosses a line; as it is, the model's own way.

    Attributes:
        described: For the recipe.
        loaded: (line, values) to (the values as they come back from the disk, the share of bytes that they take there).
        autocast: The dtype that the frozen part is rounded to on its way, or None.
        is_varying: Samples differ in size.
    """

    described: str = ""
    loaded: Callable[[str, Tensor], tuple[Tensor, float]] | None = None
    autocast: torch.dtype | None = None
    is_varying: bool = False


class Taps:
    """Pooled features at each line, from one run of the frozen part; a cache stores them like those of a split.

    Beside the lines it gives the inputs themselves, pooled, and the energy of each BatchNorm layer's input: the mean
    square of what the layer is given, standardised by its running statistics; 1 on average over the data of which
    these are the statistics.

    Args:
        model: The model, frozen through the deepest line.
        deepest: The proof that its output at that line may be stored.
        lines: The lines to tap; those without a layer above them are left out.
        example: A few samples.
        way: How the training would compute and keep the features.

    Attributes:
        recipe: That of the deepest line, with the names of the taps and the way of pooling.
        item_form: Which parts of a dataset's items the model takes.
        frontier: One tensor per tap.
        num_mean: By name of the tap, how many of its first features are means.
        norms: Names of the BatchNorm layers whose inputs are measured, in order.
        shares: By name of the tap, the share of its bytes that is stored.
    """

    def __init__(
        self, model: nn.Module, deepest: Proven, lines: Sequence[Line], example: Any, way: AsStored | None = None
    ) -> None:
        self._model, self._deepest, self._way = model, deepest, way or AsStored()
        self.item_form, self.shares = deepest.item_form, dict[str, float]()
        self._device = next(model.parameters()).device
        self._below: dict[str, int] = {}
        self._lines = {str(line.through): line for line in lines if line.tap is not None}
        convolutions = (nn.Conv1d, nn.ConvTranspose1d)
        self._is_sequence = any(isinstance(module, convolutions) for module in model.modules())
        self.num_mean: dict[str, int] = {}
        self.norms: list[str] = []
        found = self._run(example)
        self.norms = list(self._energies(found))
        self._names = [name for name in (INPUTS, *self._lines) if name in found]
        self.recipe = {
            **deepest.recipe, "taps": " ".join(f"{name}@{line.tap}" for name, line in self._lines.items()),
            "pooling": f"{POOLING}, sequence {self._is_sequence}", "norms": " ".join(self.norms),
            **({"way": self._way.described} if self._way.described else {}),
        }  # fmt: skip
        shapes = {name: found[name].shape[1] for name in self._names} | (
            {ENERGY: len(self.norms)} if self.norms else {}
        )
        self.frontier = tuple(
            FrontierTensor(name, (width,), torch.float32, 4 * width, shared=False) for name, width in shapes.items()
        )

    @property
    def is_steered(self) -> bool:
        """As of the frozen part."""
        return self._deepest.is_steered

    def check_unchanged(self) -> None:
        """Raise if the frozen part is no longer what the recipe describes."""
        self._deepest.check_unchanged()

    def check_weights(self) -> None:
        """Raise if a weight or buffer of the frozen part has changed."""
        self._deepest.check_weights()

    def prove(self, inputs: Any, features: tuple[Tensor, ...]) -> None:
        """Nothing is trained on pooled features, so that there is no head to prove."""

    def extract(self, inputs: Any) -> tuple[Tensor, ...]:
        """Features (B, D) of each tap, in the order of the frontier."""
        found = self._run(move(inputs, self._device))
        rows = [found[name] for name in self._names]
        if self.norms:
            rows.append(torch.stack([found[f"{ENERGY}{name}"] for name in self.norms], 1))
        return tuple(rows)

    def _run(self, inputs: Any) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        first = next(iter(leaves(inputs).values()))
        own = pooled_input(first, has_one_size=not self._way.is_varying)
        if own is not None:
            found[INPUTS] = own
        model = self._model
        # Gradient mode is on, as it is when the frozen part runs below a trained head: modules take the same path.
        with (
            kept_modes(model), kept_attributes(model, numbers=True), kept_generators(), torch.enable_grad(),
            self._precision(),
        ):  # fmt: skip
            model.eval()
            with self._listening(found, batch_size(inputs)):
                call_with_model(model, inputs)
        return found

    def _precision(self) -> AbstractContextManager[Any]:
        dtype = self._way.autocast
        return torch.autocast(self._device.type, dtype) if dtype is not None else ExitStack()

    @contextmanager
    def _listening(self, found: dict[str, Tensor], num_samples: int) -> Generator[None]:
        by_tap: dict[str, list[tuple[str, Line]]] = {}
        for name, line in self._lines.items():
            by_tap.setdefault(str(line.tap), []).append((name, line))
        with ExitStack() as stack:
            for tap, lines in by_tap.items():

                def keep(_: Any, args: Any, kwargs: Any, lines: list[tuple[str, Line]] = lines) -> None:
                    given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
                    for name, line in lines:
                        if name not in found:
                            self._keep(found, name, given[line.argument], num_samples)

                stack.callback(self._model.get_submodule(tap).register_forward_pre_hook(keep, with_kwargs=True).remove)
            for name, module in self._model.named_modules():
                if isinstance(module, _NormBase) and _is_frozen(module) and module.running_mean is not None:

                    def measure(module: Any, args: Any, name: str = name) -> None:
                        if args:
                            found.setdefault(f"{ENERGY}{name}", _energy(module, args[0]))

                    stack.callback(module.register_forward_pre_hook(measure).remove)
            yield

    def norms_below(self, line: Line) -> list[int]:
        """Places in `norms` of the layers that run below a line."""
        return list(range(self._below.get(str(line.through), 0)))

    def _keep(self, found: dict[str, Tensor], name: str, value: Tensor, num_samples: int) -> None:
        if self._way.autocast is not None:
            value = value.float()  # a split's features have the dtype that its layers give without it
        if self._way.loaded is not None and value.shape[:1] == (num_samples,):
            value, self.shares[name] = self._way.loaded(name, value.detach())
        taken = pooled(value, num_samples, is_sequence=self._is_sequence)
        if taken is not None:
            found[name], self.num_mean[name] = taken
            self._below[name] = sum(other.startswith(ENERGY) for other in found)

    def _energies(self, found: Mapping[str, Tensor]) -> Generator[str]:
        yield from (name.removeprefix(ENERGY) for name in found if name.startswith(ENERGY))


def _is_frozen(module: nn.Module) -> bool:
    return not any(parameter.requires_grad for parameter in module.parameters())


def _energy(module: Any, value: Tensor) -> Tensor:
    """(B,) mean over channels of the mean square of what a BatchNorm layer is given, by its running statistics."""
    value = value.detach().float()
    channels_first = value.movedim(-1, 1) if value.dim() > 2 and value.shape[1] != len(module.running_mean) else value
    rows_BCN = channels_first.flatten(2) if channels_first.dim() > 2 else channels_first[:, :, None]
    mean_C, var_C = module.running_mean.float(), module.running_var.float() + module.eps
    distances_BC = torch.linalg.vector_norm(rows_BCN - mean_C[:, None], dim=2)  # variances take five times as long
    return (distances_BC**2 / (rows_BCN.shape[2] * var_C)).mean(1)
