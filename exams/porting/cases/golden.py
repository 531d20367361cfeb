"""What every builder script shares: random values that are not trivial, and the files beside each network.

The scripts of this folder run in environments of their own, in which neither PyTorch nor Frostline exists: nothing but
NumPy and the framework is imported here.
"""

from __future__ import annotations

import json
import re
import sys
import zlib
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

GAMMA = re.compile(r"(gamma|scale|weight_g)$")
VARIANCE = re.compile(r"(variance|var)$")
POSITIVE_SLOPE = re.compile(r"alpha$")


def seeded(name: str) -> np.random.Generator:
    """A generator that depends on the name of the network alone."""
    return np.random.default_rng(zlib.crc32(name.encode()))


def random_value(random: np.random.Generator, name: str, shape: Sequence[int]) -> np.ndarray:
    """A value for the variable `name`: no identity, no zero, and no explosion through many layers.

    Scales lie in [0.5, 1.5], running variances in [0.5, 2], slopes in [0.1, 0.4]; kernels keep the size of what flows
    through them about the same; the rest is normal with a standard deviation of 0.2.
    """
    shape = tuple(int(size) for size in shape)
    if GAMMA.search(name):
        value = random.uniform(0.5, 1.5, shape)
    elif VARIANCE.search(name):
        value = random.uniform(0.5, 2.0, shape)
    elif POSITIVE_SLOPE.search(name):
        value = random.uniform(0.1, 0.4, shape)
    elif len(shape) >= 2:
        value = random.standard_normal(shape) * 1.2 * (np.prod(shape) / max(shape)) ** -0.5
    else:
        value = random.standard_normal(shape) * 0.2
    return value.astype(np.float32)


def images(random: np.random.Generator, *shape: int) -> np.ndarray:
    """Normal values of this shape, in float32."""
    return random.standard_normal(shape).astype(np.float32)


def tokens(random: np.random.Generator, *shape: int, size: int) -> np.ndarray:
    """Token numbers below `size`, in int32."""
    return random.integers(0, size, shape).astype(np.int32)


def word(random: np.random.Generator) -> str:
    """A name without a meaning."""
    return "".join(random.choice(list("abcdefghijklmnopqrstuvwxyz"), 7))


def new_names(random: np.random.Generator, names: Iterable[str]) -> dict[str, str]:
    """A meaningless name for each."""
    return {name: word(random) for name in names}


def lying_names(random: np.random.Generator, kinds: Mapping[str, Any]) -> dict[str, str]:
    """Names that belong to others of their kind.

    Args:
        random: Where the order comes from.
        kinds: By name, what it has in common with those whose names it may get.
    """
    groups: dict[Any, list[str]] = {}
    for name, kind in kinds.items():
        groups.setdefault(kind, []).append(name)
    return {
        old: new
        for names in groups.values()
        for old, new in zip(names, random.permutation(names).tolist(), strict=True)
    }


class Folder:
    """Where the networks of one framework are stored: a folder each.

    Args:
        path: The folder of all of them.
        framework: Its name, the first part of the name of every case.
        packages: Whose versions are noted.
    """

    def __init__(self, path: Path, framework: str, packages: Iterable[str]) -> None:
        self.path, self.framework = path / framework, framework
        self.versions = {package: version(package) for package in packages}

    def put(
        self,
        name: str,
        *,
        arrays: Mapping[str, Any],
        inputs: Sequence[Any],
        outputs: Sequence[Any],
        save: Mapping[str, Callable[[str], object]],
    ) -> None:
        """Store one network.

        Args:
            name: Its name within the framework.
            arrays: Its variables, as the framework itself names and sees them.
            inputs: What it was given.
            outputs: What the framework made of it.
            save: By the path that is ported from (a file or a folder, within its own), the call that writes it there.
        """
        folder = self.path / name
        folder.mkdir(parents=True, exist_ok=True)
        for file, write in save.items():
            write(str(folder / file))
        np.savez(folder / "arrays.npz", **{key: np.asarray(value) for key, value in arrays.items()})
        golden = {f"input{index}": np.asarray(value) for index, value in enumerate(inputs)}
        golden |= {f"output{index}": np.asarray(value) for index, value in enumerate(outputs)}
        for value in golden.values():
            if not np.isfinite(value).all() or value.std(axis=0).max() < 1e-2 * np.abs(value).max():
                raise ValueError(f"{name} has outputs that are not finite, or hardly depend on the inputs")
        np.savez(folder / "golden.npz", **golden)
        facts = {"files": sorted(save), "versions": self.versions}
        (folder / "case.json").write_text(json.dumps(facts, indent=1) + "\n")
        sys.stdout.write(f"{self.framework}/{name}\n")


def chosen(table: Mapping[str, Any]) -> tuple[Path, dict[str, Any]]:
    """The folder and the cases that the command line names: FOLDER [CASE ...]."""
    folder, *names = sys.argv[1:]
    return Path(folder), {name: case for name, case in table.items() if not names or name in names}
