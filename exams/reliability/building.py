"""A small cache to build, whose right rows are known without a model, and what must hold after any fault."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

import frostline as fl
from frostline.caching.store import shard_writer
from frostline.caching.store.manifest import read_newest
from frostline.caching.store.shards import Shards
from frostline.core import io

if TYPE_CHECKING:
    from collections.abc import Callable

WIDTH = 3
_IN_MEMORY = Path("/dev/shm")


class Part:
    """Doubles its inputs; a mask goes to the head untouched."""

    recipe = {"name": "double"}  # noqa: RUF012 (a constant)
    frontier = (
        fl.FrontierTensor("low", (WIDTH,), torch.float32, 4 * WIDTH, False),
        fl.FrontierTensor("input.mask", (1,), torch.float32, 4, False),
    )

    def extract(self, inputs: dict[str, Tensor]) -> tuple[Tensor, ...]:
        """(B, WIDTH) -> (B, WIDTH), and the mask."""
        return inputs["x"] * 2, inputs["mask"]


class Samples:
    """Samples of these numbers; everything about a sample follows from its number."""

    fingerprint = "numbers"

    def __init__(self, numbers: range) -> None:
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, index: int) -> dict[str, Any]:
        number = self.numbers[index]
        return {"x": torch.full((WIDTH,), float(number)), "mask": torch.tensor([-float(number)]), "label": number % 5}

    def sample_key(self, index: int) -> bytes:
        return self.numbers[index].to_bytes(8, "little")

    def target(self, index: int) -> int:
        return self.numbers[index] % 5


def fill(root: Path, numbers: range, batch_size: int = 2) -> fl.CachedDataset:
    """Build with a shard per batch, so that a small build takes every path; they are merged at its end."""
    return fl.FeatureCache(root).fill(Part(), Samples(numbers), batch_size=batch_size, progress=False)


def scratch() -> tempfile.TemporaryDirectory[str]:
    """A folder that is deleted at the end; in memory where it can be: what is written must outlive processes only."""
    return tempfile.TemporaryDirectory(dir=_IN_MEMORY if _IN_MEMORY.is_dir() else None)


def small_shards() -> None:
    """Publish every batch, as a slow model does; for this process."""
    shard_writer._SHARD_SECONDS = 0.0


def wrong_rows(data: fl.CachedDataset, numbers: range) -> int:
    """Samples whose features, input or target are not what follows from their number."""
    count = abs(len(data) - len(numbers))
    at = 0
    for (low, mask), target in data.loader(7):
        own = torch.tensor(list(numbers[at : at + len(target)]))
        at += len(target)
        is_bad = (low != 2.0 * own[:, None]).any(1) | (mask[:, 0] != -1.0 * own) | (target != own % 5)
        count += int(is_bad.sum())
    return count


def violations(root: Path, numbers: range) -> list[str]:
    """What is wrong after a fault: the next fill must complete, with right rows, each once, all files whole."""
    data = fill(root, numbers)
    found: list[str] = []
    if wrong := wrong_rows(data, numbers):
        found.append(f"{wrong} wrong rows")
    if problems := fl.FeatureCache(root).verify():
        found.append(f"verify: {problems}")
    if fill(root, numbers).figures.computed:
        found.append("the second fill computed rows again")
    if left := list(root.rglob("*.part")):
        found.append(f"{len(left)} temporary files are left")
    if left := list(root.rglob("*.claim")):
        found.append(f"{len(left)} claims are left")
    if double := num_double_rows(root):
        found.append(f"{double} rows are stored twice")
    return found


def num_double_rows(root: Path) -> int:
    """Rows beyond one of each key."""
    count = 0
    for folder in root.iterdir():
        names = read_newest(folder / "manifests")[1].shards
        keys = [bytes(key) for name in names for key in Shards(folder / "shards").open(name)["sample_keys"].numpy()]
        count += len(keys) - len(set(keys))
    return count


class Calls:
    """Stands in for `frostline.core.io.call`: counts the calls, and does something at one of them."""

    def __init__(self, at: int, act: Any) -> None:
        self.at, self.act, self.count = at, act, 0
        self.real = io.call

    def __call__(self, function: Any, *arguments: Any, **options: Any) -> Any:
        self.count += 1
        if self.count == self.at:
            self.act(function)
        return self.real(function, *arguments, **options)


def child(run: Callable[[], int]) -> int:
    """The id of a forked process that runs this and ends with its result; 99 if it raises."""
    sys.stdout.flush()
    process = os.fork()
    if process:
        return process
    status = 99
    try:
        status = run()
    except BaseException as error:
        sys.stderr.write(f"{type(error).__name__}: {error}\n")
    finally:
        os._exit(status)


def wait(process: int) -> int:
    """The status with which it ended."""
    return os.waitpid(process, 0)[1]
