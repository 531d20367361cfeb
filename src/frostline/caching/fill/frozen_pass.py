"""Runs the frozen part over new samples, and again over golden rows: stored samples whose features must be the same.

Legend: B batch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from frostline.caching.part import CanBeFaster, Faster, FollowsLengths, Provable
from frostline.caching.store.proofs import Proofs
from frostline.core import inputs as batches
from frostline.core.collate import collate
from frostline.core.doors import out_of_memory
from frostline.core.errors import CacheError, DataError, NotCacheable, SplitError
from frostline.core.padding import PaddedBatch, groups_of_one_size, sizes_of
from frostline.core.timing import Stopwatch
from frostline.core.tolerances import autocast_dtypes, batch_tolerance, relative_difference
from frostline.core.uploads import Uploads

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from torch import Tensor

    from frostline.caching.part import FrozenPart
    from frostline.core.padding import Padding


class Computer:
    """The frozen part, watched: finite values, and shared tensors that stay the same.

    Args:
        part: The frozen part.
        shared: Its shared tensors, as far as they are known.
        padding: How samples of differing size become a batch; None where all have one size.
    """

    def __init__(self, part: FrozenPart, shared: dict[str, Tensor], padding: Padding | None = None) -> None:
        self.part, self.shared, self.padding = part, shared, padding
        self.rounding: Callable[[str], float] = lambda name: 0.0  # of what is stored, by name
        self.collate = collate if padding is None else padding.batch
        self.stored = [t for t in part.frontier if not t.is_input and not t.shared]
        self.device: torch.device | None = None
        self.watch = Stopwatch()
        self._uploads: Uploads | None = None

    def compute(self, batch: Any, indices: Sequence[int]) -> dict[str, Tensor]:
        """Rows (B, *shape) by the name of the frontier tensor, on the CPU.

        Args:
            batch: The inputs of B samples, stacked.
            indices: Their positions in the dataset, for errors.
        """
        return self.collect(self.launch(batch, indices), indices)

    @property
    def is_on_gpu(self) -> bool:
        """True once the frozen part has computed on a GPU."""
        return self.device is not None and self.device.type == "cuda"

    def launch(self, batch: Any, indices: Sequence[int]) -> dict[str, Tensor]:
        """The frontier's tensors by name, where the frozen part runs; a GPU may have yet to compute them."""
        with self.watch.lap(len(indices)):
            if self.is_on_gpu and self._uploads is None:
                self._uploads = Uploads(self.device)
            return self._extract_alike(batch if self._uploads is None else self._uploads.upload(batch), indices)

    def collect(self, found: dict[str, Tensor], indices: Sequence[int]) -> dict[str, Tensor]:
        """Rows (B, *shape) on the CPU, checked, of what was launched."""
        with self.watch.lap(0):
            rows = {tensor.name: found[tensor.name] for tensor in self.stored}
            on_cpu = {name: tensor.cpu() for name, tensor in rows.items()}  # waits for a GPU
        self.check_finite(rows, indices)
        self._check_sizes(rows, indices)
        self._check_shared(found)
        return on_cpu

    def again(self, inputs: Sequence[Any], indices: Sequence[int]) -> dict[str, Tensor]:
        """All that the frontier holds, in its order, of samples that were computed before in other batches."""
        if self.padding is None or isinstance(self.part, FollowsLengths):
            return self._extract(self.collate(inputs, indices))
        # features without a place for each of the sample's own (pooled ones) are of samples of one size
        groups = groups_of_one_size(inputs)
        found = [self._extract(self.padding.batch([inputs[at] for at in group])) for group in groups]
        order = torch.tensor([at for group in groups for at in group], device="cpu").argsort()
        return {name: torch.cat([own[name] for own in found])[order.to(self.device)] for name in found[0]}

    @property
    def is_steered(self) -> bool:
        """True if one sample may decide for its whole batch, by a value that reaches Python."""
        return isinstance(self.part, Provable) and self.part.is_steered

    def prove(self, inputs: Sequence[Any], indices: Sequence[int], features: tuple[Tensor, ...]) -> None:
        """Prove that what trains on these features is the model.

        Raises:
            SplitError: If it is not.
        """
        if self.padding is not None and isinstance(self.part, FollowsLengths):
            batch = PaddedBatch(self.collate(inputs, indices), sizes_of(inputs), self.padding.is_left)
            try:
                self.part.prove_padded(batch, features)
            except SplitError as error:
                raise SplitError(
                    what="The trainable part reads padded places, where nothing is stored.",
                    where=f"{error.where}, samples {', '.join(map(str, indices[:8]))}",
                    received=error.received,
                    do="mask padded places in the trainable part (a mean over the places of the sample alone, an "
                    "attention mask, no BatchNorm over places); pad all samples to one length in the dataset; or train "
                    "with frostline.fit(..., cache=False).",
                ) from error
        elif isinstance(self.part, Provable):
            self.part.prove(self.collate(inputs, indices), features)

    def _extract(self, batch: Any) -> dict[str, Tensor]:
        found = dict(zip((t.name for t in self.part.frontier), self.part.extract(batch), strict=True))
        self.device = next(iter(found.values())).device
        return found

    def _extract_alike(self, batch: Any, indices: Sequence[int]) -> dict[str, Tensor]:
        """The features of samples of one size; where the frozen part fails on it, the error names them."""
        try:
            return self._extract(batch)
        except (IndexError, RuntimeError) as error:
            if self.padding is None or out_of_memory(error) is not None:
                raise
            raise DataError(
                what="The frozen part fails on samples of this size.",
                where=f"sample {', '.join(map(str, indices[:8]))}",
                received=f"{batches.describe(batch)}: {type(error).__name__}: {str(error).splitlines()[0][:200]}",
                do="keep samples within the lengths that the model takes: its positions, max_position_embeddings of a "
                "transformer (truncation=True, max_length=... of a tokenizer), or the least size of a convolution.",
            ) from error

    def check_finite(self, rows: dict[str, Tensor], indices: Sequence[int]) -> None:
        """Raise if a row is not finite; the error names samples."""
        for name, tensor in rows.items():
            # A sum is finite only if all values are, and takes a fifth of the time; it may overflow where they are.
            if not tensor.is_floating_point() or bool(tensor.sum().isfinite()) or bool(_is_usable(tensor).all()):
                continue
            bad = batches.rows_where(~_is_usable(tensor))
            samples = ", ".join(str(indices[at]) for at in bad[:8])
            raise DataError(
                what=f"The features {name!r} are not finite.",
                where=f"samples {samples}" + (" and more" if len(bad) > 8 else ""),
                received=f"NaN or Inf in {len(bad)} of {len(indices)} samples of the batch",
                do="look at these samples' inputs; in half precision, run the model in float32 or bfloat16.",
            )

    def _check_sizes(self, rows: dict[str, Tensor], indices: Sequence[int]) -> None:
        """Raise if a row of varying size has another size along an axis that did not vary in the recordings."""
        for tensor in self.stored if self.padding is not None else ():
            shape = tuple(rows[tensor.name].shape[1:])
            if any(known not in (-1, own) for known, own in zip(tensor.shape, shape, strict=True)):
                raise NotCacheable(
                    what=f"{tensor.name!r} varies along an axis that did not vary at the lengths that were recorded.",
                    where=f"{tensor.name}, sample {indices[0]}",
                    received=f"shape {shape}; recorded {str(tensor.shape).replace('-1', 'length')}",
                    do="pad all samples to one size in the dataset, or train with frostline.fit(..., cache=False).",
                )

    def _check_shared(self, found: dict[str, Tensor]) -> None:
        for tensor in self.part.frontier:
            if not tensor.shared or tensor.is_input:
                continue
            value = found[tensor.name].cpu()
            known = self.shared.setdefault(tensor.name, value.clone())
            if known.shape != value.shape or not torch.equal(torch.nan_to_num(known), torch.nan_to_num(value)):
                raise NotCacheable(
                    what=f"{tensor.name!r} was the same for every batch of the example, but is not for this one.",
                    where=tensor.name,
                    received=f"other values for another batch, shape {tuple(value.shape)}",
                    do="split again with an example that shows the difference, or train with cache=False.",
                )

    def check_golden(
        self, found: dict[str, Tensor], stored: dict[str, Tensor], indices: Sequence[int]
    ) -> None:  # fmt: skip
        """Recomputed rows must be what is stored: nothing else sees a stale key, drift and another decoder at once.

        Raises:
            CacheError: If they differ by more than kernels do.
        """
        for name, tensor in found.items():
            difference = relative_difference(tensor, stored[name])
            allowed = self.tolerance_of(tensor) + self.rounding(name)
            if difference > allowed:
                raise CacheError(
                    what="Stored features are not what the model computes today.",
                    where=f"{name}, samples {', '.join(map(str, indices[:8]))}",
                    received=f"relative difference {difference:.1e}, allowed {allowed:.0e}",
                    do="purge this recipe (`frostline cache purge`) and fill again. If it comes back, something "
                    "changes between runs that the recipe key does not hold: a file or a setting that the frozen part "
                    "reads, the version of a library, or numeric settings; cache=False trains without stored features.",
                )

    def tolerance_of(self, tensor: Tensor) -> float:
        """What two batch shapes may differ by in this dtype, where the frozen part runs.

        Beside a longer sample, sums are taken in another order, and what autocast rounds differs.
        """
        is_rounded = self.padding is not None and tensor.is_floating_point()
        kinds = [tensor.dtype, *(autocast_dtypes() if is_rounded else [])]
        if isinstance(self.part, Faster) and self.part.rounding is not None and tensor.is_floating_point():
            kinds.append(self.part.rounding)
        return max(batch_tolerance(kind, is_on_gpu=self.is_on_gpu) for kind in kinds)


def faster_part(part: Any, ways: Sequence[str], batch_size: int, root: Path, *, has_one_size: bool) -> Any:
    """The frozen part in these ways; the part itself without any.

    Args:
        part: The frozen part.
        ways: Their names.
        batch_size: Samples per pass.
        root: The folder of the cache, which keeps what is measured.
        has_one_size: False for samples of differing size, for which there is the plain pass only.

    Raises:
        DataError: If this part can only be run as it is.
    """
    if not ways:
        return part
    if not has_one_size or not isinstance(part, CanBeFaster):
        raise DataError(
            what="This frozen part has no faster pass.", where="frozen_pass=...",
            received="samples of differing size (collate_fn)" if not has_one_size else type(part).__name__,
            do="leave frozen_pass out; of a split of samples of one size, the frozen pass can be made faster.",
        )  # fmt: skip
    return part.faster(ways, batch_size, Proofs(root))


def _is_usable(tensor: Tensor) -> Tensor:
    """Finite values, and -infinity, which masks are made of."""
    return torch.isfinite(tensor) | torch.isneginf(tensor)


GOLDEN_ROWS = 16


class Golden:
    """Some of the known samples that pass by, spread evenly over all of them.

    Args:
        computer: Runs the frozen part.
        stored: Gives the stored rows of samples, by index.
        batch_size: Samples per pass.
        padding: Of samples that differ in size: those of one size are computed together. None where all have one.
    """

    def __init__(
        self, computer: Computer, stored: Callable[[list[int]], dict[str, Tensor]], batch_size: int,
        padding: Padding | None = None,
    ) -> None:  # fmt: skip
        self.padding = padding
        self.computer, self.stored, self.batch_size = computer, stored, batch_size
        self._kept: list[tuple[int, Any]] = []
        self._seen, self._stride = 0, 1

    def offer(self, index: int, inputs: Any) -> None:
        """A known sample passes by: every so-many-th is kept, at most twice as many as are needed."""
        if self._seen % self._stride == 0:
            self._kept.append((index, inputs))
        self._seen += 1
        if len(self._kept) == 2 * GOLDEN_ROWS:
            self._kept, self._stride = self._kept[::2], 2 * self._stride

    def check(self) -> None:
        """Recompute what was kept, and forget it.

        Raises:
            CacheError: If a stored row is not what the model computes today.
        """
        chosen = [self._kept[at] for at in spread(len(self._kept))]
        self._kept, self._seen, self._stride = [], 0, 1
        for start in range(0, len(chosen), self.batch_size):
            part = chosen[start : start + self.batch_size]
            whole, padding = [list(range(len(part)))], self.padding
            groups = whole if padding is None else groups_of_one_size([inputs for _, inputs in part])
            for group in groups:
                indices, items = [part[at][0] for at in group], [part[at][1] for at in group]
                batch = collate(items, indices) if padding is None else padding.batch(items)
                found = self.computer.compute(batch, indices)
                self.computer.check_golden(found, self.stored(indices), indices)


def spread(count: int, most: int = GOLDEN_ROWS) -> list[int]:
    """At most `most`, and at most GOLDEN_ROWS, positions from the first to the last of `count`."""
    chosen = min(count, most, GOLDEN_ROWS)
    return np.unique(np.linspace(0, count - 1, chosen).astype(int)).tolist() if count else []
