"""Transforms that mix the samples of a batch, such as MixUp: where they may act on stored rows instead of inputs.

Legend: B batch.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from frostline.core import inputs as batches
from frostline.core.collate import collate, collate_targets
from frostline.core.errors import DataError
from frostline.core.restore import kept_generators, seed_generators
from frostline.core.tolerances import batch_tolerance, relative_difference

if TYPE_CHECKING:
    from frostline.caching.part import FrozenPart
    from frostline.core.item_form import ItemForm

Mix = Callable[[Any, Any], tuple[Any, Any]]  # (inputs, target) -> (inputs, target) of a batch
_SAMPLES = 8
# Draws that are compared, and the most that are made to find so many that change the batch: a mix may act with some
# probability only, or choose one of several at each batch.
_DRAWS, _MOST_DRAWS = 8, 256
_WHERE = "CachedDataset.loader(mix=...)"
_OTHERWISE = (
    "mix in the dataset and keep views of it (fill(views=K)), or train with frostline.fit(..., cache=False); mixing "
    "features is another method (manifold mixup), for a loop of your own with loader(may_change=True)"
)


@dataclass(frozen=True)
class Mixable:
    """Tests whether mixed features are the features of mixed inputs.

    Attributes:
        part: The frozen part.
        dataset: Of which some samples are mixed.
        keep: Label keys that stay among the inputs.
    """

    part: FrozenPart
    dataset: Any
    form: ItemForm

    def check(self, mix: Mix) -> None:
        """Mix some samples before the frozen part and behind it, with the same draws, and compare.

        Noise of the same size is mixed too: real samples alone may not reach the bend of an activation.

        Raises:
            DataError: If they differ, or these features cannot be mixed.
        """
        count = min(_SAMPLES, len(self.dataset))
        items = [self.form.unpack(batches.read(self.dataset, index), index) for index in range(count)]
        inputs_B = collate([inputs for inputs, _ in items], range(count))
        target_B = collate_targets([target for _, target in items], range(count))
        stored = [tensor for tensor in self.part.frontier if not tensor.shared]
        if len(stored) != 1 or not isinstance(inputs_B, Tensor):
            raise _wrong(
                "A batch is mixed where it is one tensor, before the frozen layers and behind them.",
                f"inputs {batches.describe(inputs_B)}, features {', '.join(tensor.name for tensor in stored)}",
            )
        if not (inputs_B.is_floating_point() and stored[0].dtype.is_floating_point):
            raise _wrong(
                "Integers cannot be mixed.", f"inputs {batches.describe(inputs_B)}, features {stored[0].dtype}"
            )
        with kept_generators():
            seed_generators(0)
            noise_B = torch.randn_like(inputs_B) * inputs_B.std(correction=0)
        for batch_B in (inputs_B, noise_B):
            features_B = self._extract(batch_B)
            draws = ((seed, mixed(mix, batch_B.clone(), target_B, seed)[0]) for seed in range(_MOST_DRAWS))
            changed = ((seed, own) for seed, own in draws if not torch.equal(own, batch_B))
            for seed, mixed_B in islice(changed, _DRAWS):
                self._compare(mix, mixed_B, features_B, target_B, seed)

    def _compare(self, mix: Mix, mixed_B: Tensor, features_B: Tensor, target_B: Any, seed: int) -> None:
        wanted = self._extract(mixed_B)
        found = mixed(mix, features_B.clone(), batches.move(target_B, features_B.device), seed)[0]
        difference = relative_difference(found, wanted) if found.shape == wanted.shape else float("inf")
        allowed = batch_tolerance(wanted.dtype, is_on_gpu=wanted.device.type == "cuda")
        if difference > allowed:
            raise _wrong(
                "Mixed features are not the features of mixed inputs: the frozen layers are not linear.",
                f"relative difference {difference:.1e}, allowed {allowed:.0e}, on {len(mixed_B)} samples",
            )

    def _extract(self, inputs_B: Tensor) -> Tensor:
        found = self.part.extract(inputs_B)
        return next(feature for feature, tensor in zip(found, self.part.frontier, strict=True) if not tensor.shared)


def mixed(mix: Mix, inputs: Any, target: Any, *seed: int) -> tuple[Any, Any]:
    """What the transform makes of a batch, its draws a function of the seed alone; generators are put back."""
    number = int.from_bytes(hashlib.sha256(repr(seed).encode()).digest()[:7], "little")
    with kept_generators():
        seed_generators(number)
        try:
            found: Any = mix(inputs, target)
        except (TypeError, ValueError, RuntimeError) as error:  # MixUp of torchvision takes images alone
            raise _wrong(
                "The mix does not take this batch.", f"{type(error).__name__}: {error}; {batches.describe(inputs)}"
            ) from error
    if not isinstance(found, (tuple, list)) or len(found) != 2 or not isinstance(found[0], Tensor):
        raise _wrong("A transform that mixes gives (inputs, target).", batches.describe(found))
    return found[0], found[1]


def needs_the_model() -> DataError:
    """The error of a copy in another process, which cannot be asked."""
    return _wrong("Only the process that has filled the cache can check a mix.", "a copy without the model")


def _wrong(what: str, received: str) -> DataError:
    return DataError(what=what, where=_WHERE, received=received, do=f"{_OTHERWISE}.")
